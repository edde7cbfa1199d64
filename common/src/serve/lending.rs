//! A connection that lends its pending answers while the next request is answered (stage 12's lasting
//! form).

use std::io;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use crate::message::file::FilePart;
use crate::protocol::transport::{Transfer, Transport};
use crate::serve::helper::{Helper, Loan};
use crate::transport::tcp::Tcp;

/// A TCP connection with a helper, which sends pending bytes while the connection's thread does
/// something else.
pub(crate) struct Lending<'s> {
    tcp: Tcp<'s>,
    stream: &'s Arc<TcpStream>,
    helper: &'s Helper,
    /// Created when it is first needed: few connections have two requests at a time.
    loan: Option<Arc<Loan>>,
}

impl<'s> Lending<'s> {
    /// Creates a transport from this connection and this helper.
    pub(crate) fn new(tcp: Tcp<'s>, stream: &'s Arc<TcpStream>, helper: &'s Helper) -> Lending<'s> {
        Lending { tcp, stream, helper, loan: None }
    }

    /// Returns the connection.
    pub(crate) fn tcp(&mut self) -> &mut Tcp<'s> {
        &mut self.tcp
    }
}

impl Transport for Lending<'_> {
    fn receive(&mut self, buffer: &mut [u8], time: Duration) -> io::Result<Transfer> {
        self.tcp.receive(buffer, time)
    }

    fn send(&mut self, bytes: &[u8], time: Duration) -> io::Result<Transfer> {
        self.tcp.send(bytes, time)
    }

    fn flush(&mut self, time: Duration) -> io::Result<Transfer> {
        self.tcp.flush(time)
    }

    fn send_file(&mut self, part: &FilePart, time: Duration) -> io::Result<Transfer> {
        self.tcp.send_file(part, time)
    }

    fn has_heard_the_end(&mut self) -> bool {
        self.tcp.has_heard_the_end()
    }

    fn lend(&mut self, bytes: &mut Vec<u8>) -> bool {
        if self.tcp.has_filter() {
            return false; // the helper would send the bytes as they are
        }
        if self.loan.is_none() {
            self.loan = self.helper.loan(self.stream);
        }
        let Some(loan) = &self.loan else { return false };
        loan.lend(bytes);
        true
    }

    fn take_back(&mut self, bytes: &mut Vec<u8>) -> io::Result<()> {
        self.loan.as_ref().map_or(Ok(()), |loan| loan.take_back(bytes))
    }
}
