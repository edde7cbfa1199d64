//! A client that sends without end, and reads whatever comes back.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread::{self, JoinHandle};

use crate::{Failure, Server};

/// A client that sends the same bytes again and again, until this is dropped.
pub struct Flood {
    stream: TcpStream,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    /// Begins to send these bytes, again and again.
    ///
    /// # Errors
    ///
    /// When there is no connection.
    pub fn flood(&self, bytes: &[u8]) -> Result<Flood, Failure> {
        let stream = self.connect()?.into_stream();
        let copy = || {
            let copied = stream.try_clone();
            copied.map_err(|error| Failure::new(format!("this check has no descriptor: {error}")))
        };
        let (mut writer, mut reader, bytes) = (copy()?, copy()?, bytes.to_vec());
        let threads = vec![
            thread::spawn(move || while writer.write_all(&bytes).is_ok() {}),
            thread::spawn(move || {
                let mut block = vec![0; 1 << 16];
                while matches!(reader.read(&mut block), Ok(1..)) {}
            }),
        ];
        Ok(Flood { stream, threads })
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both); // which ends both threads
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}
