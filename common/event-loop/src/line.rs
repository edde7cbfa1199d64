//! A connection that never waits, with the filter that may be between its socket and the conversation.

use std::io::{self, Read, Write};
use std::sync::Arc;

use common::{Authority, FilePart, Filter, send_part};
use mio::net::TcpStream;

use crate::talk::Socket;

/// How many bytes of a file are read at a time if a filter has to see them.
const BLOCK: usize = 64 * 1024;

/// A socket, and its filter if it has one.
pub(crate) struct Line {
    pub(crate) stream: TcpStream,
    pub(crate) filter: Option<Box<dyn Filter>>,
}

impl Line {
    /// Goes on with what the filter needs before the conversation. Returns whether that is done.
    pub(crate) fn open(&mut self) -> io::Result<bool> {
        match &mut self.filter {
            None => Ok(true),
            Some(filter) => filter.open(&mut self.stream),
        }
    }

    /// Returns whom the client has been shown that this server is.
    pub(crate) fn authority(&self) -> Option<Arc<dyn Authority>> {
        self.filter.as_ref().and_then(|filter| filter.authority())
    }

    /// Says goodbye, if there is a filter to do that.
    pub(crate) fn close(&mut self) {
        if let Some(filter) = &mut self.filter {
            filter.close(&mut self.stream);
        }
    }
}

impl Socket for Line {
    fn receive(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match &mut self.filter {
            None => self.stream.read(room),
            Some(filter) => filter.receive(&mut self.stream, room),
        }
    }

    fn has_more(&self) -> bool {
        self.filter.as_ref().is_some_and(|filter| filter.has_more())
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.filter {
            None => self.stream.write(bytes),
            Some(filter) => filter.send(&mut self.stream, bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.filter {
            None => Ok(()),
            Some(filter) => filter.flush(&mut self.stream),
        }
    }

    fn send_part(&mut self, part: &FilePart) -> io::Result<usize> {
        let Some(filter) = &mut self.filter else { return send_part(&self.stream, part) };
        let mut block = vec![0; usize::try_from(part.left()).map_or(BLOCK, |left| left.min(BLOCK))];
        match part.peek(&mut block)? {
            0 => Ok(0), // the file has become shorter
            count => filter.send(&mut self.stream, &block[..count]),
        }
    }
}
