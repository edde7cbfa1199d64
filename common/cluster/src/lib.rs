//! Records that several machines share: in [etcd](https://etcd.io), through its JSON over HTTP/1.1 (for stage 24).
//!
//! ```no_run
//! use cluster::Cluster;
//! use common::Members;
//! use std::time::Duration;
//!
//! let members = ["a:2379".to_owned(), "b:2379".to_owned(), "c:2379".to_owned()];
//! let store = Cluster::new(Members::new(&members, Duration::from_secs(2), cluster::MAX_ANSWER));
//! # let _ = store;
//! ```
//!
//! The modules from the bottom up, each of which uses only those above it:
//!
//! | module | what it is |
//! |---|---|
//! | `ask` | who asks the members |
//! | `wire` | etcd's requests and answers, as JSON |
//! | `cluster` | the records |
//! | `watch` | changes, also those that other machines make |

#![warn(missing_docs)]

mod ask;
mod cluster;
mod watch;
mod wire;

pub use ask::Ask;
pub use cluster::{Cluster, MAX_ANSWER};
