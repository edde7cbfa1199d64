//! Stage 1 · Bind a port and accept connections.
//!
//! A server is a program that other programs can connect to. It needs no answers yet: it has to
//! be there, and to stay there, whatever its clients do.

use std::thread;
use std::time::Duration;

use harness::{Check, Server};

/// The pause between two clients. A server that is about to end has time to do it.
const PAUSE: Duration = Duration::from_millis(10);

#[test]
fn listens_on_the_port_it_is_given() -> Check {
    let server = Server::start("stage01")?;
    server.connect()?;
    Ok(())
}

#[test]
fn goes_on_after_clients_have_left() -> Check {
    let server = Server::start("stage01")?;
    let why = "Clients connected, and left without a word.";
    for _ in 0..20 {
        let client = server.connect().map_err(|failure| failure.because(why))?;
        drop(client);
        thread::sleep(PAUSE);
    }
    server.is_running().map_err(|failure| failure.because(why))
}

#[test]
fn survives_clients_that_crash() -> Check {
    let server = Server::start("stage01")?;
    let why = "Clients connected, sent a few bytes, and reset their connections, as a program does \
               that crashes. Accepting, reading or writing may fail then: that is no reason to end.";
    for _ in 0..20 {
        let mut client = server.connect().map_err(|failure| failure.because(why))?;
        client.send(b"GET / HT")?;
        client.reset();
        thread::sleep(PAUSE);
    }
    server.connect().map_err(|failure| failure.because(why))?;
    server.is_running().map_err(|failure| failure.because(why))
}
