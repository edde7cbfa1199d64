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
    let (status, body) = match request.path() {
        ("", None) => ("200 OK", "".into()), // nothing stands after the slash of `/`
        ("echo", Some(text)) => ("200 OK", text.decode()?),
        _ => ("404 Not Found", "".into()),
    };
    client.log(format_args!("{:?} {status}", request.line()));
    let charset = if body.is_ascii() { "" } else { "; charset=utf-8" };
    let response = format!(
        "HTTP/1.1 {status}\r\n\
         Content-Type: text/plain{charset}\r\n\
         Content-Length: {}\r\n\
         \r\n\
         {body}",
        body.len() // bytes, not characters
    );
    client.write_all(response.as_bytes())
}
