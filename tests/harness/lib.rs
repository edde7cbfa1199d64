//! The library that the checks of the stages use: a server under test, requests to it, and failures that
//! explain themselves.
//!
//! ```no_run
//! use harness::{Check, Server};
//!
//! fn echoes_the_text_in_the_path() -> Check {
//!     let server = Server::start("stage04")?;
//!     server
//!         .get("/echo/banana")
//!         .status(200)
//!         .body("banana")
//!         .because("The body must be the part of the path that follows /echo/.")
//! }
//! ```
//!
//! In reading order:
//!
//! | module | what it is |
//! |---|---|
//! | `server` | a program started for one check, and stopped after it |
//! | `choice` | which program that is: `SERVER`, `stages/mine`, or the stage's binary |
//! | `process` | running the program: its output is kept, and its children are killed with it |
//! | `port` | a free port, and the port that a server listens on by mistake |
//! | `diagnosis` | why a server has ended, or cannot be reached |
//! | `connection` | bytes to the server, in one piece or in many |
//! | `answer` | bytes from the server, parsed as strictly as HTTP asks and no stricter |
//! | `events` | an answer that goes on: server-sent events |
//! | `exchange` | a request, its answer, and what the check expects of the answer |
//! | `location` | where a redirect leads |
//! | `flood` | a client that sends without end |
//! | `etcd` | a small etcd, which can be told to fail |
//! | `base64` | bytes as text, for that |
//! | `real_etcd` | the real one, where it is installed |
//! | `failure` | the report of what went wrong |
//! | `show` | bytes made visible |
//! | `text` | texts that were decoded in the wrong way |
//! | `background` | servers to measure or to compare |
//! | `stages` | the stages by name, and the programs that run their checks |

mod answer;
mod background;
mod base64;
mod choice;
mod connection;
mod diagnosis;
mod etcd;
mod events;
mod exchange;
mod failure;
mod flood;
mod location;
mod port;
mod process;
mod real_etcd;
mod server;
mod show;
mod stages;
mod text;

pub use answer::Answer;
pub use background::{Background, ask, free_port};
pub use choice::{own_command, sources, subject};
pub use connection::Connection;
pub use etcd::{Etcd, Member, Mood};
pub use events::{Event, Events};
pub use exchange::{Exchange, Request};
pub use failure::{Check, Failure};
pub use flood::Flood;
pub use real_etcd::RealEtcd;
pub use serde_json::{Value, json};
pub use server::{Server, TIMEOUT};
pub use stages::{Rules, Stage, cargo, check_program, repository};
