//! Why a server has ended, or cannot be reached.

use std::env;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::thread;
use std::time::Duration;

use crate::process::Process;
use crate::{Failure, choice, port};

/// How a server learns its port.
const PORT: &str = "The checks choose a free port and pass it in the environment variable PORT. Your server \
                    must listen on that port of 127.0.0.1 within 5 seconds of its start.\n\
                    In Rust: env::var(\"PORT\").unwrap_or(\"4221\".into())\n\
                    In Python: int(os.environ.get(\"PORT\", \"4221\"))";

/// Why a server has ended, as far as its exit status and its output tell. `was_reached` says whether a client
/// was connected to it before.
pub(crate) fn ended(status: ExitStatus, output: &str, was_reached: bool) -> Failure {
    let words = output.to_lowercase();
    let is_in_use = words.contains("in use") || words.contains("eaddrinuse");
    let failure = match status.code() {
        // The exit codes of a shell that does not find the program, or may not run it.
        Some(126 | 127) if choice::is_command() => {
            Failure::new("the command in SERVER cannot be run").cause(
                "The shell runs it in the top directory of this repository. Is the path in it right from there?",
            )
        }
        _ if is_in_use && env::var_os("PORT").is_some() => {
            Failure::new("your server could not bind its port").cause(
                "When a connection has closed, its port stays in use for about a minute, unless the server sets \
                 SO_REUSEADDR before it binds. Rust does that by itself.\n\
                 In Python: listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)",
            )
        }
        _ if is_in_use => Failure::new("your server could not bind its port").cause(format!(
            "Another program uses that port. The checks run several servers at the same time, so each server \
             needs its own port.\n\
             {PORT}"
        )),
        _ if was_reached => Failure::new(format!("your server has ended ({status})"))
            .guess("Probably your accept loop ended, or an error with one client ended the whole program. \
                    Handle the error, close that connection, and accept the next client."),
        _ => Failure::new(format!("your server ended before a client could connect ({status})")).cause(
            if status.success() {
                "Your server must bind its port, then accept clients in a loop that never ends."
            } else {
                "Your server could not start. Read its output, if there is any. (The checks start it in the top \
                 directory of this repository. Some pass arguments, which the chapter lists.)"
            },
        ),
    };
    failure.output(output)
}

/// The failure if a server listens on another address or port than it should. `taken` are the ports on which
/// other programs listened before it was started.
pub(crate) fn elsewhere(process: &mut Process, wanted: u16, taken: &[u16]) -> Option<Failure> {
    if let Some(found) = port::of_processes(&process.process_tree()) {
        if found.iter().any(|address| port::reaches_localhost(address, wanted)) {
            return None; // it has begun to listen since the last attempt
        }
        let address = found.first()?;
        return Some(if address.port() == wanted {
            Failure::new(format!("your server listens on {address}, but not on 127.0.0.1"))
                .cause(PORT)
        } else {
            wrong_port(wanted, address.port())
        });
    }
    // Where the system does not tell, kill the server. A port that no longer accepts then was the server's.
    let listening = port::listening(&process.output());
    let suspect = listening.into_iter().find(|port| !taken.contains(port))?;
    process.kill();
    if port::answers(suspect) {
        return Some(
            Failure::new(format!("your server does not listen on port {wanted}")).cause(PORT),
        );
    }
    Some(wrong_port(wanted, suspect))
}

fn wrong_port(wanted: u16, found: u16) -> Failure {
    Failure::new(format!("your server does not listen on port {wanted}, but on port {found}"))
        .cause(PORT)
}

/// Whether a server is busy although it has nothing to do: one of its threads is running each time that this
/// looks. Always false except on Linux.
pub(crate) fn spins(process_tree: &[u32]) -> bool {
    const LOOKS: u32 = 20;
    const PAUSE: Duration = Duration::from_millis(25);
    let mut never_waiting = running_threads(process_tree);
    for _ in 1..LOOKS {
        if never_waiting.is_empty() {
            return false;
        }
        thread::sleep(PAUSE);
        let running = running_threads(process_tree);
        never_waiting.retain(|thread| running.contains(thread));
    }
    !never_waiting.is_empty()
}

/// The threads of these processes that are running, or are ready to run (see proc(5)).
fn running_threads(process_tree: &[u32]) -> Vec<PathBuf> {
    let folders =
        process_tree.iter().filter_map(|id| fs::read_dir(format!("/proc/{id}/task")).ok());
    let threads = folders.flatten().flatten().map(|thread| thread.path());
    let runs = |thread: &PathBuf| {
        let stat = fs::read_to_string(thread.join("stat")).unwrap_or_default();
        stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" R"))
    };
    threads.filter(runs).collect()
}

/// The cause if a server spins.
pub(crate) const SPINS: &str = "Your server is busy all the time, although no client sends anything: a loop \
                                runs without waiting. When a client has left, every read returns 0 bytes at \
                                once. A loop that waits for more bytes must end then.";

/// The failure if a server was reached before and cannot be reached now.
pub(crate) fn full(error: &io::Error) -> Failure {
    Failure::new(format!("your server accepts no more connections ({error})")).guess(
        "The system completes connections for your server and keeps them in a queue until your server accepts \
         them. This queue is full. Does your server call accept again and again? Or does it still wait for a \
         client that has left? (When a client has left, a read returns 0 bytes.)",
    )
}

/// The failure if a server is running but was never reached.
pub(crate) fn unreachable(port: u16, error: &io::Error, output: &str) -> Failure {
    Failure::new(format!(
        "your server is running, but cannot be reached on 127.0.0.1:{port}: {error}"
    ))
    .output(output)
    .cause(format!(
        "Does your server do something else before it listens, such as compile itself? \
                    Compile it first, and let SERVER start the result.\n{PORT}"
    ))
}

/// Adds a cause to a failure if the server is still running and its output shows what is wrong: a thread has
/// ended, or the server printed the answer.
pub(crate) fn accident(failure: Failure, output: &str) -> Failure {
    if ["Traceback", "panicked", "Exception"].iter().any(|word| output.contains(word)) {
        failure.cause(
            "Something in your server failed: read its output. Whatever fails, your server must close the \
             connection and keep running.",
        )
    } else if output.lines().any(|line| line.starts_with("HTTP/1.1 ")) {
        failure.cause(
            "There is an answer in your server's output. Did you print it instead of writing it to the \
             connection?",
        )
    } else {
        failure
    }
}
