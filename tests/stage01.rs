//! Stage 1 · Bind a port and accept connections.
//!
//! A server is a program that other programs can connect to. It need not answer yet. It has to accept clients
//! and keep running, whatever its clients do.

use std::thread;
use std::time::Duration;

use harness::{Check, Server};

/// The pause between two clients. It gives a server that is about to end the time to do so.
const PAUSE: Duration = Duration::from_millis(10);

/// More clients than the system keeps in the queue of a server that does not accept them.
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
    let why = "Clients connected and left without sending anything. Your server must keep running, whatever its \
               clients do.";
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
    let why = "300 clients connected, one after another, and left. Accept each client, and close its connection \
               before you accept the next one.";
    for _ in 0..MANY {
        server.connect().map_err(|failure| failure.why(why))?;
    }
    server.is_running().map_err(|failure| failure.why(why))
}

#[test]
fn survives_clients_that_crash() -> Check {
    let server = Server::start("stage01")?;
    let why = "Clients connected, sent a few bytes and reset their connections, as a program does when it \
               crashes. Accepting, reading or writing may fail then. Your server must handle such an error and \
               keep running.";
    for _ in 0..20 {
        let mut client = server.connect().map_err(|failure| failure.why(why))?;
        client.send(b"GET / HT")?;
        client.reset();
        thread::sleep(PAUSE);
    }
    server.connect().map_err(|failure| failure.why(why))?;
    server.is_running().map_err(|failure| failure.why(why))
}
