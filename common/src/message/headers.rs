//! The fields of a head: its `name: value` lines (stage 5's lasting form).

use crate::message::refused::{Refused, bad_request};
use crate::message::syntax::Class;

/// A view of a head's fields, in the order in which they arrived. Nothing is copied.
///
/// ```
/// use common::HeadParser;
///
/// let bytes = b"GET / HTTP/1.1\r\nHost: a\r\naccept-encoding: gzip, br\r\n\r\n";
/// let mut parser = HeadParser::new();
/// assert!(parser.advance(bytes)?.is_some());
/// let headers = parser.head(bytes).headers;
/// assert_eq!(headers.get("HOST"), Some(&b"a"[..]));
/// assert!(headers.list("Accept-Encoding").eq([&b"gzip"[..], b"br"]));
/// # Ok::<(), common::Refused>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Headers<'a> {
    /// The head that the fields point into.
    head: &'a [u8],
    fields: &'a [Field],
    kinds: Kinds,
}

/// Which of the known fields a head has.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Kinds(u8);

impl Kinds {
    pub(crate) fn add(&mut self, known: Known) {
        self.0 |= 1 << known as u8;
    }

    fn has(self, known: Known) -> bool {
        self.0 & (1 << known as u8) != 0
    }
}

/// The position of a field in its head, in bytes from the beginning of the head.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field {
    pub(crate) name: u16,
    /// Where the name ends.
    pub(crate) colon: u16,
    /// Where the value begins and ends, without the white space around it.
    pub(crate) value: (u16, u16),
    pub(crate) known: Option<Known>,
}

/// The fields that concern the message itself, and that are looked up in every request. They are
/// recognized while the head is parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    Host,
    Connection,
    ContentLength,
    TransferEncoding,
    Expect,
}

impl Known {
    /// Recognizes the name of such a field, ignoring case (RFC 9110, section 5.1).
    pub(crate) fn of(name: &[u8]) -> Option<Known> {
        let (text, known) = match name.len() {
            4 => ("Host", Known::Host),
            6 => ("Expect", Known::Expect),
            10 => ("Connection", Known::Connection),
            14 => ("Content-Length", Known::ContentLength),
            17 => ("Transfer-Encoding", Known::TransferEncoding),
            _ => return None,
        };
        name.eq_ignore_ascii_case(text.as_bytes()).then_some(known)
    }
}

impl<'a> Headers<'a> {
    pub(crate) fn new(head: &'a [u8], fields: &'a [Field], kinds: Kinds) -> Headers<'a> {
        Headers { head, fields, kinds }
    }

    fn slice(&self, from: u16, to: u16) -> &'a [u8] {
        &self.head[usize::from(from)..usize::from(to)]
    }

    fn value(&self, field: &Field) -> &'a [u8] {
        self.slice(field.value.0, field.value.1)
    }

    /// Returns all fields, as pairs of a name and a value without the white space around it. A value
    /// is bytes, because it need not be UTF-8 (RFC 9110, section 5.5).
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let headers = *self;
        let fields = headers.fields.iter();
        fields.map(move |field| (headers.slice(field.name, field.colon), headers.value(field)))
    }

    /// Returns the values of the fields called `name`, ignoring case (RFC 9110, section 5.1).
    pub fn all<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        let fields = self.iter();
        fields
            .filter(move |(found, _)| found.eq_ignore_ascii_case(name.as_bytes()))
            .map(|(_, value)| value)
    }

    /// Returns the values of the fields of this kind.
    pub(crate) fn known(&self, known: Known) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let headers = *self;
        let fields = if self.kinds.has(known) { headers.fields } else { &[] };
        let fields = fields.iter();
        fields.filter(move |field| field.known == Some(known)).map(move |it| headers.value(it))
    }

    /// Returns the value of the first field called `name`, ignoring case.
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.all(name).next()
    }

    /// Returns the value of the field called `name`, ignoring case, if there is exactly one. From stage 14.
    pub fn only(&self, name: &str) -> Option<&'a [u8]> {
        let mut values = self.all(name);
        values.next().filter(|_| values.next().is_none())
    }

    /// Returns the elements of the comma-separated lists in the fields called `name`. Several lines
    /// form one list, and empty elements do not count (RFC 9110, section 5.6.1). An element is
    /// bytes, as a value is: one that is not text counts as an unknown element, not as a missing
    /// one.
    pub fn list<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        self.all(name).flat_map(elements)
    }

    /// Returns the elements of the lists in the fields of this kind, as [`Headers::list`] does.
    pub(crate) fn known_list(&self, known: Known) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.known(known).flat_map(elements)
    }
}

fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let elements = value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    elements.filter(|element| !element.is_empty())
}

/// What the next byte of a field section belongs to, regardless of earlier lines.
///
/// ```text
/// field-section = *( field-line CRLF ) CRLF
/// field-line    = field-name ":" OWS field-value OWS      (RFC 9112, section 5)
/// ```
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FieldState {
    /// A name, or the empty line.
    #[default]
    LineStart,
    Name,
    Value,
    /// The LF after the CR at the end of a line.
    LineEnd,
    /// The LF after the CR of the empty line.
    SectionEnd,
    Done,
}

impl FieldState {
    /// Returns the bytes that do not change the state: most of a line is inside a name or a value.
    pub(crate) fn inside(self) -> Class {
        match self {
            FieldState::Name => Class::TCHAR,
            FieldState::Value => Class::TEXT,
            _ => Class::NONE,
        }
    }

    /// Returns the state after this byte.
    ///
    /// # Errors
    ///
    /// 400 for a byte that is not allowed here. Nothing is repaired: if two programs can read the
    /// same bytes in two ways, a request can be smuggled past one of them.
    pub(crate) fn next(self, byte: u8) -> Result<FieldState, Refused> {
        use FieldState::{Done, LineEnd, LineStart, Name, SectionEnd, Value};
        match (self, byte) {
            (LineStart, b'\r') => Ok(SectionEnd),
            (LineStart | Name, _) if Class::TCHAR.contains(byte) => Ok(Name),
            (Name, b':') => Ok(Value),
            (Value, b'\r') => Ok(LineEnd),
            (Value, _) if Class::TEXT.contains(byte) => Ok(Value),
            (LineEnd, b'\n') => Ok(LineStart),
            (SectionEnd, b'\n') => Ok(Done),
            (LineStart, b' ' | b'\t') => Err(bad_request("a field line begins with white space")),
            (Name, b'\r') => Err(bad_request("a field line has no colon")),
            (LineStart | Name, _) if Class::TEXT.contains(byte) => {
                Err(bad_request("a field name has a character that no name may have"))
            }
            _ => Err(misplaced(byte, matches!(self, LineEnd | SectionEnd))),
        }
    }
}

/// Returns why a byte is refused that no line may contain at this position. `after_cr` tells whether
/// it should have been the LF of a line end.
pub(crate) fn misplaced(byte: u8, after_cr: bool) -> Refused {
    match byte {
        _ if after_cr => bad_request("a CR in the head is not followed by LF"),
        b'\n' => bad_request("a line of the head ends with LF alone, not with CR LF"),
        _ => bad_request("the head contains a control character"),
    }
}

#[cfg(test)]
mod tests {
    use crate::message::head::HeadParser;
    use pretty_assertions::assert_eq;

    const HEAD: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\naccept-encoding:gzip ,, br\r\n\
                          X-Empty:\r\nAccept-Encoding: \t deflate, \xff \t\r\nX-Url: http://a:1/\r\n\r\n";

    fn parsed() -> HeadParser {
        let mut parser = HeadParser::new();
        parser.advance(HEAD).expect("valid").expect("complete");
        parser
    }

    #[test]
    fn names_match_in_any_case() {
        let parser = parsed();
        let headers = parser.head(HEAD).headers;
        assert_eq!(headers.get("HOST"), Some(&b"localhost"[..]));
        assert_eq!(headers.get("Hos"), None);
    }

    #[test]
    fn values_lose_the_white_space_around_them_and_nothing_else() {
        let parser = parsed();
        let headers = parser.head(HEAD).headers;
        let values: Vec<_> = headers.all("Accept-Encoding").collect();
        assert_eq!(values, [&b"gzip ,, br"[..], b"deflate, \xff"]);
        assert_eq!(headers.get("X-Url"), Some(&b"http://a:1/"[..]));
        assert_eq!(headers.get("X-Empty"), Some(&b""[..]));
    }

    #[test]
    fn several_lines_are_one_list_and_no_element_is_dropped() {
        let parser = parsed();
        let elements: Vec<_> = parser.head(HEAD).headers.list("Accept-Encoding").collect();
        assert_eq!(elements, [&b"gzip"[..], b"br", b"deflate", b"\xff"]);
    }
}
