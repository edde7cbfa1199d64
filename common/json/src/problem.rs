//! Errors that programs can read (stage 19's lasting form).

use std::io;

use common::{Refused, Response, reason};
use serde_json::json;

/// Why a request is not answered as the client wanted: a status, and a sentence (RFC 9457).
///
/// ```
/// use json::Problem;
///
/// let response = Problem::new(422, "the title is missing").response().expect("the client's fault");
/// assert_eq!(response.status(), 422);
/// assert_eq!(response.get("Content-Type"), Some("application/problem+json"));
/// ```
#[derive(Debug)]
pub struct Problem {
    status: u16,
    detail: String,
    header: Option<(&'static str, &'static str)>,
    /// What has gone wrong in the server, which is for the log.
    cause: Option<io::Error>,
}

impl Problem {
    /// A problem with this status, a 4xx or 5xx, and a sentence for whoever has to mend it.
    pub fn new(status: u16, detail: impl Into<String>) -> Problem {
        Problem { status, detail: detail.into(), header: None, cause: None }
    }

    /// Adds a field that helps, such as `Accept`.
    #[must_use]
    pub fn with(self, name: &'static str, value: &'static str) -> Problem {
        Problem { header: Some((name, value)), ..self }
    }

    /// Returns the response.
    ///
    /// # Errors
    ///
    /// What has gone wrong in the server: see [`Response::failed`].
    pub fn response(self) -> io::Result<Response> {
        if let Some(cause) = self.cause {
            return Err(cause);
        }
        let title = reason(self.status);
        let text = json!({ "title": title, "status": self.status, "detail": self.detail });
        let response = Response::of_type("application/problem+json", text.to_string());
        let response = response.with_status(self.status);
        Ok(match self.header {
            Some((name, value)) => response.header(name, value),
            None => response,
        })
    }
}

/// Returns what a handler returns: the response, that of the problem, or the server's own error.
///
/// # Errors
///
/// As [`Problem::response`].
pub fn answer(result: Result<Response, Problem>) -> io::Result<Response> {
    result.or_else(Problem::response)
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Problem {
        let problem = Problem::new(refused.status, refused.why);
        match refused.status {
            503 => problem.with("Retry-After", "1"),
            _ => problem,
        }
    }
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Problem {
        match Refused::inside(&error) {
            Some(refused) => refused.into(),
            None if error.kind() == io::ErrorKind::StorageFull => {
                Problem::new(507, error.to_string())
            }
            None => Problem { cause: Some(error), ..Problem::new(500, "") },
        }
    }
}
