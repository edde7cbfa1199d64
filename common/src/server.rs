//! Many clients at once (stage 6's lasting form).

use std::io;
use std::sync::Arc;
use std::thread;

use crate::{Client, Listener, log};

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
