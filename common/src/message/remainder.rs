//! What is left of a response when its head has been written (stage 22's lasting form; stage 4 writes it at once).

use std::io::{self, Read, Write};
use std::time::Duration;

use crate::message::chunked::{LAST_CHUNK, write_chunked};
use crate::message::events::{Heard, Watch};
use crate::message::file::FilePart;
use crate::message::head::Version;
use crate::message::stream::Stream;

/// How often it is looked whether a watcher is still there.
const LOOK: Duration = Duration::from_secs(1);

/// Is called with the number of bytes of the body that was sent, or with what has gone wrong.
pub(crate) type WhenSent = dyn FnOnce(&io::Result<u64>) + Send;

/// Writes a body together with its framing.
pub(crate) type Writer = dyn FnOnce(&mut dyn Write) -> io::Result<()> + Send;

/// What is left of a response when its head has been written: perhaps nothing.
pub struct Remainder {
    left: Left,
    /// How many bytes the body has, if that is known.
    length: u64,
    version: Version,
    when_sent: Option<Box<WhenSent>>,
}

pub(crate) enum Left {
    Nothing,
    /// A body of which so many bytes have been written.
    Bytes(Vec<u8>, usize),
    File(FilePart),
    Stream(Box<dyn Read + Send>),
    ByHand(Box<Writer>),
    Events(Watch),
}

/// What is left of a response, as far as it can be sent without waiting for anything but the client.
pub enum Ready<'r> {
    /// Nothing: [`Remainder::end`] comes next.
    Nothing,
    /// Bytes, of which [`Remainder::sent`] counts those that have been sent.
    Bytes(&'r [u8]),
    /// A part of a file, which the caller advances.
    File(&'r mut FilePart),
    /// Events, as they come.
    Events(&'r mut Watch),
    /// Something that may take any time: [`Connection::write_remainder`](crate::Connection::write_remainder) waits for it.
    Slow,
}

impl Remainder {
    /// Creates what is left of a response to this version, with a body of this length, if that is known.
    pub(crate) fn new(
        left: Left,
        length: u64,
        version: Version,
        when_sent: Option<Box<WhenSent>>,
    ) -> Remainder {
        Remainder { left, length, version, when_sent }
    }

    /// Returns what can be sent now.
    pub fn ready(&mut self) -> Ready<'_> {
        match &mut self.left {
            Left::Nothing => Ready::Nothing,
            Left::Bytes(body, begun) if *begun == body.len() => Ready::Nothing,
            Left::Bytes(body, begun) => Ready::Bytes(&body[*begun..]),
            Left::File(part) if part.left() == 0 => Ready::Nothing,
            Left::File(part) => Ready::File(part),
            Left::Events(watch) => Ready::Events(watch),
            Left::Stream(_) | Left::ByHand(_) => Ready::Slow,
        }
    }

    /// Takes note of bytes that have been sent.
    pub fn sent(&mut self, count: usize) {
        if let Left::Bytes(body, begun) = &mut self.left {
            *begun = body.len().min(*begun + count);
        }
    }

    /// Whether the recipient knows chunks.
    pub fn has_chunks(&self) -> bool {
        self.version == Version::Http11
    }

    /// Takes note of the end: that all has been sent, or what has gone wrong. Returns the same.
    ///
    /// # Errors
    ///
    /// What has gone wrong.
    pub fn end(mut self, sent: io::Result<()>) -> io::Result<()> {
        let sent = sent.map(|()| self.length);
        if let Some(when_sent) = self.when_sent.take() {
            when_sent(&sent);
        }
        sent.map(drop)
    }

    /// Writes what is left, and waits as long as that takes.
    ///
    /// # Errors
    ///
    /// When the client has left or is too slow, and when a file or a stream fails.
    pub(crate) fn write(mut self, out: &mut dyn Stream) -> io::Result<()> {
        let version = self.version;
        let written = match std::mem::replace(&mut self.left, Left::Nothing) {
            Left::Nothing => Ok(self.length),
            Left::Bytes(body, begun) => out.write_all(&body[begun..]).map(|()| self.length),
            Left::File(part) => out.send_file(part).map(|()| self.length),
            Left::Stream(source) => write_stream(source, version, out),
            Left::ByHand(write) => write_by_hand(write, out),
            Left::Events(watch) => write_events(watch, version, out),
        };
        match written {
            Ok(length) => {
                self.length = length;
                self.end(Ok(()))
            }
            Err(error) => self.end(Err(error)),
        }
    }
}

/// What is dropped before its end has not been sent.
impl Drop for Remainder {
    fn drop(&mut self) {
        if let Some(when_sent) = self.when_sent.take() {
            when_sent(&Err(io::ErrorKind::ConnectionAborted.into()));
        }
    }
}

fn write_stream(
    mut source: Box<dyn Read + Send>,
    version: Version,
    out: &mut dyn Stream,
) -> io::Result<u64> {
    out.flush()?; // the client may be waiting, and the source may take long
    match version {
        Version::Http11 => write_chunked(source, out),
        Version::Http10 => io::copy(&mut source, &mut AutoFlush { out, count: 0 }),
    }
}

fn write_by_hand(write: Box<Writer>, out: &mut dyn Stream) -> io::Result<u64> {
    out.flush()?;
    let mut out = AutoFlush { out, count: 0 };
    write(&mut out).map(|()| out.count)
}

/// Writes events as they come. Returns how many bytes they had.
fn write_events(mut watch: Watch, version: Version, out: &mut dyn Stream) -> io::Result<u64> {
    out.flush()?;
    let mut length = 0;
    loop {
        match watch.take() {
            Heard::Piece(piece) => {
                match version {
                    Version::Http11 => out.write_all(piece.chunk())?,
                    Version::Http10 => out.write_all(piece.text())?,
                }
                out.flush()?;
                length += piece.text().len() as u64;
            }
            Heard::Nothing => {
                watch.wait(LOOK);
                if out.has_heard_the_end() {
                    watch.probe();
                }
            }
            Heard::End if version == Version::Http11 => {
                return out.write_all(LAST_CHUNK).map(|()| length);
            }
            Heard::End => return Ok(length),
        }
    }
}

/// A writer that sends at once what is written: the client may be waiting.
struct AutoFlush<'o> {
    out: &'o mut dyn Stream,
    /// How many bytes have been written.
    count: u64,
}

impl Write for AutoFlush<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.count += count as u64;
        self.out.flush().map(|()| count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
