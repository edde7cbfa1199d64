//! Servers to measure or to compare: they are started in the background, and stopped at the end.

use std::io;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::port::{self, Port};

/// Longer than any server takes to start.
const TIME_TO_START: Duration = Duration::from_secs(10);

/// A server that runs until this is dropped. Its output is discarded.
pub struct Background {
    child: Child,
}

impl Background {
    /// Starts a server, and waits until it listens on this port of 127.0.0.1.
    ///
    /// # Errors
    ///
    /// When the server cannot be started, when it ends, and when it does not listen in time.
    pub fn start(command: &mut Command, port: u16) -> io::Result<Background> {
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let mut server = Background { child };
        let start = Instant::now();
        while !port::answers(port) {
            if server.child.try_wait()?.is_some() {
                return Err(io::Error::other("the server has ended"));
            }
            if start.elapsed() > TIME_TO_START {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "the server does not listen"));
            }
            thread::sleep(Duration::from_millis(10));
        }
        Ok(server)
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port of 127.0.0.1 that no program uses at this moment.
pub fn free_port() -> u16 {
    Port::free().number
}
