//! A body in chunks, read and written.

use std::io::{self, BufRead, Read, Write};

use common::{Refused, Request};

/// The most bytes that the line before a chunk may have, its line end included.
const MAX_SIZE_LINE: usize = 1024;

/// How many bytes of extensions a body may have beyond those of its content.
const MAX_EXTENSIONS: u64 = 16 * 1024;

/// The most bytes, and the most lines, that may come after the last chunk.
const MAX_TRAILERS: usize = 16 * 1024;
const MAX_TRAILER_LINES: usize = 100;

const MALFORMED: Refused = Refused { status: 400, why: "the body is not made of chunks" };

const LEFT: Refused = Refused { status: 400, why: "the client left before the end of the body" };

const TOO_LARGE: Refused =
    Refused { status: 413, why: "the body is larger than this server takes" };

const TOO_MUCH: Refused =
    Refused { status: 431, why: "the body has too much in it that is not content" };

/// The content of a body that comes in chunks.
pub struct Chunks<'r, 'a> {
    request: &'r Request<'a>,
    /// The most content that the chunks may bring, and how much they have announced.
    limit: u64,
    content: u64,
    /// The bytes still to come in this chunk.
    left: u64,
    /// How many bytes of extensions there have been.
    extensions: u64,
    is_done: bool,
}

impl<'r, 'a> Chunks<'r, 'a> {
    /// Takes `limit` bytes of content at most.
    pub fn new(request: &'r Request<'a>, limit: u64) -> Chunks<'r, 'a> {
        Chunks { request, limit, content: 0, left: 0, extensions: 0, is_done: false }
    }

    /// Reads the size of the next chunk; if that is 0, all that comes after it.
    fn begin_chunk(&mut self) -> io::Result<()> {
        let line = self.read_line(MAX_SIZE_LINE)?;
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let (digits, extensions) = line.split_at(digits);
        self.extensions += extensions.len() as u64;
        if self.extensions > self.content + MAX_EXTENSIONS {
            return Err(TOO_MUCH.into());
        }
        // White space may stand before the semicolon, but not instead of it.
        let starts_well = extensions.is_empty() || extensions.trim_ascii_start().starts_with(b";");
        if !starts_well || digits.len() > 16 {
            return Err(MALFORMED.into());
        }
        let digits = String::from_utf8_lossy(digits);
        self.left = u64::from_str_radix(&digits, 16).map_err(|_| MALFORMED)?; // none, perhaps
        self.content = self.content.saturating_add(self.left);
        if self.content > self.limit {
            return Err(TOO_LARGE.into());
        }
        if self.left == 0 {
            self.read_trailers()?;
            self.request.raw()?.end();
            self.is_done = true;
        }
        Ok(())
    }

    /// Reads the line end after the content of a chunk, which its size does not count.
    fn end_chunk(&self) -> io::Result<()> {
        let mut end = Vec::new();
        self.request.raw()?.take(2).read_to_end(&mut end)?;
        match &end[..] {
            b"\r\n" => Ok(()),
            [_, _] => Err(MALFORMED.into()), // the content does not end where the size says
            _ => Err(LEFT.into()),
        }
    }

    /// Reads lines up to the empty one, and forgets them.
    fn read_trailers(&self) -> io::Result<()> {
        let mut left = MAX_TRAILERS;
        for _ in 0..=MAX_TRAILER_LINES {
            let line = self.read_line(left)?;
            if line.is_empty() {
                return Ok(());
            }
            let colon = line.iter().position(|&byte| byte == b':').ok_or(MALFORMED)?;
            if colon == 0 || !line[..colon].iter().all(may_be_in_a_name) {
                return Err(MALFORMED.into());
            }
            left -= line.len() + 2;
        }
        Err(TOO_MUCH.into())
    }

    /// Reads a line that ends with CR LF, `most` bytes at most, and returns it without these two.
    fn read_line(&self, most: usize) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        self.request.raw()?.take(most as u64).read_until(b'\n', &mut line)?;
        match &line[..] {
            [text @ .., b'\r', b'\n'] if !text.iter().any(is_control) => Ok(text.to_vec()),
            [.., b'\n'] => Err(MALFORMED.into()),
            _ if line.len() == most => Err(TOO_MUCH.into()),
            _ => Err(LEFT.into()),
        }
    }
}

/// Tabs apart, control characters are not for lines. Other bytes are, whatever they mean.
fn is_control(byte: &u8) -> bool {
    byte.is_ascii_control() && *byte != b'\t'
}

/// `tchar`, of which names of headers are made (RFC 9110, section 5.6.2)
fn may_be_in_a_name(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte)
}

impl Read for Chunks<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !self.is_done {
            self.begin_chunk()?;
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let count = self.request.raw()?.read(&mut buffer[..most])?;
        if count == 0 {
            return Err(LEFT.into());
        }
        self.left -= count as u64;
        if self.left == 0 {
            self.end_chunk()?;
        }
        Ok(count)
    }
}

/// Writes whatever `source` gives, in chunks: one for each read, as soon as it has come.
pub fn write_chunks(mut source: impl Read, client: &mut dyn Write) -> io::Result<()> {
    let mut block = [0; 16 * 1024];
    loop {
        let count = source.read(&mut block)?;
        let mut chunk = format!("{count:x}\r\n").into_bytes();
        chunk.extend_from_slice(&block[..count]);
        chunk.extend_from_slice(b"\r\n");
        client.write_all(&chunk)?;
        client.flush()?; // the client may be waiting for it
        if count == 0 {
            return Ok(()); // an empty chunk is the last one
        }
    }
}
