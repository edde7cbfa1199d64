//! Changes, also those that other machines make.

use std::io::{self, BufRead, BufReader};
use std::sync::{Arc, Weak};
use std::thread;
use std::time::Duration;

use json::{Event, EventKind, Observer};
use serde_json::Value;

use crate::ask::Ask;
use crate::cluster::find;
use crate::wire::{self, Change, Told};

/// After this time without a change, another member is asked: it may be that the connection is dead, and nobody says so.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long to wait when no member answers.
const PAUSE: Duration = Duration::from_millis(200);

/// The most bytes of one line: that is some changes of the largest records.
const MAX_LINE: u64 = 64 * 1024 * 1024;

/// Tells an observer of all changes from now on, in a thread of its own, as long as somebody has the members.
pub(crate) fn begin(members: &Arc<dyn Ask>, observer: Arc<dyn Observer>) -> io::Result<()> {
    let mut watch = Watch { members: Arc::downgrade(members), observer, next: None };
    // Before there are clients who watch, if a member answers. Otherwise they learn later that they have missed something.
    let _ = watch.first(&**members);
    thread::Builder::new().name("changes".to_owned()).spawn(move || watch.run()).map(drop)
}

struct Watch {
    members: Weak<dyn Ask>,
    observer: Arc<dyn Observer>,
    /// The number of the next change; `None` if nobody knows what has changed before.
    next: Option<u64>,
}

impl Watch {
    fn run(mut self) {
        while let Some(members) = self.members.upgrade() {
            let before = self.next;
            let _ = self.watch(&members); // and on with another one
            if self.next == before {
                thread::sleep(PAUSE);
            }
        }
    }

    /// Returns the number of the next change. If that is not known, what has changed before is forgotten.
    fn first(&mut self, members: &dyn Ask) -> io::Result<u64> {
        if let Some(next) = self.next {
            return Ok(next);
        }
        let revision = find(members, &wire::get(wire::LAST_ID))?.revision;
        self.observer.begin(revision);
        self.next = Some(revision + 1);
        Ok(revision + 1)
    }

    /// Watches until nothing comes any more.
    ///
    /// # Errors
    ///
    /// When no member answers, and when a stream breaks off.
    fn watch(&mut self, members: &Arc<dyn Ask>) -> io::Result<()> {
        let next = self.first(&**members)?;
        // A member that is cut off from the others would let us watch, and hear of nothing. Whoever answers this has heard of
        // all changes, and is asked next.
        find(&**members, &wire::get(wire::LAST_ID))?;
        let stream = members.listen("/v3/watch", &wire::watch(next), PATIENCE)?;
        let mut lines = BufReader::new(stream);
        let mut line = Vec::new();
        loop {
            line.clear();
            io::Read::take(&mut lines, MAX_LINE).read_until(b'\n', &mut line)?;
            match wire::told(&line) {
                Some(Told::Changes(changes)) => changes.into_iter().for_each(|it| self.tell(it)),
                Some(Told::Forgotten) => {
                    self.next = None;
                    return Ok(());
                }
                None if line.len() as u64 == MAX_LINE => {
                    self.next = None; // it would come again and again
                    return Ok(());
                }
                None => return Ok(()),
            }
            if Arc::strong_count(members) == 1 {
                return Ok(()); // nobody else has them any more
            }
        }
    }

    fn tell(&mut self, change: Change) {
        let Change { entry, is_gone } = change;
        self.next = Some(entry.revision + 1);
        let value: Value = serde_json::from_str(&entry.value).unwrap_or_default();
        let kind = match entry.created == entry.revision {
            _ if is_gone => EventKind::Deleted,
            true => EventKind::Created,
            false => EventKind::Changed,
        };
        let data = value["data"].to_string();
        self.observer.kept(Event { id: entry.id, revision: entry.revision, kind, data: &data });
    }
}
