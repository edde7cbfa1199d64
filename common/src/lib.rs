//! What the stages share: the lasting form of what they write by hand.
//!
//! A stage writes its new idea in its own `main.rs`, in the fewest lines that show what happens
//! on the wire. The stages after it take the idea from here: typed, bounded, strict and tested.
//!
//! # The way of a request
//!
//! ```text
//!              bytes                       request
//!  transport ─────────►  protocol  ───────────────►  the stage's route
//!  (a socket) ◄─────────  (no socket, no clock)  ◄───────────────
//!              bytes                       response
//! ```
//!
//! [`Service`] has a thread accept a connection and drive it. [`Connection`] says what it needs next:
//! bytes, which `transport` reads, or an answer. `message` knows how a request and a response are
//! written. `content` finds the files. In a picture of six lines, from `serve/service.rs`:
//!
//! ```text
//! loop {
//!     match connection.advance() {
//!         Next::Bytes  => connection.receive(transport)?,         // waits, within the client's time
//!         Next::Answer => connection.answer(handler, transport)?, // parse, check, route, write
//!         Next::Close  => return connection.finish(transport),
//!     }
//! }
//! ```
//!
//! # The house
//!
//! Floors, from the ground up. A file uses its own floor and those below it, and within its floor only
//! what stands above it in this table.
//!
//! | module | from stage | what it is |
//! |---|---|---|
//! | **`message`** | | *bytes: no sockets, no clock, no waiting* |
//! | `message::refused` | 3 | why a request is not answered as it asks |
//! | `message::syntax` | 3 | which bytes may stand where |
//! | `message::stream` | 2 | what is read from and written to |
//! | `message::headers` | 5 | fields looked up in any case, lists in one or more lines |
//! | `message::head` | 3 | a head, parsed in one pass however it arrives |
//! | `message::target` | 3 | which resource a request is for |
//! | `message::date` | 11 | a moment as HTTP writes it |
//! | `message::chunked` | 13 | bodies in chunks, decoded and encoded |
//! | `message::body` | 8 | where a body ends |
//! | `message::coding` | 9 | what the client can decode, and gzip |
//! | `message::response` | 4 | status, fields, body, and how they are written |
//! | **`protocol`** | | *one conversation: still no sockets, and time as an argument* |
//! | `protocol::limits` | 12 | how much and how long, at most |
//! | `protocol::buffer` | 2 | what has been received and not used yet |
//! | `protocol::request` | 3 | a request, with its body on the way |
//! | `protocol::rules` | 11 | what no handler needs to see |
//! | `protocol::persistence` | 10 | what becomes of a connection after a response |
//! | `protocol::transport` | 12 | what carries the bytes, and what is to be sent |
//! | `protocol::connection` | 12 | all of it together: one client's conversation |
//! | **`transport`** | | *sockets* |
//! | `transport::tcp` | 12 | a TCP connection as a transport |
//! | `transport::client` | 1 | a connection that is timed and closed gently |
//! | `transport::listener` | 1 | a socket that listens |
//! | **`content`** | | *files* |
//! | `content::folder` | 8 | a directory that is held open |
//! | `content::upload` | 8 | a file that is being stored |
//! | `content::directory` | 7 | a directory that cannot be left |
//! | **`serve`** | | *who drives whom, and when it ends* |
//! | `serve::log` | 0 | the log, which is not the lesson |
//! | `serve::stop` | 0 | signals, which are not the lesson either |
//! | `serve::clock` | 11 | what time it is |
//! | `serve::exchange` | 3 | one request, one response, one line in the log |
//! | `serve::threads` | 6 | a thread for each client |
//! | `serve::conversation` | 10 | all requests of one client |
//! | `serve::capacity` | 12 | how many connections the system can bear |
//! | `serve::places` | 12 | a limit for the number of connections |
//! | `serve::helper` | 12 | what no other thread should wait for |
//! | `serve::service` | 12 | a server with limits |
//! | **`args`** | 0 | the command line, which is not the lesson |

#![warn(missing_docs)]

mod args;
mod content {
    pub(crate) mod directory;
    pub(crate) mod folder;
    pub(crate) mod upload;
}
mod message {
    pub(crate) mod body;
    pub(crate) mod chunked;
    pub(crate) mod coding;
    pub(crate) mod date;
    pub(crate) mod head;
    pub(crate) mod headers;
    pub(crate) mod refused;
    pub(crate) mod response;
    pub(crate) mod stream;
    pub(crate) mod syntax;
    pub(crate) mod target;
}
mod protocol {
    pub(crate) mod buffer;
    pub(crate) mod connection;
    pub(crate) mod limits;
    pub(crate) mod persistence;
    pub(crate) mod request;
    pub(crate) mod rules;
    #[cfg(test)]
    pub(crate) mod testing;
    pub(crate) mod transport;
}
mod serve {
    pub(crate) mod capacity;
    pub(crate) mod clock;
    pub(crate) mod conversation;
    pub(crate) mod exchange;
    pub(crate) mod helper;
    pub(crate) mod log;
    pub(crate) mod places;
    pub(crate) mod service;
    pub(crate) mod stop;
    pub(crate) mod threads;
}
mod transport {
    pub(crate) mod client;
    pub(crate) mod listener;
    pub(crate) mod tcp;
}

pub use args::{Args, announce, run, run_with_directory, run_with_limits};
pub use content::directory::Directory;
pub use message::body::MAX_BODY;
pub use message::chunked::Decoder;
pub use message::coding::{accepts_gzip, gzip, gzip_stream};
pub use message::date::HttpDate;
pub use message::head::{Head, HeadParser, MAX_FIELDS, MAX_HEAD, MAX_TARGET, Version};
pub use message::headers::Headers;
pub use message::refused::Refused;
pub use message::response::{OpenFile, Response};
pub use message::stream::Stream;
pub use message::target::{Rest, Target, is_authority};
pub use protocol::buffer::{Buffer, read_head};
pub use protocol::connection::{Connection, Farewell, Handler, Next};
pub use protocol::limits::Limits;
pub use protocol::persistence::Then;
pub use protocol::request::{Body, Raw, Request};
pub use protocol::rules::check;
pub use protocol::transport::{Transfer, Transport};
pub use serve::clock::date;
pub use serve::conversation::answer_all;
pub use serve::exchange::{
    answer, conclude, fill_head, next_request, read_request, refuse, respond, with_request,
};
pub use serve::log::log;
pub use serve::service::Service;
pub use serve::stop::on_stop;
pub use serve::threads::serve;
pub use transport::client::Client;
pub use transport::listener::Listener;
