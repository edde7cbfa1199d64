//! Queries and forms. A query is read as browsers read it. A form with files is the same in whatever pieces it arrives, and
//! its parts are no longer than itself.

#![no_main]

use std::io::{self, Read};

use common::{form_pairs, query_pairs};
use json::Multipart;
use libfuzzer_sys::fuzz_target;

/// A source that returns few bytes at a time.
struct Sips<'b>(&'b [u8], usize);

impl Read for Sips<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let most = self.1.min(to.len());
        self.0.read(&mut to[..most])
    }
}

/// The names and the contents of the parts; `None` if the form is refused.
fn parts(body: &[u8], sip: usize) -> Option<Vec<(String, Option<String>, Vec<u8>)>> {
    let mut form = Multipart::new("multipart/form-data; boundary=x", Sips(body, sip)).ok()?;
    let mut parts = Vec::new();
    while let Some(mut part) = form.next_part().ok()? {
        let mut content = Vec::new();
        part.read_to_end(&mut content).ok()?;
        parts.push((part.name.clone(), part.filename.clone(), content));
    }
    Some(parts)
}

fuzz_target!(|data: &[u8]| {
    let ours: Vec<_> = query_pairs(data).collect();
    let theirs: Vec<_> = form_urlencoded::parse(data).collect();
    assert_eq!(ours, theirs);
    if let Ok(pairs) = form_pairs(data) {
        assert!(
            pairs
                .iter()
                .map(|(name, value)| (&**name, &**value))
                .eq(ours.iter().map(|(name, value)| (&**name, &**value)))
        );
    }

    let Some((sip, body)) = data.split_first() else { return };
    let whole = parts(body, usize::MAX);
    assert_eq!(parts(body, usize::from(*sip) + 1), whole);
    let content: usize = whole.iter().flatten().map(|(.., content)| content.len()).sum();
    assert!(content <= body.len());
});
