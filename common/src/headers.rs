//! The fields of a head: its `name: value` lines (stage 5's lasting form).

/// A view of a head's field lines, in the order in which they came. Looking one up walks the
/// lines; nothing is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headers<'a> {
    /// Checked field lines, each ending with CRLF.
    lines: &'a [u8],
}

impl<'a> Headers<'a> {
    /// The caller has checked each line: a name, a colon, a value, CRLF.
    pub(crate) fn new(lines: &'a [u8]) -> Headers<'a> {
        Headers { lines }
    }

    /// The field lines as they came, each ending with CRLF.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.lines
    }

    /// All fields, as pairs of a name and a value without the white space around it.
    /// A value is bytes, for nothing says that it is UTF-8 (RFC 9110, section 5.5).
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        self.lines.split(|&byte| byte == b'\n').filter_map(|line| {
            let colon = line.iter().position(|&byte| byte == b':')?;
            Some((&line[..colon], line[colon + 1..].trim_ascii()))
        })
    }

    /// The values of the fields called `name`, in any case (RFC 9110, section 5.1).
    pub fn all<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        self.lines.split(|&byte| byte == b'\n').filter_map(|line| {
            // No name contains a colon, so what stands before this one is all of the name.
            let (found, rest) = line.split_at_checked(name.len())?;
            let value = rest.strip_prefix(b":")?;
            found.eq_ignore_ascii_case(name.as_bytes()).then(|| value.trim_ascii())
        })
    }

    /// The value of the first field called `name`, in any case.
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.all(name).next()
    }

    /// The elements of the comma-separated lists in the fields called `name`: several lines are
    /// one list, and empty elements do not count (RFC 9110, section 5.6.1). Elements that are
    /// not UTF-8 are left out, as no defined one is.
    pub fn list<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a str> + use<'a, 'n> {
        self.all(name)
            .flat_map(|value| value.split(|&byte| byte == b','))
            .filter_map(|element| std::str::from_utf8(element.trim_ascii()).ok())
            .filter(|element| !element.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    const LINES: Headers<'_> = Headers {
        lines: b"Host: localhost\r\naccept-encoding:gzip ,, br\r\nX-Empty:\r\n\
                 Accept-Encoding: \t deflate \t\r\nX-Url: http://a:1/\r\n",
    };

    #[test]
    fn names_match_in_any_case() {
        assert_eq!(LINES.get("HOST"), Some(&b"localhost"[..]));
        assert_eq!(LINES.get("Hos"), None);
    }

    #[test]
    fn values_lose_the_white_space_around_them_and_nothing_else() {
        let values: Vec<_> = LINES.all("Accept-Encoding").collect();
        assert_eq!(values, [&b"gzip ,, br"[..], b"deflate"]);
        assert_eq!(LINES.get("X-Url"), Some(&b"http://a:1/"[..]));
        assert_eq!(LINES.get("X-Empty"), Some(&b""[..]));
    }

    #[test]
    fn several_lines_are_one_list() {
        let elements: Vec<_> = LINES.list("Accept-Encoding").collect();
        assert_eq!(elements, ["gzip", "br", "deflate"]);
    }
}
