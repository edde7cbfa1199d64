//! Stage 6: serve everyone at once. Chapter: docs/06-concurrency.md

use std::io;
use std::process::ExitCode;
use std::thread;

use common::{Request, Response};

fn main() -> ExitCode {
    common::run(|args| {
        for client in args.listen()? {
            let serve_one = move || common::answer(&client, route);
            if let Err(error) = thread::Builder::new().spawn(serve_one) {
                common::log(format!("no thread for a client: {error}"));
            }
        }
        Ok(())
    })
}

fn route(request: &Request) -> io::Result<Response> {
    Ok(match request.path() {
        ("", None) => Response::ok(),
        ("echo", Some(text)) => Response::text(text.decode()?),
        ("user-agent", None) => Response::text(request.header("User-Agent").unwrap_or_default()),
        _ => Response::not_found(),
    })
}
