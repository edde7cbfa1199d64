//! The records, which several machines share.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::{NotAnswered, Refused, Repeat};
use json::{Change, Decide, Observer, Page, Problem, Record, Room, Store};
use serde_json::{Value, json};

use crate::ask::Ask;
use crate::watch;
use crate::wire::{self, Entry, Found, If, LAST_ID, Outcome, Then};

/// How many records are asked for at a time.
const BATCH: usize = 20;

/// The most bytes that an answer of a member may have: a batch of the largest records, in base64.
pub const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// The most bytes that a record may have. etcd takes requests of one and a half mebibytes.
const MAX_VALUE: usize = 1_500_000;

/// How long it is tried to do what a client asks for, with as many questions as that takes. One that has begun may take the
/// time of a member longer.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often it is looked whether an id may be taken.
const LOOK: Duration = Duration::from_millis(1);

/// Records in etcd. Each change is a transaction with a condition, so it can be tried again when nobody knows what has
/// become of it, and nothing happens twice.
pub struct Cluster {
    members: Arc<dyn Ask>,
    /// What the values that this program writes begin with, and how many it has written.
    name: String,
    written: AtomicU64,
    /// Held while an id is taken: whoever else wants one here would only be in the way.
    ids: Mutex<Ids>,
}

/// What is known about ids.
#[derive(Default)]
struct Ids {
    /// The largest that is known to have been used, and the number of the change that used it.
    last: Option<(u64, u64)>,
    /// When it was last found that no member answers.
    failed: Option<Instant>,
}

impl Cluster {
    /// Keeps records in the cluster that has these members.
    pub fn new(members: impl Ask + 'static) -> Cluster {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let random = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), since);
        Cluster {
            members: Arc::new(members),
            name: format!("{random:016x}"),
            written: AtomicU64::new(0),
            ids: Mutex::default(),
        }
    }

    /// Tells an observer of all changes, also of those that others make. While the cluster cannot be reached, it hears of
    /// nothing; afterwards, it hears of what it has missed.
    ///
    /// # Errors
    ///
    /// When the system has no thread for that.
    pub fn observed_by(self, observer: Arc<dyn Observer>) -> io::Result<Cluster> {
        watch::begin(&self.members, observer)?;
        Ok(self)
    }

    /// Asks for something, which may be done twice without harm.
    fn find(&self, question: &[u8]) -> io::Result<Found> {
        find(&*self.members, question)
    }

    fn entry(&self, key: &str) -> io::Result<Option<Entry>> {
        Ok(self.find(&wire::get(key))?.entries.pop())
    }

    /// Tries a transaction. If nobody knows whether it was done before the last try, `is_ours` decides whether what there
    /// is now comes from it.
    fn try_once(
        &self,
        condition: &If,
        changes: &[Then],
        is_ours: impl FnOnce(Option<&Entry>) -> io::Result<Option<u64>>,
    ) -> io::Result<Outcome> {
        let body = wire::transaction(condition, changes);
        let told = self.members.ask("/v3/kv/txn", &body, Repeat::Always).map_err(|error| {
            log_unreachable(&error);
            match error {
                NotAnswered::Unsent(_) => UNREACHABLE,
                NotAnswered::Unknown(_) => UNKNOWN,
            }
        })?;
        match outcome(&told.answer)? {
            Outcome::Not(now) if told.may_be_second => match is_ours(now.as_ref())? {
                Some(revision) => Ok(Outcome::Done(revision)),
                None => Ok(Outcome::Not(now)),
            },
            outcome => Ok(outcome),
        }
    }

    /// The value of a record, which nobody else has ever written.
    fn value(&self, data: &Value) -> io::Result<Value> {
        let by = format!("{}-{}", self.name, self.written.fetch_add(1, Ordering::Relaxed));
        let value = json!({ "by": by, "data": data });
        match value.to_string().len() > MAX_VALUE {
            true => Err(TOO_LARGE.into()),
            false => Ok(value),
        }
    }

    /// Waits until nobody else takes an id here.
    fn ids(&self, since: Instant) -> io::Result<MutexGuard<'_, Ids>> {
        loop {
            match self.ids.try_lock() {
                Ok(ids) => return Ok(ids),
                Err(TryLockError::Poisoned(poisoned)) => return Ok(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) if since.elapsed() > PATIENCE => {
                    return Err(BUSY.into());
                }
                Err(TryLockError::WouldBlock) => thread::sleep(LOOK),
            }
        }
    }

    /// Adds a record with this value, under the next id.
    fn add_next(
        &self,
        text: &str,
        last: &mut Option<(u64, u64)>,
        since: Instant,
    ) -> io::Result<(u64, u64)> {
        while since.elapsed() < PATIENCE {
            let (before, revision) = match last.take() {
                Some(known) => known,
                None => number(self.entry(LAST_ID)?)?,
            };
            let (id, condition) = (before + 1, If { key: LAST_ID, revision });
            let (key, digits) = (wire::key(id), id.to_string());
            let changes = [Then::Put(LAST_ID, &digits), Then::Put(&key, text)];
            let is_ours = |_: Option<&Entry>| match self.entry(&key) {
                Ok(Some(entry)) if entry.value == text => Ok(Some(entry.revision)),
                // Somebody else has this id. If the record has been changed since, it may have been ours.
                Ok(Some(entry)) if entry.created == entry.revision => Ok(None),
                _ => Err(UNKNOWN.into()),
            };
            match self.try_once(&condition, &changes, is_ours)? {
                Outcome::Done(revision) => {
                    *last = Some((id, revision));
                    return Ok((id, revision));
                }
                Outcome::Not(now) => *last = Some(number(now)?),
            }
        }
        Err(BUSY.into())
    }
}

impl Store for Cluster {
    fn add(&self, data: Value) -> io::Result<Record> {
        let value = self.value(&data)?;
        let text = value.to_string();
        let since = Instant::now();
        let mut ids = self.ids(since)?;
        if ids.failed.is_some_and(|failed| failed > since) {
            return Err(UNREACHABLE.into()); // it has been tried while this one waited
        }
        match self.add_next(&text, &mut ids.last, since) {
            Ok((id, revision)) => Ok(Record { id, revision, data }),
            Err(error) => {
                let is_down = Refused::inside(&error).is_some_and(|it| it.status == 503);
                ids.failed = is_down.then(Instant::now);
                Err(error)
            }
        }
    }

    fn get(&self, id: u64) -> io::Result<Option<Record>> {
        self.entry(&wire::key(id))?.map(record).transpose()
    }

    fn page(&self, after: u64, room: Room) -> io::Result<Page> {
        let mut records: Vec<Record> = Vec::new();
        let (mut last, mut revision, since) = (after, 0, Instant::now());
        while since.elapsed() < PATIENCE {
            let found = self.find(&wire::after(last, BATCH, revision))?;
            revision = if revision == 0 { found.revision } else { revision }; // all of a page is of one moment
            let (has_more, is_empty) = (found.has_more, found.entries.is_empty());
            for entry in found.entries {
                last = entry.id;
                records.push(record(entry)?);
            }
            let page = Page::of(records.iter().cloned().map(Ok::<_, io::Error>), room)?;
            if page.has_more || !has_more || is_empty {
                let is_full = page.records.len() == room.records;
                return Ok(Page { has_more: page.has_more || has_more && is_full, ..page });
            }
        }
        Err(BUSY.into())
    }

    fn change(&self, id: u64, decide: &mut Decide) -> Result<Option<Record>, Problem> {
        let (key, since) = (wire::key(id), Instant::now());
        let mut now = self.entry(&key)?;
        while since.elapsed() < PATIENCE {
            let Some(current) = now.map(record).transpose()? else { return Ok(None) };
            let condition = If { key: &key, revision: current.revision };
            let outcome = match decide(&current)? {
                Change::Replace(data) => {
                    let text = self.value(&data)?.to_string();
                    let is_ours = |now: Option<&Entry>| match now {
                        Some(entry) if entry.value == text => Ok(Some(entry.revision)),
                        _ => Err(UNKNOWN.into()),
                    };
                    let outcome = self.try_once(&condition, &[Then::Put(&key, &text)], is_ours)?;
                    outcome.map(|revision| Record { id, revision, data })
                }
                Change::Delete => {
                    // If it has gone, somebody else may have been it. If it is there, it has been changed instead.
                    let is_ours = |now: Option<&Entry>| match now {
                        None => Err(UNKNOWN.into()),
                        Some(_) => Ok(None),
                    };
                    let outcome = self.try_once(&condition, &[Then::Delete(&key)], is_ours)?;
                    outcome.map(|_| current)
                }
            };
            match outcome {
                Ok(record) => return Ok(Some(record)),
                Err(entry) => now = entry,
            }
        }
        Err(Refused::into(BUSY))
    }

    fn is_far_away(&self) -> bool {
        true
    }
}

impl Outcome {
    /// Returns what a transaction that was done has made, or what there is instead.
    fn map<T>(self, made: impl FnOnce(u64) -> T) -> Result<T, Option<Entry>> {
        match self {
            Outcome::Done(revision) => Ok(made(revision)),
            Outcome::Not(now) => Err(now),
        }
    }
}

/// Asks a member for something.
pub(crate) fn find(members: &dyn Ask, question: &[u8]) -> io::Result<Found> {
    let told = members.ask("/v3/kv/range", question, Repeat::Always).map_err(|error| {
        log_unreachable(&error);
        UNREACHABLE
    })?;
    match told.answer.status {
        200 => wire::found(&told.answer.body).ok_or_else(|| STRANGE.into()),
        _ => Err(STRANGE.into()),
    }
}

fn outcome(answer: &common::Answer) -> io::Result<Outcome> {
    match answer.status {
        200 => wire::outcome(&answer.body).ok_or_else(|| STRANGE.into()),
        400 if has(&answer.body, b"too large") => Err(TOO_LARGE.into()),
        _ if has(&answer.body, b"space exceeded") => Err(io::Error::new(
            io::ErrorKind::StorageFull,
            "the store is full: it has to be compacted and defragmented",
        )),
        _ => Err(STRANGE.into()),
    }
}

fn has(body: &[u8], words: &[u8]) -> bool {
    body.windows(words.len()).any(|it| it == words)
}

/// The number under a key, and that of the change that put it there; zeros if there is nothing.
fn number(entry: Option<Entry>) -> io::Result<(u64, u64)> {
    let Some(entry) = entry else { return Ok((0, 0)) };
    let number = entry.value.parse().map_err(|_| io::Error::from(STRANGE))?;
    Ok((number, entry.revision))
}

fn record(entry: Entry) -> io::Result<Record> {
    let mut value: Value =
        serde_json::from_str(&entry.value).map_err(|_| io::Error::from(STRANGE))?;
    Ok(Record { id: entry.id, revision: entry.revision, data: value["data"].take() })
}

fn log_unreachable(error: &NotAnswered) {
    common::log(format_args!("the store cannot be reached: {error}"));
}

const UNREACHABLE: Refused =
    Refused { status: 503, why: "the store cannot be reached; try again soon" };

const UNKNOWN: Refused = Refused {
    status: 503,
    why: "the store does not answer; whether the change has been made is not known",
};

const BUSY: Refused = Refused { status: 503, why: "the store has too much to do; try again soon" };

const STRANGE: Refused = Refused { status: 503, why: "the store gives an answer that is none" };

const TOO_LARGE: Refused =
    Refused { status: 413, why: "the record is larger than the store takes" };
