//! A form with files, as a stream: parts with a boundary between them (RFC 7578; RFC 2046, section 5.1). Stage 19's lasting
//! form.

use std::io::{self, Read};
use std::ops::Range;

use common::Refused;
use memchr::memmem::Finder;

use crate::problem::Problem;

/// How many parts a form may have.
const MAX_PARTS: usize = 1_000;

/// How many bytes the header lines of a part may have.
const MAX_HEAD: usize = 16 * 1024;

/// How many bytes are in memory.
const BLOCK: usize = 64 * 1024;

/// The parts of a form, as they arrive. Not more than a block of 64 KiB is in memory.
///
/// ```
/// use std::io::Read;
///
/// use json::Multipart;
///
/// let body = "--x\r\nContent-Disposition: form-data; name=title\r\n\r\nmilk\r\n--x--\r\n";
/// let mut form = Multipart::new("multipart/form-data; boundary=x", body.as_bytes()).expect("it has a boundary");
/// let mut part = form.next_part()?.expect("it has a part");
/// let mut text = String::new();
/// part.read_to_string(&mut text)?;
/// assert_eq!((&*part.name, &*text), ("title", "milk"));
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Multipart<R> {
    source: R,
    buffer: Vec<u8>,
    /// The bytes in the buffer that have not been used.
    unused: Range<usize>,
    /// How many of them are known to be content.
    ready: usize,
    /// Finds a line end, two dashes and the boundary, which stand between two parts.
    delimiter: Finder<'static>,
    count: usize,
}

/// A field of the form, or a file. It is read like a file, and ends before the next boundary.
pub struct Part<'m, R> {
    form: &'m mut Multipart<R>,
    /// The name of the field.
    pub name: String,
    /// The name that a file had on the client's side, perhaps with a path.
    pub filename: Option<String>,
    /// What the client says about the content; `text/plain` if it says nothing.
    pub content_type: String,
}

const BROKEN: Refused =
    Refused { status: 400, why: "the body is no form: a part or its boundary is wrong" };

const TOO_MUCH: Refused =
    Refused { status: 413, why: "the form has too many parts, or too long names" };

impl<R: Read> Multipart<R> {
    /// Reads the form from `source`. Its boundary is a parameter of the `Content-Type`.
    ///
    /// # Errors
    ///
    /// 400 when there is no boundary, or one that cannot be.
    pub fn new(content_type: &str, source: R) -> Result<Multipart<R>, Problem> {
        let boundary = parameter(content_type, "boundary").filter(|it| is_boundary(it));
        let boundary = boundary.ok_or(Problem::new(400, "the Content-Type has no boundary"))?;
        let delimiter = Finder::new(&format!("\r\n--{boundary}")).into_owned();
        // The first boundary may have no line end before it.
        let mut buffer = vec![0; BLOCK];
        buffer[..2].copy_from_slice(b"\r\n");
        Ok(Multipart { source, buffer, unused: 0..2, ready: 0, delimiter, count: 0 })
    }

    /// Returns the next part; `None` after the last one. What is left of the part before is skipped.
    ///
    /// # Errors
    ///
    /// 400 when the body is no form, or ends too early; 413 when it has too many parts; otherwise those of reading.
    pub fn next_part(&mut self) -> io::Result<Option<Part<'_, R>>> {
        while self.find_content()? > 0 {
            self.consume(self.ready);
        }
        self.consume(self.delimiter.needle().len());
        if self.starts_with(b"--")? {
            return Ok(None);
        }
        while self.starts_with(b" ")? || self.starts_with(b"\t")? {
            self.consume(1); // white space may follow a boundary
        }
        if !self.starts_with(b"\r\n")? {
            return Err(BROKEN.into()); // another boundary, which begins like this one
        }
        self.count += 1;
        if self.count > MAX_PARTS {
            return Err(TOO_MUCH.into());
        }
        let head = self.head()?;
        let disposition = header(&head, "Content-Disposition").unwrap_or_default();
        let name = parameter(disposition, "name").ok_or(BROKEN)?;
        let filename = parameter(disposition, "filename");
        let content_type = header(&head, "Content-Type").unwrap_or("text/plain").to_owned();
        Ok(Some(Part { form: self, name, filename, content_type }))
    }

    /// The header lines of a part, from the line end before them to the blank line.
    fn head(&mut self) -> io::Result<String> {
        let end = loop {
            match memchr::memmem::find(self.unused(), b"\r\n\r\n") {
                Some(end) if end <= MAX_HEAD => break end,
                None if self.unused.len() <= MAX_HEAD => self.fill()?,
                _ => return Err(TOO_MUCH.into()),
            }
        };
        let head = String::from_utf8(self.unused()[..end].to_vec()).map_err(|_| BROKEN)?;
        self.consume(end + 4);
        Ok(head)
    }

    /// Finds out how many of the unused bytes are content. Reads more if that is not known of any. Returns 0 at the
    /// boundary.
    fn find_content(&mut self) -> io::Result<usize> {
        while self.ready == 0 {
            let unused = &self.buffer[self.unused.clone()];
            // The last bytes may be the beginning of a boundary.
            let certain = unused.len().saturating_sub(self.delimiter.needle().len() - 1);
            match self.delimiter.find(unused) {
                Some(0) => return Ok(0),
                Some(at) => self.ready = at,
                None if certain > 0 => self.ready = certain,
                None => self.fill()?,
            }
        }
        Ok(self.ready)
    }

    /// Whether the unused bytes begin with these.
    fn starts_with(&mut self, bytes: &[u8]) -> io::Result<bool> {
        while self.unused.len() < bytes.len() {
            self.fill()?;
        }
        Ok(self.unused().starts_with(bytes))
    }

    fn unused(&self) -> &[u8] {
        &self.buffer[self.unused.clone()]
    }

    fn consume(&mut self, count: usize) {
        self.unused.start += count;
        self.ready = self.ready.saturating_sub(count);
    }

    /// Reads more. The buffer has room for it: what is kept in it is shorter than half of it.
    fn fill(&mut self) -> io::Result<()> {
        if self.unused.start > 0 {
            self.buffer.copy_within(self.unused.clone(), 0);
            self.unused = 0..self.unused.len();
        }
        let count = loop {
            match self.source.read(&mut self.buffer[self.unused.end..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                count => break count?,
            }
        };
        self.unused.end += count;
        if count == 0 { Err(BROKEN.into()) } else { Ok(()) }
    }
}

impl<R: Read> Read for Part<'_, R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let count = self.form.find_content()?.min(to.len());
        to[..count].copy_from_slice(&self.form.unused()[..count]);
        self.form.consume(count);
        Ok(count)
    }
}

/// `0*69<bchars> bcharsnospace` (RFC 2046, section 5.1.1).
fn is_boundary(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&byte);
    (1..=70).contains(&text.len()) && text.bytes().all(is_allowed) && !text.ends_with(' ')
}

/// The value of the first header line with this name.
fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let mut lines = head.split("\r\n").filter_map(|line| line.split_once(':'));
    lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// The value of a parameter, as in `form-data; name="a"`.
fn parameter(value: &str, wanted: &str) -> Option<String> {
    let mut rest = value;
    while let Some((_, after)) = rest.split_once(';') {
        let (name, after) = after.split_once('=')?;
        let (value, after) = match after.strip_prefix('"') {
            Some(text) => quoted(text)?,
            None => {
                let (value, after) = after.split_at(after.find(';').unwrap_or(after.len()));
                (value.trim().to_owned(), after)
            }
        };
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        rest = after;
    }
    None
}

/// A text up to its quote, and what follows. Of all escapes only `\"` is one: browsers write `%22` instead, and a
/// backslash in the name of a file is a backslash.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut rest = text;
    loop {
        let (before, after) = rest.split_once('"')?;
        match before.strip_suffix('\\') {
            Some(before) => value.extend([before, "\""]),
            None => return Some((value + before, after)),
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;

    /// A source that returns at most this many bytes at a time.
    struct Sips<'b>(&'b [u8], usize);

    impl Read for Sips<'_> {
        fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
            let most = self.1.min(to.len());
            self.0.read(&mut to[..most])
        }
    }

    /// The names and the contents of the parts, or the status of the refusal.
    fn parts(content_type: &str, body: &[u8], sip: usize) -> Result<Vec<(String, Vec<u8>)>, u16> {
        let status =
            |error: io::Error| Refused::inside(&error).map_or(500, |refused| refused.status);
        let mut form = Multipart::new(content_type, Sips(body, sip)).map_err(|_| 400_u16)?;
        let mut parts = Vec::new();
        while let Some(mut part) = form.next_part().map_err(status)? {
            let mut content = Vec::new();
            part.read_to_end(&mut content).map_err(status)?;
            parts.push((part.name.clone(), content));
        }
        Ok(parts)
    }

    const TYPE: &str = "multipart/form-data; boundary=x";

    fn part(name: &str, content: &str) -> String {
        format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{content}\r\n")
    }

    #[test]
    fn what_is_no_form_is_refused() {
        let many = part("a", "").repeat(MAX_PARTS) + "--x--";
        let long = part(&"n".repeat(MAX_HEAD), "") + "--x--";
        for (body, expected) in [
            ("--x--".to_owned(), Ok(0)),
            ("before\r\n--x--after".to_owned(), Ok(0)),
            (part("a", "b") + "--x--", Ok(1)),
            (format!("--x \t\r\n{}--x--", part("a", "b").trim_start_matches("--x\r\n")), Ok(1)),
            (many.clone(), Ok(MAX_PARTS)),
            (part("a", "") + &many, Err(413)),
            (long, Err(413)),
            (String::new(), Err(400)),
            ("--x".to_owned(), Err(400)),
            ("x--x--".to_owned(), Err(400)),
            (part("a", "b"), Err(400)),
            (part("a", "b") + "--xy--", Err(400)),
            ("--x\r\n\r\n\r\n--x--".to_owned(), Err(400)),
            (
                "--x\r\nContent-Disposition: form-data; name=\"a\r\n\r\n\r\n--x--".to_owned(),
                Err(400),
            ),
        ] {
            let found = parts(TYPE, body.as_bytes(), 1_000).map(|parts| parts.len());
            assert_eq!(found, expected, "{:?}", &body[..body.len().min(100)]);
        }
        for content_type in
            ["multipart/form-data", "multipart/form-data; boundary=", "a; boundary=\"a\u{e9}\""]
        {
            assert_eq!(parts(content_type, b"--x--", 9), Err(400), "{content_type}");
        }
    }

    #[test]
    fn parameters_may_be_quoted_and_in_any_order() {
        for (value, name, expected) in [
            ("form-data; name=a", "name", Some("a")),
            ("form-data; filename=\"a;b=\\\"c\\\".txt\" ; NAME = b", "name", Some("b")),
            (
                "form-data; name=\"x\"; filename=\"C:\\dir\\a.txt\"",
                "filename",
                Some("C:\\dir\\a.txt"),
            ),
            ("form-data; xname=a", "name", None),
            ("form-data; name=\"a", "name", None),
            ("form-data", "name", None),
        ] {
            assert_eq!(parameter(value, name).as_deref(), expected, "{value}");
        }
    }

    proptest! {
        #[test]
        fn parts_come_out_as_they_went_in(
            contents in prop::collection::vec("[ab\r\n\\-x]{0,12}|(\r\n-){1,6}|\r\n--|x{70000}", 0..4),
            boundary in "x|-x-|x{30}",
            sip in 1..50_usize,
        ) {
            let marker = format!("--{boundary}");
            prop_assume!(contents.iter().all(|it| !format!("\r\n{it}\r\n").contains(&format!("\r\n{marker}"))));
            let body: String = contents.iter().enumerate().map(|(index, content)| {
                format!("{marker}\r\nContent-Disposition: form-data; name={index}\r\n\r\n{content}\r\n")
            }).collect();
            let body = format!("{body}{marker}--\r\n");
            let sip = if body.len() > 10_000 { sip * 1_000 } else { sip };
            let expected: Vec<_> = contents.iter().enumerate().map(|(index, content)| {
                (index.to_string(), content.clone().into_bytes())
            }).collect();
            let content_type = format!("multipart/form-data; boundary=\"{boundary}\"");
            prop_assert_eq!(parts(&content_type, body.as_bytes(), sip), Ok(expected));
        }
    }
}
