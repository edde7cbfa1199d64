//! Why a request is not answered as it asks (stage 3's lasting form).

use std::error::Error;
use std::fmt;
use std::io;

/// A request that the server refuses: the status to answer with, and the reason in a sentence.
///
/// It can travel inside an [`io::Error`]. That is how the client's faults are told from the server's
/// own: an error without a `Refused` in it is never the client's.
///
/// ```
/// use common::Refused;
///
/// let error = std::io::Error::from(Refused { status: 413, why: "the body is too large" });
/// assert_eq!(Refused::inside(&error).map(|refused| refused.status), Some(413));
/// assert_eq!(Refused::inside(&std::io::Error::other("the disk is on fire")), None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// A status code of the class 4xx or 5xx (RFC 9110, section 15).
    pub status: u16,
    /// What is wrong with the request, for the client to read.
    pub why: &'static str,
}

impl Refused {
    /// The refusal that an error carries, if it carries one.
    pub fn inside(error: &io::Error) -> Option<Refused> {
        error.get_ref().and_then(|inner| inner.downcast_ref::<Refused>()).copied()
    }
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
    /// The kind says something about two refusals only: `TimedOut` for 408, `NotFound` for 404.
    fn from(refused: Refused) -> io::Error {
        let kind = match refused.status {
            404 => io::ErrorKind::NotFound,
            408 => io::ErrorKind::TimedOut,
            _ => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, refused)
    }
}
