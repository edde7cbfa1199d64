//! Stage 4: send a body back. Chapter: docs/04-echo.md

use std::io::{self, Write};
use std::process::ExitCode;

use common::{Client, Request};

fn main() -> ExitCode {
    common::run(|args| {
        for client in args.listen()? {
            common::with_request(&client, answer);
        }
        Ok(())
    })
}

fn answer(request: &Request, mut client: &Client) -> io::Result<()> {
    let parts: Vec<_> = request.path().splitn(3, '/').collect();
    let (status, body) = match parts[..] {
        ["", ""] => ("200 OK", ""), // nothing stands before the slash of `/`, and nothing after it
        ["", "echo", text] => ("200 OK", text),
        _ => ("404 Not Found", ""),
    };
    client.log(format_args!("{:?} {status}", request.line()));
    let response = format!(
        "HTTP/1.1 {status}\r\n\
         Content-Type: text/plain\r\n\
         Content-Length: {}\r\n\
         \r\n\
         {body}",
        body.len() // bytes, not characters
    );
    client.write_all(response.as_bytes())
}
