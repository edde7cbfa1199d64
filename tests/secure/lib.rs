//! TLS for the checks: certificates, clients, and tunnels through which all other checks can be run.
//!
//! | module | what it is |
//! |---|---|
//! | `identity` | certificates that are made for a check |
//! | `tunnel` | bytes from a plain socket, through TLS, and back |
//! | `client` | a client that speaks TLS to a server under test |

mod client;
mod identity;
mod tunnel;

pub use client::{Client, Secured};
pub use identity::Identity;
pub use tunnel::Tunnel;
