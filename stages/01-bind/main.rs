//! Stage 1: bind a port and accept connections. Chapter: docs/01-bind.md

use std::net::TcpListener;
use std::process::ExitCode;

fn main() -> ExitCode {
    common::run(|args| {
        let listener = TcpListener::bind(("127.0.0.1", args.port))?;
        common::announce(listener.local_addr()?);
        loop {
            match listener.accept() {
                Ok((_client, peer)) => common::log(format!("{peer} came")),
                Err(error) => common::log(format!("cannot accept a client: {error}")),
            } // here `_client` is dropped, and that closes the connection
        }
    })
}
