//! A listening socket (stage 1's lasting form).

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
/// It is also an iterator of [`Client`](crate::Client)s, which ends when the listener is stopped.
#[derive(Debug, Clone)]
pub struct Listener {
    shared: Arc<Shared>,
    /// How long its clients may take for each read and each write.
    timeout: Duration,
}

#[derive(Debug)]
struct Shared {
    socket: TcpListener,
    address: SocketAddr,
    is_stopped: AtomicBool,
    /// A socket that is created beforehand: there may be no descriptor left for one when it is needed.
    reserve: Mutex<Option<Socket>>,
}

impl Listener {
    /// Binds `port` of 127.0.0.1, or a free port if it is 0, with the longest backlog that the system
    /// allows.
    ///
    /// # Errors
    ///
    /// When the port is taken or not allowed.
    pub fn bind(port: u16) -> io::Result<Listener> {
        Listener::listening(bound(port)?)
    }

    /// Binds as [`Listener::bind`] does, and lets this program bind further sockets to the same port: the system deals
    /// out the connections among them, where it can do that. From stage 21.
    ///
    /// # Errors
    ///
    /// As [`Listener::bind`].
    #[cfg(target_os = "linux")]
    pub fn bind_for_several(port: u16) -> io::Result<Listener> {
        // Another program that has the port may also let others join. This socket would be refused, and tells us.
        let alone = bound(port)?;
        let address = alone.local_addr()?;
        let socket = prepared()?;
        socket.set_reuse_port(true)?;
        socket.bind(&address)?;
        Listener::listening(socket)
    }

    /// Binds as [`Listener::bind`] does. From stage 21.
    ///
    /// # Errors
    ///
    /// As [`Listener::bind`].
    #[cfg(not(target_os = "linux"))]
    pub fn bind_for_several(port: u16) -> io::Result<Listener> {
        Listener::bind(port)
    }

    fn listening(socket: Socket) -> io::Result<Listener> {
        socket.listen(i32::MAX)?;
        let socket = TcpListener::from(socket);
        let address = socket.local_addr()?;
        let reserve = Mutex::new(Some(Socket::new(Domain::IPV4, Type::STREAM, None)?));
        let is_stopped = AtomicBool::new(false);
        let shared = Arc::new(Shared { socket, address, is_stopped, reserve });
        Ok(Listener { shared, timeout: TIMEOUT })
    }

    /// Sets how long its [`Client`](crate::Client)s may take for each read and each write.
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Listener {
        Listener { timeout, ..self }
    }

    /// Returns how long its clients may take for each read and each write.
    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Sets the timeouts that [`Tcp::prepared`](crate::transport::tcp::Tcp) expects its connections to have.
    /// Under Linux, connections inherit the timeouts of the listener, so that they need not be set for each
    /// one. Accepting has a timeout as well then. Other systems set none here.
    ///
    /// # Errors
    ///
    /// When the system refuses a timeout.
    pub(crate) fn prepare(&self, idle_timeout: Duration) -> io::Result<()> {
        if !INHERITS {
            return Ok(());
        }
        let socket = SockRef::from(&self.shared.socket);
        socket.set_write_timeout(Some(SLICE))?;
        socket.set_read_timeout(Some(idle_timeout)) // the last: a connection that has this one has both
    }

    /// Returns the address that the listener is bound to.
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// Returns a function that stops the listener. The threads that wait for a connection get none, and no
    /// later call gets one. The function needs no thread and no descriptor, and does nothing when the
    /// listener is gone.
    pub fn stopper(&self) -> impl Fn() + Send + use<> {
        let shared = Arc::downgrade(&self.shared);
        move || {
            if let Some(shared) = shared.upgrade() {
                shared.is_stopped.store(true, Ordering::Relaxed);
                shared.wake_one();
            }
        }
    }

    /// Waits for the next connection. Returns `None` when the listener has been stopped.
    ///
    /// # Errors
    ///
    /// When a connection failed before it was accepted, when the system has no descriptor for it, and when
    /// no client connected within the timeout, if the listener has one.
    pub(crate) fn accept(&self) -> io::Result<Option<(TcpStream, SocketAddr)>> {
        let accepted = self.shared.socket.accept();
        if self.shared.is_stopped.load(Ordering::Relaxed) {
            drop(accepted);
            self.shared.wake_one(); // which wakes the next one, where that is needed
            return Ok(None);
        }
        let (stream, peer) = accepted?;
        if !INHERITS {
            stream.set_nodelay(true)?;
        }
        Ok(Some((stream, peer)))
    }
}

impl Listener {
    /// Returns the socket, to be used without waiting. From stage 21.
    pub(crate) fn socket(&self) -> io::Result<TcpListener> {
        let socket = self.shared.socket.try_clone()?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    }
}

/// A socket of which the connections send at once what they are given.
fn prepared() -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    if cfg!(unix) {
        // Without this option, a connection that was closed a moment ago would keep the port taken.
        // (Under Windows it would let two programs have the same port.)
        socket.set_reuse_address(true)?;
    }
    socket.set_tcp_nodelay(true)?; // which its connections inherit on some systems
    Ok(socket)
}

fn bound(port: u16) -> io::Result<Socket> {
    let socket = prepared()?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into())?;
    Ok(socket)
}

impl Shared {
    /// Wakes a thread that waits for a connection. Under Linux all of them wake up, because no connection
    /// can arrive any more. Elsewhere one of them wakes up, because a connection arrives.
    fn wake_one(&self) {
        if SockRef::from(&self.socket).shutdown(Shutdown::Both).is_ok() {
            return;
        }
        let reserve = self.reserve.lock().ok().and_then(|mut reserve| reserve.take());
        let connected = match reserve {
            Some(socket) => socket.connect(&self.address.into()),
            None => TcpStream::connect(self.address).map(drop),
        };
        drop(connected); // if the socket does not listen any more, no thread waits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn connections_inherit_timeouts_on_linux() {
        let listener = Listener::bind(0).expect("a free port");
        let idle_timeout = Duration::from_secs(7);
        listener.prepare(idle_timeout).expect("the system accepts timeouts");
        let _peer = TcpStream::connect(listener.address()).expect("the socket listens");
        let (stream, _) = listener.accept().expect("a client connects").expect("not stopped");
        assert!(stream.nodelay().expect("connected"));
        if INHERITS {
            assert_eq!(stream.read_timeout().expect("connected"), Some(idle_timeout));
            assert_eq!(stream.write_timeout().expect("connected"), Some(SLICE));
        }
    }

    #[test]
    fn stopping_wakes_all_waiting_threads() {
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
            assert!(thread.join().expect("no panic").expect("no error"));
        }
        assert!(
            listener.accept().expect("no error").is_none(),
            "nor is a connection accepted later"
        );
    }
}
