//! Errors that programs can read (RFC 9457).

use std::io;

use common::{Refused, Response, quoted};

use crate::records::Full;

pub struct Problem {
    status: u16,
    detail: String,
    /// A header that helps, such as `Accept`.
    header: Option<(&'static str, &'static str)>,
    /// What has gone wrong in the server, which is for the log.
    cause: Option<io::Error>,
}

impl Problem {
    pub fn new(status: u16, detail: impl Into<String>) -> Problem {
        Problem { status, detail: detail.into(), header: None, cause: None }
    }

    pub fn with(self, name: &'static str, value: &'static str) -> Problem {
        Problem { header: Some((name, value)), ..self }
    }

    fn response(self) -> Response {
        let (title, detail) = (quoted(common::reason(self.status)), quoted(&self.detail));
        let status = self.status;
        let text = format!("{{\"title\":{title},\"status\":{status},\"detail\":{detail}}}");
        let response = Response::of_type("application/problem+json", text).with_status(status);
        match self.header {
            Some((name, value)) => response.header(name, value),
            None => response,
        }
    }
}

/// What a handler returns: a problem of the client is an answer like others, and one of the server stays an error.
pub fn answer(result: Result<Response, Problem>) -> io::Result<Response> {
    match result {
        Err(Problem { cause: Some(error), .. }) => Err(error),
        result => Ok(result.unwrap_or_else(Problem::response)),
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Problem {
        Problem::new(refused.status, refused.why)
    }
}

impl From<Full> for Problem {
    fn from(_: Full) -> Problem {
        Problem::new(507, "there is no room for more records")
    }
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Problem {
        match Refused::inside(&error) {
            Some(refused) => refused.into(),
            None => Problem { cause: Some(error), ..Problem::new(500, "") },
        }
    }
}
