//! Stage 1: bind a port and accept connections. Chapter: docs/01-bind.md

use std::net::TcpListener;
use std::process::ExitCode;

fn main() -> ExitCode {
    common::run(|args| {
        let listener = TcpListener::bind(("127.0.0.1", args.port))?;
        println!("listening on http://{}", listener.local_addr()?);
        for client in listener.incoming() {
            match client {
                Ok(client) => eprintln!("{:?} came", client.peer_addr()),
                Err(error) => eprintln!("a client left before it was accepted: {error}"),
            } // here `client` is dropped: that closes the connection
        }
        Ok(())
    })
}
