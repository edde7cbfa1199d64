//! Stage 1 · Bind a port and accept connections.
//!
//! A server is a program that other programs can connect to. It needs no answers yet: it has to
//! be there, and to stay there, whatever its clients do.

use std::thread;
use std::time::Duration;

use harness::{Check, Server};

/// The pause between two clients. A server that is about to end has time to do it.
const PAUSE: Duration = Duration::from_millis(10);

/// More clients than a system keeps in its queue, for a server that does not accept them.
const MANY: usize = 300;

#[test]
fn listens_on_the_port_it_is_given() -> Check {
    let server = Server::start("stage01")?;
    server.connect()?;
    Ok(())
}

#[test]
fn goes_on_after_clients_have_left() -> Check {
    let server = Server::start("stage01")?;
    let why = "Clients connected, and left without a word. A server goes on until it is stopped, \
               whatever its clients do.";
    for _ in 0..20 {
        let client = server.connect().map_err(|failure| failure.why(why))?;
        drop(client);
        thread::sleep(PAUSE);
    }
    server.is_running().map_err(|failure| failure.why(why))
}

#[test]
fn accepts_one_client_after_another() -> Check {
    let server = Server::start("stage01")?;
    let why = "Three hundred clients connected, one after another, and left. Accept each of them, and close \
               its connection before you accept the next.";
    for _ in 0..MANY {
        server.connect().map_err(|failure| failure.why(why))?;
    }
    server.is_running().map_err(|failure| failure.why(why))
}

#[test]
fn survives_clients_that_crash() -> Check {
    let server = Server::start("stage01")?;
    let why = "Clients connected, sent a few bytes, and reset their connections, as a program does \
               that crashes. Accepting, reading or writing may fail then. A server goes on nevertheless.";
    for _ in 0..20 {
        let mut client = server.connect().map_err(|failure| failure.why(why))?;
        client.send(b"GET / HT")?;
        client.reset();
        thread::sleep(PAUSE);
    }
    server.connect().map_err(|failure| failure.why(why))?;
    server.is_running().map_err(|failure| failure.why(why))
}
