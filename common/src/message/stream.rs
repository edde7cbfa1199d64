//! The streams that requests are read from and responses are written to (stage 2's lasting form).

use std::io::{self, Read, Write};

use crate::message::file::{FilePart, became_shorter};

/// How much of a file is in memory at a time while it is sent.
const BLOCK: usize = 128 * 1024;

/// A stream of bytes in both directions: a client's connection, or memory in a test.
///
/// ```
/// use std::io::{self, Read, Write};
///
/// /// A client whose bytes were recorded beforehand, and that ignores what it is sent.
/// struct Recorded(&'static [u8]);
///
/// impl Read for Recorded {
///     fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
///         self.0.read(buffer)
///     }
/// }
///
/// impl Write for Recorded {
///     fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
///         Ok(bytes.len())
///     }
///     fn flush(&mut self) -> io::Result<()> {
///         Ok(())
///     }
/// }
///
/// impl common::Stream for Recorded {}
/// ```
pub trait Stream: Read + Write {
    /// Returns the bytes that wait to be sent, if this stream collects them. Bytes that are appended
    /// to them need not be written.
    fn pending(&mut self) -> Option<&mut Vec<u8>> {
        None
    }

    /// Whether the client is known to send nothing more: it may have left. A stream that cannot tell says no. From stage
    /// 21.
    fn has_heard_the_end(&mut self) -> bool {
        false
    }

    /// Writes a part of a file. A stream whose bytes the system can copy without a detour through this
    /// program makes use of that.
    ///
    /// # Errors
    ///
    /// When reading or writing fails, and `UnexpectedEof` when the file has become shorter. Some of
    /// the bytes may have been written then.
    fn send_file(&mut self, part: FilePart) -> io::Result<()> {
        let left = part.left();
        copy_exactly(part, left, self)
    }
}

/// Copies exactly `length` bytes, block by block.
///
/// # Errors
///
/// As [`Stream::send_file`].
pub(crate) fn copy_exactly(
    source: impl Read,
    length: u64,
    target: &mut (impl Write + ?Sized),
) -> io::Result<()> {
    let size = usize::try_from(length).unwrap_or(BLOCK).min(BLOCK);
    let (mut block, mut source, mut left) = (vec![0; size], source.take(length), length);
    while left > 0 {
        match source.read(&mut block) {
            Ok(0) => return Err(became_shorter(left, length)),
            Ok(count) => {
                target.write_all(&block[..count])?;
                left -= count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
