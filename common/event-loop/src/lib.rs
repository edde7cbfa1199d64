//! One loop a core for all connections, for the stages from 23 on (stage 22's lasting form).
//!
//! A package of its own, so that the first build of stage 1 does not wait for what tells which sockets are ready.
//!
//! ```no_run
//! use common::{App, Limits, Listener, Response, Service};
//!
//! let mut app = App::new();
//! app.get("/", |_| Ok(Response::text("hello")));
//! let service = Service::new(Listener::bind(4221)?, Limits::default())?;
//! common::on_stop(service.stopper())?;
//! event_loop::run(app.driven(service)?, event_loop::cores())?;
//! # Ok::<(), std::io::Error>(())
//! ```
//!
//! The modules from the bottom up, each of which uses only those above it:
//!
//! | module | what it is |
//! |---|---|
//! | `wheel` | deadlines |
//! | `talk` | what can be said to a client without waiting |
//! | `line` | a socket, and the filter that may be before it |
//! | `slots` | the clients of a loop |
//! | `workers` | threads for what has to wait |
//! | `simulation` | a client without a socket, for tests |
//! | `listeners` | a socket that listens for each loop |
//! | `event_loop` | the loop |

#![warn(missing_docs)]

mod event_loop;
mod line;
mod listeners;
#[cfg(any(test, feature = "simulation"))]
pub mod simulation;
mod slots;
mod talk;
mod wheel;
mod workers;

pub use event_loop::run;

/// Returns how many loops this machine can make use of.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
