//! The code that the stages share: the lasting form of what they write by hand.
//!
//! A stage writes its new idea in its own `main.rs`, in the fewest lines that show what happens
//! on the wire. Later stages take the idea from here: typed, bounded, strict and tested.
//!
//! # The path of a request
//!
//! ```text
//!                      serve: a thread that drives everything
//!
//!                bytes                          request
//!  a socket    ────────►  Connection          ──────────►  the stage's route
//!  (transport) ◄────────  (protocol: no socket,  ◄──────────
//!                bytes     no clock)            response
//! ```
//!
//! In the last stages, `GET /echo/abc` goes through these steps (in `serve/service.rs`, unless another file
//! is named):
//!
//! 1. `work` accepts a connection, `Arrival::serve` prepares a [`Connection`] for it, and `talk` drives that: it
//!    calls `advance` to learn what is needed next, until nothing is.
//! 2. *Bytes* are needed. `Connection::receive` waits for them, within the client's time limit, in
//!    `transport/tcp.rs`, and puts them into its buffer.
//! 3. `advance` parses the new bytes (`message/head.rs`). The head is complete, so an *answer* is needed.
//! 4. `Connection::answer` checks what the head says (`protocol/request.rs`, `protocol/rules.rs`), and calls
//!    the handler, `serve/access_log.rs`. The handler calls the stage's `route`, adds the date, and logs a line.
//! 5. The connection decides whether it stays open (`protocol/persistence.rs`), and encodes the [`Response`]
//!    into its outbox (`message/response.rs`).
//! 6. Bytes are needed again, unless the next request has already arrived. `flush` sends the outbox, and
//!    `receive` waits. When the time is up, or the client leaves, `advance` says *close*.
//!
//! Stages 1 to 10, and stage 12, do all of this in their `main.rs`, with pieces from `serve/exchange.rs`. Stage 11
//! uses the loop in `serve/conversation.rs`, which is a few lines long.
//!
//! # The layers
//!
//! The table lists the modules from the bottom up: a file uses only modules that stand above it in the table.
//! A module from stage 9 is for the stages after stage 9, which have written it by hand or no longer need to.
//! An item that comes from another stage than its module says so in its comment.
//!
//! | module | from stage | what it is |
//! |---|---|---|
//! | **`message`** | | *bytes: no sockets, no clock* |
//! | `message::refused` | 3 | why a request is refused |
//! | `message::syntax` | 3 | which bytes are allowed where |
//! | `message::digits` | 4 | numbers as text |
//! | `message::file` | 7 | a file, and the part of it that is sent |
//! | `message::stream` | 2 | the streams that requests are read from and responses are written to |
//! | `message::headers` | 5 | fields looked up by name, ignoring case; lists in one or more lines |
//! | `message::fields` | 3 | the fields of a head, as they arrive |
//! | `message::head` | 3 | a head, parsed in one pass, in however many pieces it arrives |
//! | `message::target` | 3 | which resource a request is for |
//! | `message::query` | 17 | the names and values of a query |
//! | `message::quoted` | 17 | texts as JSON writes them |
//! | `message::date` | 11 | dates in the format of HTTP |
//! | `message::timestamp` | 18 | times in the formats of logs |
//! | `message::request_id` | 18 | the names by which requests are found in the log |
//! | `message::chunked` | 13 | bodies in chunks, decoded and encoded |
//! | `message::body` | 8 | where a body ends |
//! | `message::answer` | 24 | the head of an answer, as a client reads it |
//! | `message::events` | 21 | events for all who watch |
//! | `message::coding` | 9 | whether the client accepts gzip, and gzip itself |
//! | `message::remainder` | 21 | what is left of a response when its head has been written |
//! | `message::response` | 4 | status, fields, body, and how they are written |
//! | **`protocol`** | | *one conversation: still no sockets, and time as an argument* |
//! | `protocol::limits` | 12 | the limits on sizes and times |
//! | `protocol::filter` | 22 | what may stand between a socket and a conversation, as TLS does |
//! | `protocol::buffer` | 2 | bytes that have been received and not used yet |
//! | `protocol::request` | 3 | a request whose body may still be arriving |
//! | `protocol::rules` | 11 | the rules that a request must follow to reach a handler |
//! | `protocol::persistence` | 10 | whether a connection stays open after a response |
//! | `protocol::transport` | 12 | what a connection needs from its socket, and the outbox |
//! | `protocol::connection` | 12 | the conversation with one client, made of all these parts |
//! | **`transport`** | | *sockets* |
//! | `transport::tcp` | 12 | what a connection needs from its socket, provided by TCP |
//! | `transport::client` | 1 | a connection with timeouts and a lingering close |
//! | `transport::listener` | 1 | a listening socket |
//! | `transport::http_client` | 24 | a client of other servers |
//! | **`content`** | | *files* |
//! | `content::folder` | 8 | a directory that is held open |
//! | `content::upload` | 8 | a file that is being stored |
//! | `content::recent` | 7 | files that were sent recently, kept for the next who asks for them |
//! | `content::countdown` | 13 | a body that takes its time |
//! | `content::directory` | 7 | a directory that no request can leave |
//! | `content::types` | 14 | what kind of file a name stands for |
//! | `content::listing` | 14 | a page that lists a folder |
//! | `content::ranges` | 16 | a part of a file |
//! | `content::site` | 14 | a folder as a web site |
//! | `content::caching` | 15 | whether the client has the newest version already |
//! | **`serve`** | | *what drives the connections, and when it ends* |
//! | `serve::clock` | 11 | the current date |
//! | `serve::log` | 0 | the log (not part of the lesson) |
//! | `serve::stop` | 0 | signals (not part of the lesson) |
//! | `serve::proxies` | 18 | who a request is from, when it comes through proxies |
//! | `serve::access_log` | 4 | what the log says about each request |
//! | `serve::exchange` | 3 | one request, one response, one line in the log |
//! | `serve::threads` | 6 | a thread for each client |
//! | `serve::conversation` | 10 | all requests of one client |
//! | `serve::capacity` | 12 | how many connections the system can support |
//! | `serve::places` | 12 | a limit on the number of connections |
//! | `serve::helper` | 12 | a thread that waits for slow clients, so that no other has to |
//! | `serve::lending` | 12 | a connection whose pending answers the helper sends |
//! | `serve::service` | 12 | a server with limits |
//! | **`app`** | | *routes* |
//! | `app::pattern` | 17 | the patterns of routes |
//! | `app::router` | 17 | which route a request is for |
//! | `app::cors` | 18 | which other sites may read answers |
//! | `app::rate_limit` | 18 | how often an address may ask |
//! | `app::application` | 17 | a program made of routes |
//! | `app::routes` | 17 | the routes of earlier stages |
//! | **`args`** | 0 | the command line (not part of the lesson) |

#![warn(missing_docs)]

mod app {
    pub(crate) mod application;
    pub(crate) mod cors;
    pub(crate) mod pattern;
    pub(crate) mod rate_limit;
    pub(crate) mod router;
    pub(crate) mod routes;
}
mod args;
mod content {
    pub(crate) mod caching;
    pub(crate) mod countdown;
    pub(crate) mod directory;
    pub(crate) mod folder;
    pub(crate) mod listing;
    pub(crate) mod ranges;
    pub(crate) mod recent;
    pub(crate) mod site;
    pub(crate) mod types;
    pub(crate) mod upload;
}
mod message {
    pub(crate) mod answer;
    pub(crate) mod body;
    pub(crate) mod chunked;
    pub(crate) mod coding;
    pub(crate) mod date;
    pub(crate) mod digits;
    pub(crate) mod events;
    pub(crate) mod fields;
    pub(crate) mod file;
    pub(crate) mod head;
    pub(crate) mod headers;
    pub(crate) mod query;
    pub(crate) mod quoted;
    pub(crate) mod refused;
    pub(crate) mod remainder;
    pub(crate) mod request_id;
    pub(crate) mod response;
    pub(crate) mod stream;
    pub(crate) mod syntax;
    pub(crate) mod target;
    pub(crate) mod timestamp;
}
mod protocol {
    pub(crate) mod buffer;
    pub(crate) mod connection;
    pub(crate) mod filter;
    pub(crate) mod limits;
    pub(crate) mod persistence;
    pub(crate) mod request;
    pub(crate) mod rules;
    #[cfg(test)]
    pub(crate) mod testing;
    pub(crate) mod transport;
}
mod serve {
    pub(crate) mod access_log;
    pub(crate) mod capacity;
    pub(crate) mod clock;
    pub(crate) mod conversation;
    pub(crate) mod exchange;
    pub(crate) mod helper;
    pub(crate) mod lending;
    pub(crate) mod log;
    pub(crate) mod places;
    pub(crate) mod proxies;
    pub(crate) mod service;
    pub(crate) mod stop;
    pub(crate) mod threads;
}
mod transport {
    pub(crate) mod client;
    pub(crate) mod http_client;
    pub(crate) mod listener;
    pub(crate) mod tcp;
}

pub use app::application::{App, Next};
pub use app::routes::earlier_routes;
pub use args::{
    Args, Secure, announce, run, run_api, run_app, run_driven, run_live, run_one_of_many,
    run_secure, run_store, run_with_caching, run_with_directory, run_with_limits,
    run_with_middleware, run_with_site,
};
pub use content::caching::{Outcome, Validators, cached, evaluate, may_change};
pub use content::countdown::Countdown;
pub use content::directory::{Directory, Found, Listed};
pub use content::ranges::{download, ranged};
pub use content::site::Site;
pub use message::answer::{AnswerHead, AnswerParser};
pub use message::body::MAX_BODY;
pub use message::chunked::Decoder;
pub use message::coding::{accepts_gzip, gzip, gzip_stream};
pub use message::date::HttpDate;
pub use message::events::{Events, Heard, Piece, Waker, Watch};
pub use message::fields::MAX_FIELDS;
pub use message::file::{FilePart, FileState, OpenFile};
pub use message::head::{Head, HeadParser, MAX_HEAD, MAX_TARGET, Version};
pub use message::headers::Headers;
pub use message::query::{form_pairs, query_pairs};
pub use message::quoted::quoted;
pub use message::refused::Refused;
pub use message::remainder::{Ready, Remainder};
pub use message::response::{Response, reason};
pub use message::stream::Stream;
pub use message::target::{Rest, Target, is_authority, path_of};
pub use protocol::buffer::{Buffer, read_head};
pub use protocol::connection::{AtOnce, Closing, Connection, Handler, Need};
pub use protocol::filter::{Authority, Filter, Wire, handshake_timeout};
pub use protocol::limits::Limits;
pub use protocol::persistence::Then;
pub use protocol::request::{Body, Raw, Request};
pub use protocol::rules::check;
pub use protocol::transport::{Transfer, Transport};
pub use serve::access_log::RequestLog;
pub use serve::clock::{date, now};
pub use serve::conversation::answer_all;
pub use serve::exchange::{
    answer, conclude, fill_head, next_request, read_request, refuse, respond, with_request,
};
pub use serve::log::{LogFormat, log};
pub use serve::proxies::{Network, Proxies};
pub use serve::service::{Driven, Service};
pub use serve::stop::{Draining, on_stop};
pub use serve::threads::serve;
pub use transport::client::Client;
pub use transport::http_client::{
    Answer, Call, HttpClient, Incoming, Members, NotAnswered, Repeat, Told, read_answer,
};
pub use transport::listener::Listener;
pub use transport::tcp::{blocking, blocking_through, reset, send_part};
