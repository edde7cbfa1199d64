//! Stage 12: clients that are slow, or too many, and a good end. Chapter: docs/12-limits.md

mod attend;
mod deadline;
mod permits;

use std::io;
use std::process::{self, ExitCode};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::{Client, Directory, Limits, Refused, Request, Response, Rest};
use permits::{Permit, Permits};

const FULL: Refused = Refused { status: 503, why: "there are too many clients; try again soon" };
const TOO_LARGE: Refused = Refused { status: 413, why: "the body is too large for this server" };

/// What all threads share.
struct Server {
    files: Directory,
    limits: Limits,
    /// One for each request that is being answered.
    busy: Arc<Permits>,
    is_stopping: AtomicBool,
}

fn main() -> ExitCode {
    common::run_with_limits(|args| {
        let most = args.limits.max_connections;
        let (connections, turned_away) = (Permits::new(most), Permits::new(64));
        let (files, limits, busy) = (args.files(), args.limits, Permits::new(most));
        let is_stopping = AtomicBool::new(false);
        let server = Arc::new(Server { files, limits, busy, is_stopping });
        let listener = args.listen()?;
        stop_at_a_signal(&server, listener.stopper())?;
        for client in listener {
            if let Some(permit) = connections.take() {
                let server = Arc::clone(&server);
                spawn(client, permit, move |client| attend::attend(client, &server));
            } else if let Some(permit) = turned_away.take() {
                spawn(client, permit, |client| attend::refuse(client, FULL, b""));
            }
        } // here the listener is dropped, and the port is free again
        server.busy.take_all_within(limits.stop_timeout);
        server.files.abandon_uploads();
        Ok(())
    })
}

/// On Ctrl-C, or when the system asks the program to end: no new clients, and a last answer for
/// those who are here.
fn stop_at_a_signal(server: &Arc<Server>, stop: impl Fn() + Send + 'static) -> io::Result<()> {
    let server = Arc::clone(server);
    common::on_stop(move || {
        if server.is_stopping.swap(true, Ordering::Relaxed) {
            server.files.abandon_uploads();
            process::exit(130); // the second signal: do not wait any longer
        }
        stop();
    })
}

/// Serves a client in a thread of its own, and gives the permit back when its connection is closed.
fn spawn(client: Client, permit: Permit, serve: impl FnOnce(&Client) + Send + 'static) {
    let work = move || {
        serve(&client);
        drop(client);
        drop(permit);
    };
    if let Err(error) = thread::Builder::new().spawn(work) {
        common::log(format!("no thread for a client: {error}"));
    }
}

fn route(request: &Request, server: &Server) -> io::Result<Response> {
    common::check(request)?;
    if request.content_length() > Some(server.limits.max_body) {
        return Err(TOO_LARGE.into());
    }
    let allowed = match request.path() {
        ("", None) | ("echo", Some(_)) | ("user-agent", None) => &["GET", "HEAD", "OPTIONS"][..],
        ("files", Some(_)) => &["GET", "HEAD", "OPTIONS", "POST"],
        _ if request.target() == "*" => &["GET", "HEAD", "OPTIONS", "POST"],
        _ => return Ok(Response::not_found()),
    };
    if !allowed.contains(&request.method()) {
        return Ok(Response::new(405).header("Allow", allowed.join(", ")));
    }
    Ok(match (request.method(), request.path()) {
        ("OPTIONS", _) => Response::ok().header("Allow", allowed.join(", ")),
        ("POST", ("files", Some(name))) => store(request, &server.files, name)?,
        (_, ("files", Some(name))) => server.files.open(name).and_then(Response::file)?,
        (_, ("echo", Some(text))) => {
            Response::text(text.decode()?).compressed_for(request.headers())?
        }
        (_, ("user-agent", None)) => user_agent(request),
        _ => Response::ok(),
    })
}

fn store(request: &Request, files: &Directory, name: Rest) -> io::Result<Response> {
    files.store(name, request.body()?)?;
    Ok(Response::created())
}

fn user_agent(request: &Request) -> Response {
    let found = request.header("User-Agent").unwrap_or_default();
    Response::text(found).header("Vary", "User-Agent")
}
