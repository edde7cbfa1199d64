//! A client of an event loop, whose bytes come and who takes ours in any rhythm, hears what it would hear if a thread waited
//! for it. The first byte says how many of the next ones are the rhythm.

#![no_main]

use common::Limits;
use event_loop::simulation::{Ways, on_a_loop, on_a_thread};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some((&length, rest)) = bytes.split_first() else { return };
    let (rhythm, sent) = rest.split_at(rest.len().min(usize::from(length % 16)));
    let limits = Limits { max_body: 1000, ..Limits::default() };
    let heard = on_a_loop(sent, rhythm, &Ways, limits);
    let expected = on_a_thread(sent, &Ways, limits);
    let heard = heard.expect("it has an end");
    assert!(heard == expected, "{} is not {}", heard.escape_ascii(), expected.escape_ascii());
});
