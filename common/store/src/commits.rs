//! Which changes are on their way to the disk, and what has become of them.
//!
//! While one commit runs, the next changes are collected, and go together in the next one: 64 clients need two or three
//! waits for the disk, and not 64.

use std::collections::BTreeMap;
use std::io;

/// A change: the id, the number of the change, and what the record is then.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Write {
    pub(crate) id: u64,
    pub(crate) revision: u64,
    /// Whether there was no record with this id before.
    pub(crate) is_new: bool,
    /// JSON; `None` if the record is removed.
    pub(crate) text: Option<String>,
}

/// The changes that are not on the disk yet, in batches, and the numbers that have been given away.
#[derive(Debug, Default)]
pub(crate) struct Commits {
    pub(crate) last_id: u64,
    pub(crate) revision: u64,
    /// The number of the batch that is being collected.
    collecting: u64,
    batch: Vec<Write>,
    /// Whether a batch is being written.
    pub(crate) is_running: bool,
    /// The last change of each record that is not on the disk yet, and the number of its batch.
    pending: BTreeMap<u64, (u64, Write)>,
    /// What has become of batches, and how many clients have not heard of it yet.
    outcomes: BTreeMap<u64, (Outcome, usize)>,
}

/// What has become of a batch: nothing to say, or an error for all of its clients.
type Outcome = Result<(), (io::ErrorKind, String)>;

impl Commits {
    /// No changes, after these numbers have been used.
    pub(crate) fn after(last_id: u64, revision: u64) -> Commits {
        Commits { last_id, revision, ..Commits::default() }
    }

    /// Adds a change to the batch that is being collected. Returns the number of the batch.
    pub(crate) fn add(&mut self, write: Write) -> u64 {
        self.last_id = self.last_id.max(write.id);
        self.revision = self.revision.max(write.revision);
        self.pending.insert(write.id, (self.collecting, write.clone()));
        self.batch.push(write);
        self.collecting
    }

    /// The last change of a record, if it is not on the disk yet.
    pub(crate) fn pending(&self, id: u64) -> Option<&Write> {
        self.pending.get(&id).map(|(_, write)| write)
    }

    /// Takes the batch, to write it. The next changes go to another one.
    pub(crate) fn begin(&mut self) -> (u64, Vec<Write>) {
        self.is_running = true;
        self.collecting += 1;
        (self.collecting - 1, std::mem::take(&mut self.batch))
    }

    /// Says what has become of a batch. If it has failed, so has the one that was collected in the meantime: what is in
    /// it was decided with the failed changes in view.
    pub(crate) fn end(&mut self, number: u64, clients: usize, result: io::Result<()>) {
        self.is_running = false;
        let outcome = result.map_err(|error| (error.kind(), error.to_string()));
        self.pending.retain(|_, (batch, _)| outcome.is_ok() && *batch > number);
        if outcome.is_err() && !self.batch.is_empty() {
            self.outcomes.insert(self.collecting, (outcome.clone(), self.batch.len()));
            self.batch.clear();
            self.collecting += 1;
        }
        self.outcomes.insert(number, (outcome, clients));
    }

    /// What has become of a batch, for one of its clients; `None` if that is not known yet.
    pub(crate) fn outcome(&mut self, number: u64) -> Option<io::Result<()>> {
        let (outcome, clients) = self.outcomes.get_mut(&number)?;
        *clients -= 1;
        let (outcome, is_last) = (outcome.clone(), *clients == 0);
        if is_last {
            self.outcomes.remove(&number);
        }
        Some(outcome.map_err(|(kind, text)| io::Error::new(kind, text)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    fn write(id: u64, revision: u64) -> Write {
        Write { id, revision, is_new: true, text: Some(revision.to_string()) }
    }

    #[test]
    fn what_comes_while_a_batch_is_written_is_the_next_batch() {
        let mut commits = Commits::default();
        let (one, two) = (commits.add(write(1, 1)), commits.add(write(2, 2)));
        let (number, batch) = commits.begin();
        assert_eq!((number, batch.len(), one, two), (one, 2, one, one));
        let three = commits.add(write(1, 3));
        assert!(three > one && commits.outcome(one).is_none());
        commits.end(number, batch.len(), Ok(()));
        assert!(commits.outcome(one).is_some_and(|it| it.is_ok()));
        assert!(commits.outcome(two).is_some_and(|it| it.is_ok()));
        assert!(commits.outcomes.is_empty() && commits.outcome(three).is_none());
        assert_eq!(commits.pending(1), Some(&write(1, 3)));
        assert_eq!(commits.pending(2), None);
    }

    #[test]
    fn what_was_decided_after_a_failed_change_fails_too() {
        let mut commits = Commits::default();
        let one = commits.add(write(1, 1));
        let (number, batch) = commits.begin();
        let two = commits.add(write(1, 2));
        commits.end(number, batch.len(), Err(io::ErrorKind::StorageFull.into()));
        for batch in [one, two] {
            let outcome = commits.outcome(batch).expect("it is known");
            assert_eq!(outcome.map_err(|error| error.kind()), Err(io::ErrorKind::StorageFull));
        }
        assert!(commits.pending(1).is_none() && commits.outcomes.is_empty());
        assert_eq!((commits.add(write(1, 3)), commits.revision), (two + 1, 3));
    }
}
