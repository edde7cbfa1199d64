//! Stage 3: look at the path, and answer 404 for all but one. Chapter: docs/03-respond-404.md

use std::io::{self, Write};
use std::process::ExitCode;

use common::Client;

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
    let head = common::read_head(client)?;
    let line = head.lines().next().unwrap_or_default();
    let status = status_for(line);
    client.log(format_args!("{line:?} {status}"));
    client.write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes())
}

/// What a request line such as `GET /index.html HTTP/1.1` is answered with.
fn status_for(line: &str) -> &'static str {
    let words: Vec<&str> = line.split(' ').collect();
    let [method, target, "HTTP/1.1" | "HTTP/1.0"] = words[..] else {
        return "400 Bad Request";
    };
    if method.is_empty() || target.is_empty() {
        return "400 Bad Request"; // there is a space too many
    }
    let path = target.split('?').next(); // what follows a `?` is the query
    if path == Some("/") { "200 OK" } else { "404 Not Found" }
}
