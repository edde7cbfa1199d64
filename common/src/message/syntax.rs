//! Which bytes are allowed where (stage 3's lasting form).

/// A set of bytes, as a bit in [`CLASSES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Class(u8);

impl Class {
    /// No byte.
    pub(crate) const NONE: Class = Class(0);
    /// `tchar`: the characters of methods and field names (RFC 9110, section 5.6.2).
    pub(crate) const TCHAR: Class = Class(1);
    /// What a line may contain: visible characters, space, tab, and the opaque bytes from 0x80 on
    /// (RFC 9110, section 5.5).
    pub(crate) const TEXT: Class = Class(2);
    /// The characters of a target, as far as the request line is concerned: anything but spaces,
    /// control characters, and `#`, which begins a part that clients do not send.
    pub(crate) const TARGET: Class = Class(4);
    /// The characters of a path, apart from escapes: those that the grammar allows (RFC 3986,
    /// section 3.3), and those that clients send although they should be escaped. Only this program
    /// reads the path, so no two programs can disagree about it.
    pub(crate) const PATH: Class = Class(16);
    /// What nearly every host is made of: letters, digits, dots and hyphens.
    pub(crate) const PLAIN_HOST: Class = Class(32);
    /// Visible ASCII.
    pub(crate) const VISIBLE: Class = Class(8);

    /// Whether the class contains this byte.
    pub(crate) fn contains(self, byte: u8) -> bool {
        CLASSES[usize::from(byte)] & self.0 != 0
    }

    /// Returns how many bytes at the beginning of `bytes` the class contains.
    #[inline]
    pub(crate) fn run(self, bytes: &[u8]) -> usize {
        let is_end = |&byte: &u8| !self.contains(byte);
        // Most runs are short.
        let (first, rest) = bytes.split_at(bytes.len().min(BLOCK));
        if let Some(end) = first.iter().position(is_end) {
            return end;
        }
        let start = first.len() + self.blocks(rest);
        bytes[start..].iter().position(is_end).map_or(bytes.len(), |end| start + end)
    }

    /// The same for those classes of which a head has long runs, but only as far as whole blocks go.
    fn blocks(self, bytes: &[u8]) -> usize {
        match self {
            Class::TEXT => blocks(bytes, |byte| byte >= b' ' && byte != 0x7f),
            Class::TARGET => blocks(bytes, |byte| byte > b' ' && byte != b'#' && byte != 0x7f),
            Class::PATH => blocks(bytes, |byte| {
                let others = *b"\"#%<>?\\\x7f";
                byte > b' ' && others.iter().fold(true, |is_in, other| is_in & (byte != *other))
            }),
            _ => 0,
        }
    }
}

/// Returns where a byte is first found.
#[inline]
pub(crate) fn find(bytes: &[u8], wanted: u8) -> Option<usize> {
    let is_it = |&byte: &u8| byte == wanted;
    let start = if bytes.len() < 2 * BLOCK { 0 } else { blocks(bytes, |byte| byte != wanted) };
    Some(start + bytes[start..].iter().position(is_it)?)
}

/// How many bytes a processor compares at once if nobody asks for each one whether to go on.
const BLOCK: usize = 16;

/// Returns how many bytes at the beginning fulfil a condition, in whole blocks.
fn blocks(bytes: &[u8], is_in: impl Fn(u8) -> bool) -> usize {
    let (blocks, _) = bytes.as_chunks::<BLOCK>();
    let is_inside = |block: &&[u8; BLOCK]| block.iter().fold(true, |all, &byte| all & is_in(byte));
    BLOCK * blocks.iter().take_while(is_inside).count()
}

/// The classes of each byte. A lookup in this table is faster than a few comparisons.
static CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < classes.len() {
        classes[byte] = classes_of(byte as u8);
        byte += 1;
    }
    classes
};

const fn classes_of(byte: u8) -> u8 {
    let is_tchar = matches!(byte,
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'!' | b'#' | b'$' | b'%' | b'&' | b'\''
        | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~');
    let is_text = matches!(byte, b'\t' | b' '..=b'~' | 0x80..);
    let is_target = is_text && !matches!(byte, b'\t' | b' ' | b'#');
    let mut classes = 0;
    if is_tchar {
        classes |= Class::TCHAR.0;
    }
    if is_text {
        classes |= Class::TEXT.0;
    }
    if is_target {
        classes |= Class::TARGET.0;
    }
    if is_pchar(byte)
        || matches!(byte, b'/' | b'[' | b']' | b'|' | b'^' | b'{' | b'}' | b'`' | 0x80..)
    {
        classes |= Class::PATH.0;
    }
    if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-') {
        classes |= Class::PLAIN_HOST.0;
    }
    if byte.is_ascii_graphic() {
        classes |= Class::VISIBLE.0;
    }
    classes
}

/// Whether a byte is a `pchar = unreserved / pct-encoded / sub-delims / ":" / "@"` (RFC 3986,
/// section 3.3), apart from escapes.
pub(crate) const fn is_pchar(byte: u8) -> bool {
    // unreserved, sub-delims, `:` and `@`
    matches!(byte,
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~'
        | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'='
        | b':' | b'@')
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn blocks_are_runs_of_the_same_class() {
        for class in [Class::TEXT, Class::TARGET, Class::PATH, Class::TCHAR, Class::NONE] {
            for byte in 0..=u8::MAX {
                for at in [0, 15, 16, 37] {
                    let mut bytes = [b'a'; 40];
                    bytes[at] = byte;
                    let expected = match class {
                        Class::NONE => 0,
                        _ if class.contains(byte) => bytes.len(),
                        _ => at,
                    };
                    assert_eq!(class.run(&bytes), expected, "{class:?} {byte} at {at}");
                }
            }
        }
    }

    #[test]
    fn a_byte_is_found_wherever_it_is() {
        for at in 0..40 {
            let mut bytes = [b'a'; 40];
            assert_eq!(find(&bytes[..at], b'%'), None);
            (bytes[at], bytes[39]) = (b'%', b'%');
            assert_eq!(find(&bytes, b'%'), Some(at));
        }
    }
}
