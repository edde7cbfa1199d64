//! A socket that listens (stage 1's lasting form).

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use crate::protocol::transport::SLICE;
use crate::transport::client::TIMEOUT;
use crate::transport::tcp::INHERITS;

/// A socket that accepts connections, for any number of threads at a time, until it is stopped.
///
/// It is also an endless iterator of [`Client`](crate::Client)s.
#[derive(Debug, Clone)]
pub struct Listener {
    shared: Arc<Shared>,
    /// What its clients have for each read and write.
    timeout: Duration,
}

#[derive(Debug)]
struct Shared {
    socket: TcpListener,
    address: SocketAddr,
    is_stopped: AtomicBool,
    /// A socket that is made beforehand: there may be no descriptor for one when it is needed.
    reserve: Mutex<Option<Socket>>,
}

impl Listener {
    /// Binds `port` of 127.0.0.1, or a free port if it is 0, and lets as many clients wait to be
    /// accepted as the system allows.
    ///
    /// # Errors
    ///
    /// When the port is taken or not allowed.
    pub fn bind(port: u16) -> io::Result<Listener> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        if cfg!(unix) {
            // The port of a connection that was closed a moment ago is not taken. (Under Windows this
            // option would let two programs have the same port.)
            socket.set_reuse_address(true)?;
        }
        socket.set_tcp_nodelay(true)?; // which its connections inherit, where that is the custom
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
        socket.listen(i32::MAX)?;
        let socket = TcpListener::from(socket);
        let address = socket.local_addr()?;
        let reserve = Mutex::new(Some(Socket::new(Domain::IPV4, Type::STREAM, None)?));
        let is_stopped = AtomicBool::new(false);
        let shared = Arc::new(Shared { socket, address, is_stopped, reserve });
        Ok(Listener { shared, timeout: TIMEOUT })
    }

    /// Gives its [`Client`](crate::Client)s so much time for each read and each write.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Listener {
        Listener { timeout, ..self }
    }

    /// The time that its clients have for each read and each write.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Gives its connections beforehand the time limits that [`Tcp::prepared`](crate::transport::tcp::Tcp)
    /// takes for granted: under Linux they inherit them, and need not be told one by one. Then accepting has
    /// a time limit, too.
    ///
    /// # Errors
    ///
    /// When the system refuses a time limit.
    pub(crate) fn prepare(&self, idle_timeout: Duration) -> io::Result<()> {
        if !INHERITS {
            return Ok(());
        }
        let socket = SockRef::from(&self.shared.socket);
        socket.set_read_timeout(Some(idle_timeout))?;
        socket.set_write_timeout(Some(SLICE))
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// A function that stops it: whoever waits for a connection gets none, nor does anybody later. It
    /// needs no thread and no descriptor, and does nothing when the listener is gone.
    pub fn stopper(&self) -> impl Fn() + Send + use<> {
        let shared = Arc::downgrade(&self.shared);
        move || {
            if let Some(shared) = shared.upgrade() {
                shared.is_stopped.store(true, Ordering::Relaxed);
                shared.wake_one();
            }
        }
    }

    /// Waits for the next connection. `None` when it has been stopped.
    ///
    /// # Errors
    ///
    /// When a connection failed before it was accepted, or the system has no descriptor for it, and when
    /// nobody came within the time limit, if it has one.
    pub(crate) fn accept(&self) -> io::Result<Option<(TcpStream, SocketAddr)>> {
        let accepted = self.shared.socket.accept();
        if self.shared.is_stopped.load(Ordering::Relaxed) {
            drop(accepted);
            self.shared.wake_one(); // and that one the next, where that is needed
            return Ok(None);
        }
        let (stream, peer) = accepted?;
        if !INHERITS {
            stream.set_nodelay(true)?;
        }
        Ok(Some((stream, peer)))
    }
}

impl Shared {
    /// Under Linux, whoever waits for a connection wakes up when no more can come. Elsewhere one of
    /// them wakes up because one comes.
    fn wake_one(&self) {
        if SockRef::from(&self.socket).shutdown(Shutdown::Both).is_ok() {
            return;
        }
        let reserve = self.reserve.lock().ok().and_then(|mut reserve| reserve.take());
        let connected = match reserve {
            Some(socket) => socket.connect(&self.address.into()),
            None => TcpStream::connect(self.address).map(drop),
        };
        drop(connected); // if nobody listens any more, nobody waits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn connections_are_prepared_where_that_is_the_custom() {
        let listener = Listener::bind(0).expect("a free port");
        let idle_timeout = Duration::from_secs(7);
        listener.prepare(idle_timeout).expect("the system takes time limits");
        let _peer = TcpStream::connect(listener.address()).expect("it listens");
        let (stream, _) = listener.accept().expect("somebody comes").expect("it is not stopped");
        assert!(stream.nodelay().expect("it is connected"));
        if INHERITS {
            assert_eq!(stream.read_timeout().expect("it is connected"), Some(idle_timeout));
            assert_eq!(stream.write_timeout().expect("it is connected"), Some(SLICE));
        }
    }

    #[test]
    fn all_who_wait_return_when_it_is_stopped() {
        let listener = Listener::bind(0).expect("a free port");
        let stop = listener.stopper();
        let waiting: Vec<_> = (0..4)
            .map(|_| {
                let listener = listener.clone();
                thread::spawn(move || listener.accept().map(|accepted| accepted.is_none()))
            })
            .collect();
        stop();
        for thread in waiting {
            assert!(thread.join().expect("no panic").expect("it is no failure"));
        }
        assert!(
            listener.accept().expect("it is no failure").is_none(),
            "nor does anybody come later"
        );
    }
}
