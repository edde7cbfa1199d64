//! Why a request is not answered as it asks (stage 3's lasting form).

use std::error::Error;
use std::fmt;
use std::io;

/// A request that the server refuses: the status to answer with, and the reason in a sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// A status code of the class 4xx or 5xx (RFC 9110, section 15).
    pub status: u16,
    /// What is wrong with the request, for the client to read.
    pub why: &'static str,
}

/// 400: the request breaks the rules of the protocol (RFC 9110, section 15.5.1).
pub(crate) const fn bad_request(why: &'static str) -> Refused {
    Refused { status: 400, why }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.why)
    }
}

impl Error for Refused {}

impl From<Refused> for io::Error {
    fn from(refused: Refused) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, refused)
    }
}
