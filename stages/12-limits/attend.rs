//! One client: its requests one after another, each within its time.

use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::Ordering;

use common::{Buffer, Client, Refused, Request, Response, Then};

use crate::deadline::Deadline;
use crate::{Server, route};

const MISTAKE: Refused = Refused { status: 500, why: "this server has made a mistake" };

/// Answers a client's requests one after another.
pub fn attend(client: &Client, server: &Server) {
    let mut buffer = Buffer::new();
    let _ = client.limit_writes(server.limits.send_timeout); // for each write; 10 seconds if that fails
    loop {
        let mut idle = Deadline::new(client, server.limits.idle_timeout);
        while !buffer.holds_a_request() {
            if buffer.fill(&mut idle).is_err() {
                return; // it has left, or has nothing to ask
            }
        }
        let mut head = Deadline::new(client, server.limits.head_timeout);
        let answered = common::fill_head(&mut head, &mut buffer).and_then(|()| {
            let mut body = Deadline::for_a_body(client, server.limits.body_timeout);
            common::read_request(&mut body, &mut buffer, |request| {
                let Some(_busy) = server.busy.take() else { return Ok(Then::Close) }; // it is over
                answer(request, client, server)
            })
        });
        match answered {
            Ok(Ok(Then::KeepOpen)) => {}
            Ok(Ok(Then::Close)) => return,
            Ok(Err(error)) => return client.log(error),
            Err(error) => match Refused::inside(&error) {
                Some(refused) => return refuse(client, refused, buffer.bytes()),
                None => return client.log(error),
            },
        }
    }
}

fn answer(request: &Request, client: &Client, server: &Server) -> io::Result<Then> {
    // What a panic leaves behind is used no more: the connection ends.
    let route = AssertUnwindSafe(|| route(request, server).unwrap_or_else(Response::failed));
    let response = panic::catch_unwind(route).unwrap_or_else(|_| Response::refused(MISTAKE));
    let is_last = server.is_stopping.load(Ordering::Relaxed);
    let response = if is_last { response.last() } else { response };
    common::conclude(client, request, finish(response))
}

/// Answers a client with a refusal: its last answer.
pub fn refuse(client: &Client, refused: Refused, received: &[u8]) {
    let response = finish(Response::refused(refused));
    let is_full = refused.status == 503;
    let response = if is_full { response.header("Retry-After", "1") } else { response };
    common::refuse(client, received, response);
}

/// Adds what every response has.
fn finish(response: Response) -> Response {
    response.explained().header("Date", common::date())
}
