//! A client of an event loop, whose bytes come and who takes ours in any rhythm, hears what it would hear if a thread waited
//! for it. The first byte says how many of the next ones are the rhythm.

#![no_main]

use std::io::{self, Read};

use common::{Handler, Limits, Refused, Request, Response};
use event_loop::simulation::{on_a_loop, on_a_thread};
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

/// Answers in all the ways that a loop treats differently.
struct Ways;

impl Handler for Ways {
    fn answer(&self, request: &Request) -> Response {
        match request.path().0 {
            "large" => Response::text(vec![b'x'; 70_000]),
            "stream" => Response::stream("text/plain", io::repeat(b'y').take(1_000)),
            "last" => Response::text("last").last(),
            "unread" => Response::text(request.target()),
            _ => match length(request) {
                Ok(length) => Response::text(length.to_string()),
                Err(error) => Response::failed(error),
            },
        }
    }

    fn refuse(&self, refused: Refused, _received: &[u8]) -> Response {
        Response::refused(refused)
    }

    fn may_wait(&self, request: &Request) -> bool {
        request.path().0 == "slow"
    }
}

fn length(request: &Request) -> io::Result<u64> {
    match request.body() {
        Ok(mut body) => io::copy(&mut body, &mut io::sink()),
        Err(_) => Ok(0), // it has none
    }
}
