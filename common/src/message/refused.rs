//! Why a request is refused (stage 3's lasting form).

use std::error::Error;
use std::fmt;
use std::io;

/// The refusal of a request: the status of the response, and the reason in a sentence.
///
/// It can travel inside an [`io::Error`]. That is how the client's errors are told from the server's
/// own: an error without a `Refused` in it is never the client's fault.
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
    /// Returns the refusal that an error carries, if any.
    pub fn inside(error: &io::Error) -> Option<Refused> {
        error.get_ref().and_then(|inner| inner.downcast_ref::<Refused>()).copied()
    }
}

/// Returns the refusal 400: the request breaks the rules of the protocol (RFC 9110, section 15.5.1).
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
    /// Wraps the refusal in an error. Its kind is `NotFound` for 404, `TimedOut` for 408, and
    /// `InvalidData` for all others.
    fn from(refused: Refused) -> io::Error {
        let kind = match refused.status {
            404 => io::ErrorKind::NotFound,
            408 => io::ErrorKind::TimedOut,
            _ => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, refused)
    }
}
