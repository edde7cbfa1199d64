//! Servers to measure or to compare: they are started in the background, and stopped at the end.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
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

/// Sends a request on a connection of its own. `fields` are whole lines. Returns the status, the head, and the body.
///
/// # Errors
///
/// When there is no whole answer within ten seconds.
pub fn ask(
    port: u16,
    method: &str,
    path: &str,
    fields: &str,
    body: &str,
) -> io::Result<(u16, String, String)> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(TIME_TO_START))?;
    let length = body.len();
    let head =
        format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{fields}");
    let request =
        format!("{head}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let status = head.get(9..12).and_then(|code| code.parse().ok());
    Ok((status.ok_or(io::ErrorKind::InvalidData)?, head.to_owned(), body.to_owned()))
}

/// A port of 127.0.0.1 that no program uses at this moment.
pub fn free_port() -> u16 {
    Port::free().number
}
