//! What is the matter with a server that has ended, or cannot be reached.

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
const PORT: &str = "The checks choose a free port and pass it in the environment variable PORT. The \
                    server must listen on that port of 127.0.0.1, within 5 seconds of its start.\n\
                    In Rust: env::var(\"PORT\").unwrap_or(\"4221\".into())\n\
                    In Python: int(os.environ.get(\"PORT\", \"4221\"))";

/// What a server's end means, judging by its exit status and its last words. Somebody may have
/// been connected to it before.
pub(crate) fn ended(status: ExitStatus, output: &str, was_reached: bool) -> Failure {
    let words = output.to_lowercase();
    let is_in_use = words.contains("in use") || words.contains("eaddrinuse");
    let failure = match status.code() {
        // The exit codes by which a shell says that there is no such program, or that it may not
        // be run.
        Some(126 | 127) if choice::is_command() => {
            Failure::new("the command in SERVER starts no program").cause(
                "It is run by the shell in the top directory of this repository: is the path in \
                 it right from there?",
            )
        }
        _ if is_in_use && env::var_os("PORT").is_some() => {
            Failure::new("your server could not bind its port").cause(
                "The port of a closed connection stays in use for a minute or so, unless the \
                 server says before bind that it does not mind. Rust does that by itself.\n\
                 In Python: listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)",
            )
        }
        _ if is_in_use => Failure::new("your server could not bind its port").cause(format!(
            "Another program has it. The checks run several servers at once, so each needs a port of \
             its own.\n{PORT}"
        )),
        _ if was_reached => Failure::new(format!("your server has ended ({status})"))
            .guess("A server goes on until it is stopped, whatever its clients do."),
        _ => Failure::new(format!("your server ended before anyone could connect ({status})")).cause(
            if status.success() {
                "A server binds its port, then accepts clients in a loop that never ends."
            } else {
                "It could not start. Its output, if there is any, says why. (It runs in the top directory \
                 of this repository. Some checks give it arguments, which its chapter lists.)"
            },
        ),
    };
    failure.output(output)
}

/// A server that does not listen where it should, if it listens elsewhere. `taken` are the ports on
/// which somebody listened before it was started.
pub(crate) fn elsewhere(process: &mut Process, wanted: u16, taken: &[u16]) -> Option<Failure> {
    if let Some(found) = port::of_processes(&process.family()) {
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
    // Where the system does not tell, a port is the server's if it falls silent with it.
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

/// Whether a server is busy although it has nothing to do: one of its threads never waits, as often as one
/// looks. Only Linux tells.
pub(crate) fn spins(family: &[u32]) -> bool {
    const LOOKS: u32 = 20;
    const PAUSE: Duration = Duration::from_millis(25);
    let mut never_waiting = running_threads(family);
    for _ in 1..LOOKS {
        if never_waiting.is_empty() {
            return false;
        }
        thread::sleep(PAUSE);
        let running = running_threads(family);
        never_waiting.retain(|thread| running.contains(thread));
    }
    !never_waiting.is_empty()
}

/// The threads of some processes that run, or would if a processor were free (see proc(5)).
fn running_threads(family: &[u32]) -> Vec<PathBuf> {
    let folders = family.iter().filter_map(|id| fs::read_dir(format!("/proc/{id}/task")).ok());
    let threads = folders.flatten().flatten().map(|thread| thread.path());
    let runs = |thread: &PathBuf| {
        let stat = fs::read_to_string(thread.join("stat")).unwrap_or_default();
        stat.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" R"))
    };
    threads.filter(runs).collect()
}

/// What a server does that spins.
pub(crate) const SPINS: &str = "Your server is busy all the time, although nobody sends anything: a loop \
                                spins. When a client has left, each read returns 0 bytes at once, now and \
                                for ever. A loop that waits for more bytes has to end then.";

/// A server that was reached before, and now is not.
pub(crate) fn full(error: &io::Error) -> Failure {
    Failure::new(format!("your server takes no more connections ({error})")).guess(
        "The system connects clients on behalf of the server and keeps them in a queue, until the \
         server accepts them. The queue is full. Does your server call accept, again and again? Or does \
         it still wait for a client that has left? (A read of 0 bytes says that it has.)",
    )
}

/// A server that runs and cannot be reached.
pub(crate) fn unreachable(port: u16, error: &io::Error, output: &str) -> Failure {
    Failure::new(format!("your server runs, but cannot be reached on 127.0.0.1:{port}: {error}"))
        .output(output)
        .cause(format!("Perhaps it does something else before it listens?\n{PORT}"))
}

/// A failure of a server that lives, but whose output tells what is the matter: a thread has ended,
/// or the answer went to the terminal.
pub(crate) fn accident(failure: Failure, output: &str) -> Failure {
    if ["Traceback", "panicked", "Exception"].iter().any(|word| output.contains(word)) {
        failure.cause(
            "Something in your server failed while it answered: see its output. (Whatever fails, \
             the connection should be closed, and the server go on.)",
        )
    } else if output.lines().any(|line| line.starts_with("HTTP/1.1 ")) {
        failure.cause(
            "There is an answer in your server's output. Was it printed, instead of being written to \
             the connection?",
        )
    } else {
        failure
    }
}
