//! Many clients at once (stage 6's lasting form).

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::serve::log::log;
use crate::transport::client::Client;
use crate::transport::listener::Listener;

/// How long to wait before the next attempt when no connection can be accepted.
pub(crate) const PAUSE: Duration = Duration::from_millis(50);

/// Calls `attend` for each client, in a separate thread, until the listener is stopped.
///
/// If the system has no thread for a client, its connection is closed, and the next client gets a new
/// attempt. A panic in `attend` ends its thread and nothing else.
///
/// # Errors
///
/// None. The type saves its callers a line.
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

    /// Waits for the next client, without a time limit. Returns `None` when the listener has been
    /// stopped. A connection that fails before it is accepted is logged and skipped. So is any other
    /// error, such as a shortage of file descriptors, but after a pause.
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

/// Logs that no connection could be accepted, and waits a little unless the client caused that.
pub(crate) fn cannot_accept(error: &io::Error) {
    log(format_args!("cannot accept a connection: {error}"));
    if error.kind() != io::ErrorKind::ConnectionAborted {
        thread::sleep(PAUSE);
    }
}
