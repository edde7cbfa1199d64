//! All requests of one client, one after another (stage 10's lasting form).

use std::io;

use crate::message::refused::Refused;
use crate::message::response::Response;
use crate::protocol::connection::{Closing, Connection, Handler, Need};
use crate::protocol::limits::Limits;
use crate::protocol::request::{Request, Rules};
use crate::protocol::transport::Transport;
use crate::serve::access_log::{Lines, Logged};
use crate::transport::client::Client;
use crate::transport::tcp::Tcp;

/// Answers the requests of a client with the responses of `answer`, until either side ends the
/// conversation. A request that is not valid is refused, and reaches `answer` as a [`Refused`]. Each
/// request and each failure is logged as a line on stderr.
///
/// The connection stays open while RFC 9112, section 9.3, allows it, with one exception: it is closed if
/// more than 64 KiB of a body are unread, or if the unread body has an unknown length or may never
/// arrive.
pub fn answer_all(client: &Client, answer: impl Fn(Result<&Request, Refused>) -> Response) {
    let time = client.timeout();
    let limits = Limits {
        idle_timeout: time,
        head_timeout: time,
        body_timeout: time,
        send_timeout: time,
        ..Limits::default()
    };
    let mut connection = Connection::with_rules(limits, Rules::Sound);
    let may_wait = &|_: &Request| true;
    let handler = Logged { peer: client.peer(), lines: Lines::All, may_wait, answer };
    if let Err(error) = talk(&mut connection, &mut Tcp::new(client.stream()), &handler) {
        client.log(error);
    }
}

fn talk(
    connection: &mut Connection,
    transport: &mut dyn Transport,
    handler: &dyn Handler,
) -> io::Result<Closing> {
    loop {
        match connection.advance() {
            Need::Bytes => connection.receive(transport)?,
            Need::Answer => connection.answer(handler, transport)?,
            Need::Close => return connection.finish(transport),
        }
    }
}
