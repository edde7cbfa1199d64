//! What the stages share: the lasting form of what they write by hand.
//!
//! A stage writes its new idea in its own `main.rs`, in the fewest lines that show what happens
//! on the wire. The stages after it take the idea from here: typed, bounded, strict and tested.
//! In reading order:
//!
//! | module | from stage | what it is |
//! |---|---|---|
//! | `args` | 0 | the command line, which is not the lesson: `--port`, `--directory` |
//! | `log` | 0 | the log, which is not the lesson either |
//! | `listener` | 1 | a socket that listens |
//! | `client` | 1 | a connection that is timed and closed gently |
//! | `allowance` | 1 | time for a part of a conversation, which stage 11 gives |
//! | `buffer` | 2 | the bytes of a request, collected until its head is whole |
//! | `refused` | 3 | why a request is not answered as it asks |
//! | `head` | 3 | a head parsed from bytes |
//! | `target` | 3 | which resource the request is for |
//! | `request` | 3 | a request read from a client |
//! | `response` | 4 | status, fields, body, and how they are written |
//! | `exchange` | 4 | one request, one response, one line in the log |
//! | `headers` | 5 | fields looked up in any case, lists in one or more lines |
//! | `server` | 6 | a thread for each client |
//! | `files` | 7 | a directory that cannot be left |
//! | `input` | 8 | what a client sends after a head, read ahead but never lost |
//! | `body` | 8 | a body that ends where it should |
//! | `coding` | 9 | what the client can decode, and gzip |
//! | `connection` | 10 | what becomes of a connection after a response |
//! | `permits` | 11 | a limit for what happens at the same time |
//! | `workers` | 11 | threads that are used again |
//! | `date` | 11 | the time as HTTP writes it |
//! | `rules` | 11 | what no handler needs to see |
//! | `service` | 11 | a server with limits |
//! | `chunked` | 12 | bodies in chunks, decoded and encoded |

#![warn(missing_docs)]

mod allowance;
mod args;
mod body;
mod buffer;
mod chunked;
mod client;
mod coding;
mod connection;
mod date;
mod exchange;
mod files;
mod head;
mod headers;
mod input;
mod listener;
mod log;
mod permits;
mod refused;
mod request;
mod response;
mod rules;
mod server;
mod service;
mod target;
mod workers;

pub use allowance::Allowance;
pub use args::{Args, Limits, run, run_with_directory, run_with_limits};
pub use body::{Body, MAX_BODY};
pub use buffer::{Buffer, MAX_HEAD, Unused, read_head};
pub use chunked::Decoder;
pub use client::{Client, LINGER, LINGER_AT_MOST, TIMEOUT};
pub use coding::{accepts_gzip, gzip, gzip_stream};
pub use connection::{MAX_SKIPPED, conclude};
pub use exchange::{answer, respond};
pub use files::Directory;
pub use head::{Head, MAX_FIELDS, MAX_TARGET, Version};
pub use headers::Headers;
pub use input::Input;
pub use listener::Listener;
pub use log::log;
pub use refused::Refused;
pub use request::{Request, next_request, refuse, with_request};
pub use response::Response;
pub use server::serve;
pub use service::Service;
pub use target::is_authority;
