//! Who asks the members.

use std::io::{self, Read};
use std::time::Duration;

use common::{Call, Members, NotAnswered, Repeat, Told};

/// Asks any of the members of a cluster: a client of HTTP.
pub trait Ask: Send + Sync {
    /// Sends a body of JSON to this path with `POST`, and waits for the answer.
    ///
    /// # Errors
    ///
    /// When there is no answer: see [`NotAnswered`].
    fn ask(&self, path: &str, body: &[u8], repeat: Repeat) -> Result<Told, NotAnswered>;

    /// Does the same, and returns the body of the answer as it comes. Reading it fails when nothing has come for
    /// `patience`.
    ///
    /// # Errors
    ///
    /// When no member answers.
    fn listen(&self, path: &str, body: &[u8], patience: Duration) -> io::Result<Box<dyn Read>>;
}

const JSON: &[(&str, &str)] = &[("Content-Type", "application/json")];

impl Ask for Members {
    fn ask(&self, path: &str, body: &[u8], repeat: Repeat) -> Result<Told, NotAnswered> {
        self.call(&Call { method: "POST", target: path, fields: JSON, body }, repeat)
    }

    fn listen(&self, path: &str, body: &[u8], patience: Duration) -> io::Result<Box<dyn Read>> {
        let call = Call { method: "POST", target: path, fields: JSON, body };
        let incoming = self.begin(&call).inspect_err(|_| self.turn_away())?;
        Ok(Box::new(Patient { incoming, patience }))
    }
}

/// An answer that may take its time, as long as something comes now and then.
struct Patient {
    incoming: common::Incoming,
    patience: Duration,
}

impl Read for Patient {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        self.incoming.within(self.patience);
        self.incoming.read(room)
    }
}
