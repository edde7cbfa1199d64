//! A file, and the part of it that a response carries (stage 7's lasting form).

use std::fs::{File, Metadata};
use std::io::{self, Cursor, Read};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

/// Up to this size, in bytes, a file is read before the head of its response is written. Then the head says
/// how long the file really is, whatever the file system claims.
const SMALL_FILE: u64 = 32 * 1024;

/// A file that can be sent: it is open, or its content has been read already. Copies share both.
#[derive(Debug, Clone)]
pub struct OpenFile(Source);

#[derive(Debug, Clone)]
enum Source {
    /// With what the system has said of it, if it has been asked.
    Open(Arc<File>, Option<FileState>),
    /// All of its content, as it was in this state.
    Read(Arc<[u8]>, FileState),
}

/// What tells one version of a file from the next: validators are made of it (RFC 9110, section 8.8). From
/// stage 14.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileState {
    /// The number of bytes.
    pub length: u64,
    /// When the content last changed, in nanoseconds since the beginning of 1970, if the system knows.
    pub modified: Option<i128>,
}

impl OpenFile {
    /// A file with this metadata.
    pub(crate) fn new(file: File, metadata: &Metadata) -> OpenFile {
        OpenFile(Source::Open(Arc::new(file), Some(FileState::of(metadata))))
    }

    /// The same file, without a descriptor of the system, if it is small enough to be read before it is sent.
    pub(crate) fn read_if_small(self) -> OpenFile {
        let Source::Open(file, Some(state)) = &self.0 else { return self };
        if !(1..=SMALL_FILE).contains(&state.length) {
            return self;
        }
        match read_up_to(file, state.length + 1) {
            Ok(content) if content.len() as u64 == state.length => {
                OpenFile(Source::Read(content.into(), *state))
            }
            _ => self, // it is changing, or cannot be read: to be found out when it is sent
        }
    }

    /// Whether the file takes a descriptor of the system.
    pub(crate) fn has_descriptor(&self) -> bool {
        matches!(self.0, Source::Open(..))
    }

    /// The length and the age of the file. From stage 14.
    ///
    /// # Errors
    ///
    /// When the system does not know.
    pub fn state(&self) -> io::Result<FileState> {
        match &self.0 {
            Source::Open(file, None) => Ok(FileState::of(&file.metadata()?)),
            Source::Open(_, Some(state)) | Source::Read(_, state) => Ok(*state),
        }
    }

    /// When the content last changed, in nanoseconds since the beginning of 1970, if the system knows. From
    /// stage 13.
    pub fn modified(&self) -> Option<i128> {
        self.state().ok()?.modified
    }

    /// All of the file, to be read. A file that becomes shorter meanwhile is an error, and not the end: for
    /// those who cannot promise its length, as when it is compressed.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub fn into_whole(self) -> io::Result<Box<dyn Read + Send>> {
        Ok(match self.into_content()? {
            FileContent::Bytes(bytes) => Box::new(Cursor::new(bytes)),
            FileContent::Part(part) => Box::new(part),
            FileContent::Stream(source) => source,
        })
    }

    /// What the file has from its beginning to its present end.
    pub(crate) fn into_content(self) -> io::Result<FileContent> {
        let size = self.state()?.length;
        match self.0 {
            Source::Read(content, _) => Ok(FileContent::Bytes(content.to_vec())),
            Source::Open(file, _) if size > SMALL_FILE => {
                Ok(FileContent::Part(FilePart::new(file, 0..size)))
            }
            Source::Open(file, _) if size > 0 => Ok(FileContent::Bytes(read_up_to(&file, size)?)),
            Source::Open(file, _) => uncounted(file),
        }
    }
}

/// The content of a file that has no size: it is empty, or nobody has counted.
fn uncounted(file: Arc<File>) -> io::Result<FileContent> {
    let mut bytes = Vec::new();
    let count = (&*file).take(SMALL_FILE).read_to_end(&mut bytes)? as u64;
    if count < SMALL_FILE {
        return Ok(FileContent::Bytes(bytes));
    }
    Ok(FileContent::Stream(Box::new(Cursor::new(bytes).chain(file))))
}

/// The first bytes of a file, wherever it stands: this many, or as many as there are.
fn read_up_to(file: &File, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(most).map_err(|_| io::ErrorKind::FileTooLarge)?];
    let mut count = 0;
    while count < bytes.len() {
        match read_at(file, &mut bytes[count..], count as u64) {
            Ok(0) => break,
            Ok(read) => count += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(count);
    Ok(bytes)
}

impl FileState {
    pub(crate) fn of(metadata: &Metadata) -> FileState {
        FileState { length: metadata.len(), modified: modified(metadata) }
    }
}

fn modified(metadata: &Metadata) -> Option<i128> {
    let nanoseconds = |time: Duration| i128::try_from(time.as_nanos()).ok();
    match metadata.modified().ok()?.duration_since(UNIX_EPOCH) {
        Ok(after) => nanoseconds(after),
        Err(before) => nanoseconds(before.duration()).map(|time| -time),
    }
}

impl From<File> for OpenFile {
    fn from(file: File) -> OpenFile {
        OpenFile(Source::Open(Arc::new(file), None))
    }
}

/// What there is to send of a file.
pub(crate) enum FileContent {
    Bytes(Vec<u8>),
    Part(FilePart),
    /// A file of which the system does not say how long it is.
    Stream(Box<dyn Read + Send>),
}

/// A part of a file, to be read from its beginning to its end. Several can be read at the same time, since the
/// position of the file itself plays no role. If the file ends before the part does, that is an error.
#[derive(Debug)]
pub struct FilePart {
    file: Arc<File>,
    position: u64,
    end: u64,
    length: u64,
}

impl FilePart {
    /// The bytes of a file in this range.
    pub fn new(file: impl Into<Arc<File>>, range: Range<u64>) -> FilePart {
        let length = range.end.saturating_sub(range.start);
        FilePart { file: file.into(), position: range.start, end: range.end, length }
    }

    /// The part of this part in a range that is counted from its beginning.
    #[must_use]
    pub(crate) fn cut(self, range: Range<u64>) -> FilePart {
        let (start, end) = (self.position, self.end);
        FilePart::new(self.file, start + range.start..(start + range.end).min(end))
    }

    /// The number of bytes that are left.
    pub fn left(&self) -> u64 {
        self.end.saturating_sub(self.position)
    }

    #[cfg(target_os = "linux")]
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Where in the file the next byte is.
    #[cfg(target_os = "linux")]
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Takes note of bytes that the system has sent by itself; none of them means that the file has ended.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` when the file has ended too early.
    pub fn advance(&mut self, count: usize) -> io::Result<()> {
        if count == 0 && self.left() > 0 {
            return Err(became_shorter(self.left(), self.length));
        }
        self.position += count as u64;
        Ok(())
    }
}

impl FilePart {
    /// Reads the next bytes, and leaves it to [`FilePart::advance`] to go past them. From stage 22.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left()).unwrap_or(usize::MAX).min(buffer.len());
        read_at(&self.file, &mut buffer[..most], self.position)
    }
}

impl Read for FilePart {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left() == 0 || buffer.is_empty() {
            return Ok(0);
        }
        let count = self.peek(buffer)?;
        self.advance(count).map(|()| count)
    }
}

/// Returns the error for a file that ended before its promised length.
pub(crate) fn became_shorter(left: u64, length: u64) -> io::Error {
    let sentence = format!("the file became shorter: {left} of {length} bytes are missing");
    io::Error::new(io::ErrorKind::UnexpectedEof, sentence)
}

#[cfg(unix)]
fn read_at(file: &File, buffer: &mut [u8], position: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, position)
}

#[cfg(windows)]
fn read_at(file: &File, buffer: &mut [u8], position: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, position)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use std::io::Write;

    fn file(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().expect("a temporary file");
        file.write_all(content).expect("writable");
        file
    }

    fn read(mut part: FilePart) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        part.read_to_end(&mut bytes).map(|_| bytes)
    }

    #[test]
    fn a_part_is_read_wherever_the_file_stands() {
        let part = |range| FilePart::new(file(b"0123456789"), range);
        assert_eq!(read(part(0..10)).expect("readable"), b"0123456789");
        assert_eq!(read(part(2..5)).expect("readable"), b"234");
        assert_eq!(read(part(5..5)).expect("readable"), b"");
        assert_eq!(read(part(2..8).cut(1..3)).expect("readable"), b"34");
        assert_eq!(read(part(2..8).cut(4..99)).expect("readable"), b"67");
    }

    #[test]
    fn a_file_that_ends_too_early_is_an_error() {
        let error = read(FilePart::new(file(b"01234"), 2..9)).expect_err("it has 5 bytes");
        assert_eq!(error.to_string(), "the file became shorter: 4 of 7 bytes are missing");
    }
}
