//! Many clients at once (stage 6's lasting form).

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::serve::log::log;
use crate::transport::client::Client;
use crate::transport::listener::Listener;

/// How long to wait before the next try when no connection can be accepted.
pub(crate) const PAUSE: Duration = Duration::from_millis(50);

/// Calls `attend` for each client, in a thread of its own, for ever.
///
/// A client for whom the system has no thread is hung up on, and the next one gets a new try; a
/// panic in `attend` ends its thread and nothing else.
///
/// # Errors
///
/// None: it never returns. The type saves its callers a line.
pub fn serve(
    listener: Listener,
    attend: impl Fn(&Client) + Send + Sync + 'static,
) -> io::Result<()> {
    let attend = Arc::new(attend);
    for client in listener {
        let peer = client.peer();
        let attend = Arc::clone(&attend);
        let thread = thread::Builder::new().spawn(move || attend(&client));
        if let Err(error) = thread {
            log(format_args!("{peer} gets no thread: {error}"));
        }
    }
    Ok(())
}

impl Iterator for Listener {
    type Item = Client;

    /// Waits for the next client, as long as it takes. A connection that fails before it is accepted is
    /// logged and skipped; so is a shortage of file descriptors, after a pause.
    fn next(&mut self) -> Option<Client> {
        loop {
            match self.accept() {
                Ok(None) => return None,
                Ok(Some((stream, peer))) => match Client::new(stream, peer, self.timeout()) {
                    Ok(client) => return Some(client),
                    Err(error) => log(format_args!("{peer} left at once: {error}")),
                },
                Err(error) => cannot_accept(&error),
            }
        }
    }
}

/// Logs that no connection could be accepted, and waits a little if the system is to blame.
pub(crate) fn cannot_accept(error: &io::Error) {
    log(format_args!("cannot accept a connection: {error}"));
    if error.kind() != io::ErrorKind::ConnectionAborted {
        thread::sleep(PAUSE);
    }
}
