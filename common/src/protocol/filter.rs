//! What may stand between a socket and a conversation, and turns bytes into bytes (for stage 23).

use std::fmt::Debug;
use std::io::{self, Read, Write};
use std::sync::Arc;

/// A socket, as a [`Filter`] sees it. It may wait, up to its timeouts, or not at all: when the time is up, it says
/// `WouldBlock` or `TimedOut`.
pub trait Wire: Read + Write {}

impl<W: Read + Write> Wire for W {}

/// Turns what arrives on a socket into what the client says, and what the client is told into what is sent: TLS.
///
/// It reads at most once for each call. So it is the same for a thread, which waits in that read, and for an event loop,
/// which does not wait at all. When it has read something, and the client has said nothing yet, it says `Interrupted`:
/// call it again.
pub trait Filter: Send {
    /// Goes on with what comes before the conversation, such as a handshake. Returns whether that is done.
    ///
    /// # Errors
    ///
    /// `WouldBlock` or `TimedOut` if the client has to do something first, `UnexpectedEof` if it has left. A
    /// [`Refused`](crate::Refused) if it should be told what is wrong, without this filter.
    fn open(&mut self, wire: &mut dyn Wire) -> io::Result<bool>;

    /// Reads what the client says. 0 bytes mean that it says no more.
    ///
    /// # Errors
    ///
    /// When the connection is broken; `WouldBlock` or `TimedOut` if nothing has arrived; `Interrupted` if the client has
    /// said nothing yet with what has arrived.
    fn receive(&mut self, wire: &mut dyn Wire, room: &mut [u8]) -> io::Result<usize>;

    /// Takes some of these bytes, one at least, and sends what can be sent. Returns how many it has taken: what of them
    /// cannot be sent yet, it remembers.
    ///
    /// # Errors
    ///
    /// When the connection is broken; `WouldBlock` or `TimedOut` if it cannot take any.
    fn send(&mut self, wire: &mut dyn Wire, bytes: &[u8]) -> io::Result<usize>;

    /// Sends what has been taken and not sent yet.
    ///
    /// # Errors
    ///
    /// When the connection is broken; `WouldBlock` or `TimedOut` if something is left.
    fn flush(&mut self, wire: &mut dyn Wire) -> io::Result<()>;

    /// Tells the client that this is the end, and nothing has been cut off. If that fails, nobody needs to know.
    fn close(&mut self, wire: &mut dyn Wire);

    /// Whether there may be more to read although [`Filter::receive`] has not filled its room.
    fn has_more(&self) -> bool {
        true
    }

    /// Whether the client is known to say nothing more, without taking what it may have said.
    fn has_heard_the_end(&mut self, wire: &mut dyn Wire) -> bool {
        let _ = wire;
        false
    }

    /// Returns whom this server has shown to be. `None` if that is not known.
    fn authority(&self) -> Option<Arc<dyn Authority>> {
        None
    }
}

/// Returns the error for a client that [`Filter::open`] has waited for in vain.
pub fn handshake_timeout() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the handshake took too long")
}

/// Who a server has shown to be (RFC 9110, section 4.3.3).
pub trait Authority: Debug + Send + Sync {
    /// Whether this is one of its names. `host` is a name or an address, without a port.
    fn covers(&self, host: &str) -> bool;
}
