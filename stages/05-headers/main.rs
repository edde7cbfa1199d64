//! Stage 5: read a header. Chapter: docs/05-headers.md

use std::io;
use std::process::ExitCode;

use common::{Request, Response};

fn main() -> ExitCode {
    common::run(|args| {
        for client in args.listen()? {
            common::answer(&client, route);
        }
        Ok(())
    })
}

fn route(request: &Request) -> io::Result<Response> {
    Ok(match request.path() {
        ("", None) => Response::ok(),
        ("echo", Some(text)) => Response::text(text.decode()?),
        ("user-agent", None) => Response::text(header(request.fields(), "User-Agent")),
        _ => Response::not_found(),
    })
}

/// The value of the line `name: value`; empty if there is none. Upper and lower case are the same
/// in names, and white space around a value is not part of it.
fn header(fields: &[u8], name: &str) -> Vec<u8> {
    for line in fields.split(|&byte| byte == b'\n') {
        let mut halves = line.splitn(2, |&byte| byte == b':');
        if let (Some(this_name), Some(value)) = (halves.next(), halves.next()) {
            if this_name.eq_ignore_ascii_case(name.as_bytes()) {
                return value.trim_ascii().to_vec();
            }
        }
    }
    Vec::new()
}
