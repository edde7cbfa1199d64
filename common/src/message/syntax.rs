//! Which bytes may stand where (stage 3's lasting form).

/// A set of bytes, as a bit in [`CLASSES`].
#[derive(Clone, Copy)]
pub(crate) struct Class(u8);

impl Class {
    /// No byte.
    pub(crate) const NONE: Class = Class(0);
    /// `tchar`, of which methods and field names are made (RFC 9110, section 5.6.2).
    pub(crate) const TCHAR: Class = Class(1);
    /// Visible characters, space, tab, and bytes that only their readers understand: what a line
    /// may contain (RFC 9110, section 5.5).
    pub(crate) const TEXT: Class = Class(2);
    /// What a target may be made of as far as the request line is concerned: anything but a space,
    /// control characters, and the `#` that clients keep to themselves.
    pub(crate) const TARGET: Class = Class(4);
    /// What a path may be made of, escapes aside: what the grammar allows (RFC 3986, section 3.3), and
    /// what clients send although it should be escaped. One program alone reads it here, so nobody can
    /// disagree about it.
    pub(crate) const PATH: Class = Class(16);
    /// Visible ASCII.
    pub(crate) const VISIBLE: Class = Class(8);

    /// Whether it contains this byte.
    pub(crate) fn contains(self, byte: u8) -> bool {
        CLASSES[usize::from(byte)] & self.0 != 0
    }

    /// How many of the first bytes it contains.
    pub(crate) fn run(self, bytes: &[u8]) -> usize {
        bytes.iter().position(|&byte| !self.contains(byte)).unwrap_or(bytes.len())
    }
}

/// The classes of each byte. A look at this table is quicker than a few comparisons.
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
    if byte.is_ascii_graphic() {
        classes |= Class::VISIBLE.0;
    }
    classes
}

/// `pchar = unreserved / pct-encoded / sub-delims / ":" / "@"` (RFC 3986, section 3.3), the escapes
/// aside.
pub(crate) const fn is_pchar(byte: u8) -> bool {
    // unreserved, sub-delims, and two more
    matches!(byte,
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~'
        | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'='
        | b':' | b'@')
}
