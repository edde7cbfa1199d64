//! Answers, as a client reads them: the first byte says into how large pieces they are cut.

#![no_main]

use std::io::{self, Read};

use common::{Answer, MAX_FIELDS, read_answer};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((&size, bytes)) = bytes.split_first() else { return };
    for method in ["GET", "HEAD"] {
        let whole = read(bytes, usize::MAX, method);
        assert_eq!(read(bytes, usize::from(size) + 1, method), whole, "in pieces");
        if let Some(answer) = whole {
            assert_eq!(second_opinion(bytes), Some(answer.status));
        }
    }
});

/// Gives its bytes in pieces of this size.
struct Pieces<'p>(&'p [u8], usize);

impl Read for Pieces<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let most = room.len().min(self.1);
        self.0.read(&mut room[..most])
    }
}

fn read(bytes: &[u8], size: usize, method: &str) -> Option<Answer> {
    read_answer(Pieces(bytes, size), method).ok()
}

/// The status of the first answer that is not an interim one.
fn second_opinion(mut bytes: &[u8]) -> Option<u16> {
    loop {
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let mut response = httparse::Response::new(&mut fields);
        let httparse::Status::Complete(length) = response.parse(bytes).ok()? else { return None };
        match response.code? {
            100..=199 => bytes = &bytes[length..],
            status => return Some(status),
        }
    }
}
