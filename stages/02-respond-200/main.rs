//! Stage 2: answer every request with 200. Chapter: docs/02-respond-200.md

use std::io::{self, ErrorKind, Read, Write};
use std::process::ExitCode;

use common::Client;

/// The most bytes that are read while looking for the blank line.
const MAX_REQUEST: usize = 16 * 1024;

fn main() -> ExitCode {
    common::run(|args| {
        for client in args.listen()? {
            if let Err(error) = answer(&client) {
                client.log(error);
            }
        }
        Ok(())
    })
}

fn answer(mut client: &Client) -> io::Result<()> {
    let request = read_request(client)?;
    let line = request.lines().next().unwrap_or_default();
    client.log(format_args!("{line:?} 200"));
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n")
}

/// Reads up to the blank line that ends the head of every request.
fn read_request(mut client: &Client) -> io::Result<String> {
    let mut request = Vec::new();
    let mut piece = [0; 1024];
    while !request.windows(4).any(|four| four == b"\r\n\r\n") {
        let count = client.read(&mut piece)?;
        if count == 0 {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, "left before the blank line"));
        }
        request.extend_from_slice(&piece[..count]);
        if request.len() > MAX_REQUEST {
            return Err(io::Error::new(ErrorKind::InvalidData, "sent no blank line in 16 KiB"));
        }
    }
    Ok(String::from_utf8_lossy(&request).into_owned())
}
