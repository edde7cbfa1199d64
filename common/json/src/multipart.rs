//! A form with files, as a stream: parts with a boundary between them (RFC 7578; RFC 2046, section 5.1). Stage 19's
//! lasting form.

use std::io::{self, Read};

use common::Refused;

use crate::problem::Problem;

/// How many parts a form may have, and how many bytes the headers of a part.
const MAX_PARTS: usize = 1_000;
const MAX_HEAD: usize = 16 * 1024;

/// How many bytes are read at a time.
const BLOCK: usize = 64 * 1024;

/// The parts of a form, as they arrive. Only a block of them is in memory.
pub(crate) struct Multipart<R> {
    source: R,
    /// What has been read, and not been used yet.
    buffer: Vec<u8>,
    /// A line end, two dashes, and the boundary: what stands between two parts.
    delimiter: Vec<u8>,
    count: usize,
}

/// A field of the form, or a file. It is read like a file.
pub(crate) struct Part<'m, R> {
    form: &'m mut Multipart<R>,
    pub(crate) name: String,
    pub(crate) filename: Option<String>,
    pub(crate) content_type: String,
}

const BROKEN: Refused =
    Refused { status: 400, why: "the body is no form: a part or its boundary is wrong" };

impl<R: Read> Multipart<R> {
    pub(crate) fn new(content_type: &str, source: R) -> Result<Multipart<R>, Problem> {
        let boundary =
            parameter(content_type, "boundary").filter(|it| (1..=70).contains(&it.len()));
        let boundary = boundary.ok_or(Problem::new(400, "the Content-Type has no boundary"))?;
        let delimiter = format!("\r\n--{boundary}").into_bytes();
        // The first boundary may have no line end before it.
        Ok(Multipart { source, buffer: b"\r\n".to_vec(), delimiter, count: 0 })
    }

    /// The next part; `None` after the last one. What is left of the one before is skipped.
    pub(crate) fn next(&mut self) -> io::Result<Option<Part<'_, R>>> {
        while self.read_some(&mut [0; BLOCK])? > 0 {}
        self.buffer.drain(..self.delimiter.len());
        self.fill_to(2)?;
        if self.buffer.starts_with(b"--") {
            return Ok(None);
        }
        self.count += 1;
        let end = loop {
            match position(&self.buffer, b"\r\n\r\n") {
                Some(end) => break end,
                None if self.buffer.len() > MAX_HEAD => return Err(BROKEN.into()),
                None => self.fill_to(self.buffer.len() + 1)?,
            }
        };
        let head = String::from_utf8(self.buffer.drain(..end + 4).collect()).map_err(|_| BROKEN)?;
        if end > MAX_HEAD || self.count > MAX_PARTS {
            return Err(BROKEN.into());
        }
        let header = |wanted: &str| {
            let mut lines = head.lines().filter_map(|line| line.split_once(':'));
            let found = lines.find(|(name, _)| name.eq_ignore_ascii_case(wanted));
            found.map_or("", |(_, value)| value.trim())
        };
        let disposition = header("Content-Disposition");
        let name = parameter(disposition, "name").ok_or(BROKEN)?;
        let filename = parameter(disposition, "filename");
        let content_type = match header("Content-Type") {
            "" => "text/plain".to_owned(),
            content_type => content_type.to_owned(),
        };
        Ok(Some(Part { form: self, name, filename, content_type }))
    }

    /// Reads some of what comes before the next boundary; nothing when it has been reached.
    fn read_some(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let ready = loop {
            match position(&self.buffer, &self.delimiter) {
                Some(at) => break at,
                // The end of the buffer may be the beginning of a boundary.
                None if self.buffer.len() >= self.delimiter.len() => {
                    break self.buffer.len() - self.delimiter.len() + 1;
                }
                None => self.fill_to(self.delimiter.len())?,
            }
        };
        let count = ready.min(to.len());
        to[..count].copy_from_slice(&self.buffer[..count]);
        self.buffer.drain(..count);
        Ok(count)
    }

    /// Reads until there are this many bytes.
    fn fill_to(&mut self, length: usize) -> io::Result<()> {
        while self.buffer.len() < length {
            let mut block = [0; BLOCK];
            match self.source.read(&mut block)? {
                0 => return Err(BROKEN.into()),
                count => self.buffer.extend_from_slice(&block[..count]),
            }
        }
        Ok(())
    }
}

impl<R: Read> Read for Part<'_, R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        self.form.read_some(to)
    }
}

fn position(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

/// The value of a parameter, as in `form-data; name="a"`.
fn parameter(value: &str, wanted: &str) -> Option<String> {
    let mut rest = value;
    while let Some((_, after)) = rest.split_once(';') {
        let (name, after) = after.split_once('=')?;
        let (value, after) = match after.strip_prefix('"') {
            None => {
                let (value, after) = after.split_at(after.find(';').unwrap_or(after.len()));
                (value.trim().to_owned(), after)
            }
            Some(text) => quoted(text)?,
        };
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        rest = after;
    }
    None
}

/// A text up to its quote, where `\"` is a quote, and what follows. (Browsers write `%22` instead, and a backslash in
/// the name of a file is a backslash.)
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut rest = text;
    loop {
        let (before, after) = rest.split_once('"')?;
        match before.strip_suffix('\\') {
            Some(before) => value += &format!("{before}\""),
            None => return Some((value + before, after)),
        }
        rest = after;
    }
}
