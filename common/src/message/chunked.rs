//! Bodies in chunks, decoded and encoded without sockets (stage 13's lasting form).

use std::io::{self, Read, Write};

use crate::message::fields::MAX_FIELDS;
use crate::message::head::MAX_HEAD;
use crate::message::headers::FieldState;
use crate::message::refused::{Refused, bad_request};

/// The most digits that the size of a chunk may have: as many as fit into 64 bits.
const MAX_DIGITS: u32 = 16;

/// The most bytes that the line before a chunk may have, its line end included.
const MAX_SIZE_LINE: usize = 1024;

/// How many bytes of extensions a body may have beyond the number of bytes of its content.
const MAX_EXTENSIONS: u64 = 16 * 1024;

/// The largest part of a stream that is in memory at a time, in bytes, and so the largest chunk.
const BLOCK: usize = 32 * 1024;

/// A decoder for a chunked body, which may arrive in pieces of any size (RFC 9112, section 7.1).
///
/// ```
/// use common::Decoder;
///
/// let mut decoder = Decoder::new();
/// let mut content = [0; 100];
/// let (used, written) = decoder.decode(b"5\r\nhello\r\n0\r\n\r\nGET /", &mut content)?;
/// assert_eq!(&content[..written], b"hello");
/// assert_eq!(used, 15); // the next request is not touched
/// assert!(decoder.is_done());
/// # Ok::<(), common::Refused>(())
/// ```
#[derive(Debug, Default)]
pub struct Decoder {
    state: State,
    /// The size of the chunk, as far as it has been read; after that, the number of its bytes that are
    /// still to come.
    size: u64,
    /// How many bytes of the line before this chunk have been read.
    line: usize,
    content: u64,
    extensions: u64,
    trailers: Trailers,
}

/// How much of the field lines after the last chunk has been read. They are checked, then discarded.
#[derive(Debug, Default)]
struct Trailers {
    bytes: usize,
    fields: usize,
}

/// What the next byte belongs to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// `chunk = chunk-size [ chunk-ext ] CRLF chunk-data CRLF`: this many digits have been read.
    Size(u32),
    /// White space before the semicolon of an extension.
    Gap,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    Trailers(FieldState),
    #[default]
    Start,
}

impl Decoder {
    /// Creates a decoder for a body that begins now.
    pub fn new() -> Decoder {
        Decoder::default()
    }

    /// Whether the last chunk and its trailers have been read.
    pub fn is_done(&self) -> bool {
        self.state == State::Trailers(FieldState::Done)
    }

    /// Decodes as much of `input` as possible into `output`. Returns how many bytes of `input` it has
    /// used, and how many bytes of `output` it has written. It uses all of `input` unless `output` is
    /// full or the body has ended.
    ///
    /// # Errors
    ///
    /// 400 for an invalid size, for a line that does not end with CRLF, and for trailers that are not
    /// fields; 431 for too many extensions or trailers.
    pub fn decode(&mut self, input: &[u8], output: &mut [u8]) -> Result<(usize, usize), Refused> {
        let (mut used, mut written) = (0, 0);
        while used < input.len() && !self.is_done() {
            if self.state == State::Data {
                let left = usize::try_from(self.size).unwrap_or(usize::MAX);
                let count = left.min(input.len() - used).min(output.len() - written);
                if count == 0 {
                    break; // the output is full
                }
                output[written..written + count].copy_from_slice(&input[used..used + count]);
                (used, written) = (used + count, written + count);
                self.pass(count as u64);
            } else {
                self.state = self.next(input[used])?;
                used += 1;
            }
        }
        Ok((used, written))
    }

    /// Returns how many bytes of this chunk are still to come, if its size is known: these are content
    /// and nothing else.
    pub(crate) fn content_ahead(&self) -> u64 {
        if self.state == State::Data { self.size } else { 0 }
    }

    /// Accounts for `count` bytes of content.
    pub(crate) fn pass(&mut self, count: u64) {
        self.size -= count;
        self.content = self.content.saturating_add(count);
        if self.size == 0 {
            self.state = State::DataCr;
        }
    }

    /// Returns the state after this byte, which is not content.
    fn next(&mut self, byte: u8) -> Result<State, Refused> {
        match (self.state, byte) {
            (State::Start, _) => {
                (self.size, self.line) = (0, 0);
                self.digit(byte, 0)
            }
            (State::Size(_) | State::Gap, b';') => self.extension(State::Extension),
            (State::Size(_) | State::Extension, b'\r') => self.in_line(State::SizeLf),
            (State::Size(_) | State::Gap, b' ' | b'\t') => self.extension(State::Gap),
            (State::Size(digits), _) => self.digit(byte, digits),
            (State::Extension, b'\t' | b' '..=b'~' | 0x80..) => self.extension(State::Extension),
            (State::SizeLf, b'\n') => self.in_line(if self.size == 0 {
                State::Trailers(FieldState::LineStart)
            } else {
                State::Data
            }),
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(State::Start),
            (State::Trailers(state), _) => self.trailer(state, byte),
            _ => Err(bad_request("a chunk does not end where its size says, or not with CR LF")),
        }
    }

    /// Reads a digit of `chunk-size = 1*HEXDIG`.
    fn digit(&mut self, byte: u8, digits: u32) -> Result<State, Refused> {
        let digit = char::from(byte).to_digit(16);
        let digit = digit.filter(|_| digits < MAX_DIGITS);
        let digit = digit.ok_or(bad_request("the size of a chunk is not a hexadecimal number"))?;
        self.size = self.size << 4 | u64::from(digit);
        self.in_line(State::Size(digits + 1))
    }

    /// Reads a byte of `chunk-ext = *( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] )`.
    fn extension(&mut self, state: State) -> Result<State, Refused> {
        self.extensions += 1;
        if self.extensions > self.content.saturating_add(MAX_EXTENSIONS) {
            return Err(TOO_MANY_EXTENSIONS);
        }
        self.in_line(state)
    }

    /// Counts a byte of the line before a chunk.
    fn in_line(&mut self, state: State) -> Result<State, Refused> {
        self.line += 1;
        if self.line > MAX_SIZE_LINE { Err(TOO_MANY_EXTENSIONS) } else { Ok(state) }
    }

    /// Reads a byte of `trailer-section = *( field-line CRLF )`, or of the empty line that ends the
    /// body.
    fn trailer(&mut self, state: FieldState, byte: u8) -> Result<State, Refused> {
        let next = state.next(byte)?;
        self.trailers.bytes += 1;
        self.trailers.fields +=
            usize::from((state, next) == (FieldState::LineStart, FieldState::Name));
        if self.trailers.bytes > MAX_HEAD {
            return Err(Refused { status: 431, why: "the trailers are larger than 16 KiB" });
        }
        if self.trailers.fields > MAX_FIELDS {
            return Err(Refused { status: 431, why: "there are more than 100 trailers" });
        }
        Ok(State::Trailers(next))
    }
}

const TOO_MANY_EXTENSIONS: Refused =
    Refused { status: 431, why: "the chunks have too many extensions" };

/// The end of a body in chunks.
pub(crate) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Returns a chunk with this content, which must not be empty. From stage 21.
pub(crate) fn chunk(content: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", content.len()).as_bytes(), content, b"\r\n"].concat()
}

/// Writes the bytes of `source` in chunks: one for each read, as soon as the read returns. Returns their number.
///
/// # Errors
///
/// When `source` or `client` fails. The last chunk is missing then, so the client sees that the body
/// is incomplete.
pub(crate) fn write_chunked(
    mut source: impl Read,
    client: &mut (impl Write + ?Sized),
) -> io::Result<u64> {
    const SIZE_LINE: usize = 2 * size_of::<usize>() + 2;
    // Size, content and line end are adjacent, so that a chunk is one write.
    let mut block = vec![0; SIZE_LINE + BLOCK + 2];
    let mut length = 0;
    loop {
        let count = match source.read(&mut block[SIZE_LINE..SIZE_LINE + BLOCK]) {
            Ok(0) => return client.write_all(LAST_CHUNK).map(|()| length),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let size = format!("{count:x}\r\n");
        let start = SIZE_LINE - size.len();
        let end = SIZE_LINE + count + 2;
        block[start..SIZE_LINE].copy_from_slice(size.as_bytes());
        block[end - 2..end].copy_from_slice(b"\r\n");
        client.write_all(&block[start..end])?;
        client.flush()?; // the client may be waiting
        length += count as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;

    /// Decodes a body that arrives in pieces of `size` bytes. Returns the content, and the bytes after
    /// the body.
    fn decode_in_pieces(bytes: &[u8], size: usize, room: usize) -> Result<(Vec<u8>, Vec<u8>), u16> {
        let mut decoder = Decoder::new();
        let (mut content, mut rest) = (Vec::new(), Vec::new());
        for mut piece in bytes.chunks(size) {
            while !piece.is_empty() && !decoder.is_done() {
                let mut output = vec![0; room];
                let result = decoder.decode(piece, &mut output);
                let (used, written) = result.map_err(|refused| refused.status)?;
                content.extend_from_slice(&output[..written]);
                piece = &piece[used..];
            }
            rest.extend_from_slice(piece);
        }
        if decoder.is_done() { Ok((content, rest)) } else { Err(0) } // 0: it is incomplete
    }

    fn decode(bytes: &[u8]) -> Result<Vec<u8>, u16> {
        decode_in_pieces(bytes, usize::MAX, 100).map(|(content, _)| content)
    }

    #[test]
    fn puts_chunks_together() {
        assert_eq!(decode(b"5\r\nhello\r\n0\r\n\r\n"), Ok(b"hello".to_vec()));
        assert_eq!(decode(b"0\r\n\r\n"), Ok(Vec::new()));
        assert_eq!(
            decode(b"1\r\na\r\n0b\r\n 0123456789\r\n000\r\n\r\n"),
            Ok(b"a 0123456789".to_vec())
        );
        assert_eq!(decode(b"1 \t;a\r\na\r\n0 ;\r\n\r\n"), Ok(b"a".to_vec()));
        assert_eq!(decode(b"1;a=b;c=\"d\"\r\na\r\n0;e\r\nTrailer: x\r\n\r\n"), Ok(b"a".to_vec()));
    }

    #[test]
    fn refuses_what_others_might_read_differently() {
        for broken in [
            "\r\n",
            "\n",
            "g\r\n",
            "-1\r\n",
            "+1\r\n",
            "0x1\r\n",
            " 1\r\n",
            "1 \r\n",
            "1\n",
            ";\r\n",
            "1\r\na\n",
            "1\r\nab\r\n",
            "1\r\n\r\n\r\n",
            "1;\n",
            "1;\0\r\n",
            "1\r\na\r\n\r\n",
            "fffffffffffffffff\r\n",
            "00000000000000000\r\n",
            "0\r\nno colon\r\n\r\n",
            "0\r\n folded: x\r\n\r\n",
            "0\r\nA : b\r\n\r\n",
            "0\r\nA: b\n\r\n\r\n",
        ] {
            assert_eq!(decode(broken.as_bytes()), Err(400), "{broken:?}");
        }
    }

    #[test]
    fn extensions_and_trailers_are_bounded() {
        let extension = format!("1;{}\r\na\r\n0\r\n\r\n", "x".repeat(20_000));
        assert_eq!(decode(extension.as_bytes()), Err(431));
        let trailers = format!("0\r\nA: {}\r\n\r\n", "x".repeat(20_000));
        assert_eq!(decode(trailers.as_bytes()), Err(431));
        let many = format!("0\r\n{}\r\n", "A: b\r\n".repeat(101));
        assert_eq!(decode(many.as_bytes()), Err(431));
    }

    /// A reader that gives a few bytes at a time.
    struct Sips<'a>(&'a [u8], usize);

    impl Read for Sips<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let most = buffer.len().min(self.1);
            self.0.read(&mut buffer[..most])
        }
    }

    /// Generates chunked bodies that are valid or nearly valid: one byte may be replaced by another.
    fn bodies() -> impl Strategy<Value = Vec<u8>> {
        let chunk =
            ("0{0,3}", "( ?;[a-z]{0,3}(=[a-z]{0,3}|=\"[a-z ]{0,3}\")?)?", "[a-f0-9\r\n]{1,20}")
                .prop_map(|(zeros, extension, content)| {
                    format!("{zeros}{:X}{extension}\r\n{content}\r\n", content.len())
                });
        let mistake = prop::option::of((any::<prop::sample::Index>(), any::<u8>()));
        let trailers = "([A-Z][a-z]{0,4}: ?[a-z]{0,5}\r\n){0,2}";
        (proptest::collection::vec(chunk, 0..4), trailers, mistake).prop_map(
            |(chunks, trailers, mistake)| {
                let mut bytes = format!("{}0\r\n{trailers}\r\n", chunks.concat()).into_bytes();
                if let Some((index, byte)) = mistake {
                    let at = index.index(bytes.len());
                    bytes[at] = byte;
                }
                bytes
            },
        )
    }

    /// Decodes a body with httparse. Returns its content, and the bytes after it.
    fn second_opinion(mut bytes: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
        let mut content = Vec::new();
        loop {
            let Ok(httparse::Status::Complete((start, size))) = httparse::parse_chunk_size(bytes)
            else {
                return None;
            };
            bytes = &bytes[start..];
            if size == 0 {
                break;
            }
            let (chunk, rest) = bytes.split_at_checked(usize::try_from(size).ok()?)?;
            content.extend_from_slice(chunk);
            bytes = rest.strip_prefix(b"\r\n")?;
        }
        let mut trailers = [httparse::EMPTY_HEADER; 10];
        match httparse::parse_headers(bytes, &mut trailers) {
            Ok(httparse::Status::Complete((end, _))) => Some((content, bytes[end..].to_vec())),
            _ => None,
        }
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_accepted_by_others(bytes in bodies()) {
            if let Ok(ours) = decode_in_pieces(&bytes, usize::MAX, 1000) {
                prop_assert_eq!(second_opinion(&bytes), Some(ours));
            }
        }

        #[test]
        fn what_is_written_can_be_read(
            content in proptest::collection::vec(any::<u8>(), 0..300),
            sip in 1..50usize,
            (size, room) in (1..40usize, 1..40usize),
            rest in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            let mut bytes = Vec::new();
            write_chunked(Sips(&content, sip), &mut bytes).expect("memory accepts it");
            bytes.extend_from_slice(&rest);
            prop_assert_eq!(decode_in_pieces(&bytes, size, room), Ok((content, rest)));
        }

        #[test]
        fn any_split_gives_the_same_result(
            bytes in "(([0-9a-f]{1,2}|0)(;[a-z]{0,3})?\r?\n[a-z\r\n]{0,20}){0,4}",
            size in 1..20usize,
        ) {
            let whole = decode_in_pieces(bytes.as_bytes(), usize::MAX, 1000);
            prop_assert_eq!(decode_in_pieces(bytes.as_bytes(), size, 7), whole);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = decode(&bytes);
        }
    }
}
