//! A body in chunks, read and written.

use std::io::{self, ErrorKind, Read, Write};

use common::{Refused, Request};

/// The most bytes that a line between two chunks may have.
const MAX_LINE: usize = 1024;

/// The most bytes that the extensions of all chunks may have.
const MAX_EXTENSIONS: usize = 16 * 1024;

/// The most lines that may come after the last chunk.
const MAX_TRAILERS: usize = 100;

const MALFORMED: Refused = Refused { status: 400, why: "the body is not made of chunks" };

const TOO_LARGE: Refused =
    Refused { status: 413, why: "the body is larger than this server takes" };

/// The content of a body that comes in chunks.
pub struct Chunks<'r> {
    request: &'r Request<'r>,
    /// What is left of the chunk.
    left: u64,
    /// How much more the chunks may bring.
    allowed: u64,
    /// How many bytes of extensions there have been.
    extensions: usize,
    is_done: bool,
}

impl<'r> Chunks<'r> {
    /// Takes `allowed` bytes at most.
    pub fn new(request: &'r Request<'r>, allowed: u64) -> Chunks<'r> {
        Chunks { request, left: 0, allowed, extensions: 0, is_done: false }
    }

    /// Reads the size of the next chunk; if that is 0, all that comes after it.
    fn begin_chunk(&mut self) -> io::Result<()> {
        let line = self.read_line()?;
        let (size, extensions) = split_size(&line);
        self.extensions += extensions.len();
        if self.extensions > MAX_EXTENSIONS {
            return Err(Refused { status: 431, why: "there are too many extensions" }.into());
        }
        if size.len() > 16 || !size.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(MALFORMED.into()); // `from_str_radix` would take a sign
        }
        self.left = u64::from_str_radix(size, 16).map_err(|_| MALFORMED)?;
        self.allowed = self.allowed.checked_sub(self.left).ok_or(TOO_LARGE)?;
        if self.left == 0 {
            self.read_trailers()?;
            self.request.body_was_read();
            self.is_done = true;
        }
        Ok(())
    }

    /// Reads lines up to the empty one, and forgets them.
    fn read_trailers(&self) -> io::Result<()> {
        for _ in 0..=MAX_TRAILERS {
            let line = self.read_line()?;
            if line.is_empty() {
                return Ok(());
            }
            let (name, _) = line.split_once(':').ok_or(MALFORMED)?;
            if name.is_empty() || !name.bytes().all(may_be_in_a_name) {
                return Err(MALFORMED.into());
            }
        }
        Err(Refused { status: 431, why: "there are too many trailers" }.into())
    }

    /// Reads a line that ends with CRLF, and returns it without that.
    fn read_line(&self) -> io::Result<String> {
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            self.request.input()?.with_next(|bytes| {
                let end = bytes.iter().position(|&byte| byte == b'\n');
                let count = end.map_or(bytes.len(), |at| at + 1);
                line.extend_from_slice(&bytes[..count]);
                Ok((count, ()))
            })?;
            if line.len() > MAX_LINE {
                return Err(Refused { status: 431, why: "a line of the body is too long" }.into());
            }
        }
        let line = line.strip_suffix(b"\r\n").ok_or(MALFORMED)?;
        let is_text = line.iter().all(|&byte| byte == b'\t' || !byte.is_ascii_control());
        let line = String::from_utf8(line.to_vec()).ok().filter(|_| is_text);
        Ok(line.ok_or(MALFORMED)?)
    }
}

/// The size of a chunk, and what comes after the semicolon. White space may stand before that.
fn split_size(line: &str) -> (&str, &str) {
    match line.split_once(';') {
        Some((size, extensions)) => (size.trim_end_matches([' ', '\t']), extensions),
        None => (line, ""),
    }
}

/// `tchar`, of which names of headers are made (RFC 9110, section 5.6.2)
fn may_be_in_a_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

impl Read for Chunks<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 && !self.is_done {
            self.begin_chunk()?;
        }
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 {
            return Ok(0);
        }
        let count = self.request.input()?.read(&mut buffer[..most])?;
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        self.left -= count as u64;
        if self.left == 0 && !self.read_line()?.is_empty() {
            return Err(MALFORMED.into()); // the chunk does not end where its size says
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
        client.flush()?; // somebody may be watching
        if count == 0 {
            return Ok(()); // an empty chunk is the last one
        }
    }
}
