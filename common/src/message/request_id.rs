//! The name of a request, by which its line in the log can be found (stage 18's lasting form).

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::message::digits::add_hexadecimal;

/// The most bytes of a name that a proxy has given.
const MAX_GIVEN: usize = 64;

/// The name of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestId<'a> {
    /// The number of the request in this run of the program. The run has a random number of its own.
    Ours(u64),
    /// What a proxy has given to it.
    Given(&'a [u8]),
}

impl<'a> RequestId<'a> {
    /// The next name that nobody has.
    pub(crate) fn next() -> RequestId<'a> {
        static REQUESTS: AtomicU64 = AtomicU64::new(0);
        RequestId::Ours(REQUESTS.fetch_add(1, Ordering::Relaxed))
    }

    /// The name that a proxy has given, if it can be used as it is.
    pub(crate) fn given(name: &'a [u8]) -> Option<RequestId<'a>> {
        let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
        let is_name = (1..=MAX_GIVEN).contains(&name.len()) && name.iter().all(is_allowed);
        is_name.then_some(RequestId::Given(name))
    }

    /// Adds the name to a text, without the memory that a `String` takes.
    pub(crate) fn add_to(self, text: &mut Vec<u8>) {
        static RUN: LazyLock<String> =
            LazyLock::new(|| format!("{:016x}-", RandomState::new().hash_one(0)));
        match self {
            RequestId::Given(name) => text.extend_from_slice(name),
            RequestId::Ours(number) => {
                text.extend_from_slice(RUN.as_bytes());
                add_hexadecimal(text, number.into());
            }
        }
    }
}

impl fmt::Display for RequestId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let mut text = Vec::new();
        self.add_to(&mut text);
        f.write_str(&String::from_utf8_lossy(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn our_names_are_all_different_and_begin_alike() {
        let names = [RequestId::Ours(0), RequestId::Ours(0x1f), RequestId::Ours(u64::MAX)];
        let names = names.map(|name| name.to_string());
        let ends = names.each_ref().map(|name| name.split_once('-'));
        let [Some((run, "0")), Some((second, "1f")), Some((third, "ffffffffffffffff"))] = ends
        else {
            panic!("{names:?}");
        };
        assert_eq!((run.len(), second, third), (16, run, run));
        assert!(RequestId::next() != RequestId::next());
    }

    #[test]
    fn what_could_be_mistaken_for_something_else_is_not_taken_over() {
        for (name, is_taken) in [
            (&b"a-1_b.C"[..], true),
            (&[b'x'; 64], true),
            (&[b'x'; 65], false),
            (b"", false),
            (b"a b", false),
            (b"a\"b", false),
            (b"\xff", false),
        ] {
            assert_eq!(RequestId::given(name).is_some(), is_taken, "{}", name.escape_ascii());
        }
    }
}
