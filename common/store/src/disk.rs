//! Records in a database (stage 20's lasting form).

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::panic;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};

use json::{Change, Decide, Event, EventKind, Observer, Page, Problem, Record, Room, Store};
use redb::{Database, ReadableDatabase, TableDefinition, TableError};
use serde_json::Value;

use crate::commits::{Commits, Write};

/// The records: the id; the number of the change, and JSON.
const RECORDS: TableDefinition<u64, (u64, &str)> = TableDefinition::new("records");

/// The numbers that have been used, by their names.
const NUMBERS: TableDefinition<&str, u64> = TableDefinition::new("numbers");

/// Records in a file that is a database ([redb](https://docs.rs/redb)). What a method has returned is on the disk, and
/// readers see nothing that is not. Changes that come at the same time share their waits for the disk.
pub struct Disk {
    path: PathBuf,
    /// `None` while the disk has failed.
    database: RwLock<Option<Database>>,
    commits: Mutex<Commits>,
    /// Signalled when a batch has been written, or has failed.
    ended: Condvar,
    observer: Option<Arc<dyn Observer>>,
}

impl Disk {
    /// Opens a file, or makes one.
    ///
    /// # Errors
    ///
    /// A sentence that names the file, when it is something else, when it is damaged, and when another program uses it.
    /// All of the file is read for that.
    pub fn open(path: &Path) -> io::Result<Disk> {
        let explained = |error: io::Error| {
            io::Error::new(error.kind(), format!("--store {}: {error}", path.display()))
        };
        let (database, commits) = match open(path) {
            // There will be room later, and until then there are no records.
            Err(error) if error.kind() == ErrorKind::StorageFull && is_empty(path) => {
                (None, Commits::default())
            }
            opened => {
                opened.map(|(database, commits)| (Some(database), commits)).map_err(explained)?
            }
        };
        let (database, commits) = (RwLock::new(database), Mutex::new(commits));
        let path = path.to_owned();
        Ok(Disk { path, database, commits, ended: Condvar::new(), observer: None })
    }

    /// Tells an observer of all changes.
    #[must_use]
    pub fn observed_by(self, observer: Arc<dyn Observer>) -> Disk {
        observer.begin(self.lock().revision);
        Disk { observer: Some(observer), ..self }
    }

    fn tell(&self, writes: &[Write]) {
        let Some(observer) = &self.observer else { return };
        for Write { id, revision, is_new, text } in writes {
            let (kind, data) = match text {
                Some(text) if *is_new => (EventKind::Created, &**text),
                Some(text) => (EventKind::Changed, &**text),
                None => (EventKind::Deleted, "null"),
            };
            observer.kept(Event { id: *id, revision: *revision, kind, data });
        }
    }

    fn lock(&self) -> MutexGuard<'_, Commits> {
        self.commits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads from what is on the disk.
    fn read<T: Default>(
        &self,
        read: impl FnOnce(&redb::ReadOnlyTable<u64, (u64, &'static str)>) -> Result<T, redb::Error>,
    ) -> io::Result<T> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        if database.is_none() && is_empty(&self.path) {
            return Ok(T::default());
        }
        let database = database.as_ref().ok_or_else(failed_before)?;
        let read = || read(&database.begin_read()?.open_table(RECORDS)?);
        read().map_err(io_error)
    }

    /// Adds a change to the next batch, and waits until that is on the disk. The first client that finds nobody at work
    /// writes the batch for all.
    fn write<'s>(&'s self, mut commits: MutexGuard<'s, Commits>, write: Write) -> io::Result<()> {
        let batch = commits.add(write);
        loop {
            if let Some(outcome) = commits.outcome(batch) {
                return outcome;
            }
            if commits.is_running {
                commits = self.ended.wait(commits).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let (number, writes) = commits.begin();
            let (last_id, revision) = (commits.last_id, commits.revision);
            drop(commits);
            let result = self.commit(&writes, last_id, revision);
            if result.is_ok() {
                self.tell(&writes); // before the next batch can begin
            }
            commits = self.lock();
            commits.end(number, writes.len(), result);
            self.ended.notify_all();
        }
    }

    /// Writes a batch. Readers go on meanwhile.
    fn commit(&self, writes: &[Write], last_id: u64, revision: u64) -> io::Result<()> {
        self.reopen_after_failure()?;
        let committed = {
            let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
            let database = database.as_ref().ok_or_else(failed_before)?;
            if needed(writes) > free_space(&self.path).unwrap_or(u64::MAX) {
                return Err(io::Error::new(ErrorKind::StorageFull, "there is no room for it"));
            }
            commit(database, writes, last_id, revision)
        };
        if committed.is_err() {
            // What is in memory is not what is on the disk.
            *self.database.write().unwrap_or_else(PoisonError::into_inner) = None;
            if let Some(observer) = &self.observer {
                observer.begin(revision);
            }
        }
        committed.map_err(io_error)
    }

    /// Opens the database again if the disk has failed: perhaps it is better.
    fn reopen_after_failure(&self) -> io::Result<()> {
        if self.database.read().unwrap_or_else(PoisonError::into_inner).is_some() {
            return Ok(());
        }
        let (database, _) = open(&self.path)?;
        *self.database.write().unwrap_or_else(PoisonError::into_inner) = Some(database);
        Ok(())
    }
}

/// How many bytes of free space a batch may need. The database copies the pages that it changes, and when it finds no room
/// in the middle of that, it can only be opened again. So it is not tried.
fn needed(writes: &[Write]) -> u64 {
    const PAGES: u64 = 128 * 1024;
    let texts = writes.iter().filter_map(|write| write.text.as_ref());
    let content: u64 = texts.map(|text| text.len() as u64).sum();
    if content == 0 { PAGES } else { 2 * PAGES + 4 * content }
}

/// How many bytes are free where a file is; `None` if nobody knows.
#[cfg(unix)]
fn free_space(path: &Path) -> Option<u64> {
    let found = nix::sys::statvfs::statvfs(path).ok()?;
    // The types differ between systems.
    #[allow(clippy::useless_conversion, clippy::unnecessary_cast)]
    Some(u64::from(found.blocks_available()) * found.fragment_size() as u64)
}

#[cfg(not(unix))]
fn free_space(_: &Path) -> Option<u64> {
    None
}

fn failed_before() -> io::Error {
    io::Error::other("the disk has failed before")
}

fn commit(
    database: &Database,
    writes: &[Write],
    last_id: u64,
    revision: u64,
) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    // A file in which somebody has put bytes on purpose cannot pass for one that was torn.
    transaction.set_two_phase_commit(true);
    {
        let mut records = transaction.open_table(RECORDS)?;
        for write in writes {
            match &write.text {
                Some(text) => drop(records.insert(write.id, (write.revision, &**text))?),
                None => drop(records.remove(write.id)?),
            }
        }
        let mut numbers = transaction.open_table(NUMBERS)?;
        numbers.insert("last_id", last_id)?;
        numbers.insert("revision", revision)?;
    }
    transaction.commit()?;
    Ok(())
}

/// Opens a database, makes sure that it is whole, and finds out which numbers have been used.
fn open(path: &Path) -> io::Result<(Database, Commits)> {
    let damaged = || io::Error::new(ErrorKind::InvalidData, "it is damaged");
    let is_new = is_empty(path);
    // What has been damaged may lead the database astray.
    let opened = panic::catch_unwind(|| prepare(path));
    let opened = opened.map_err(|_| damaged())?.map_err(io_error);
    // (Only a full disk: after another error it may be another server's, which has just made it.)
    let is_full = |error: &io::Error| error.kind() == ErrorKind::StorageFull;
    if is_new && opened.as_ref().is_err_and(is_full) {
        // What has been written of it is no database yet.
        let _ = File::options().write(true).open(path).and_then(|file| file.set_len(0));
    }
    opened
}

/// Whether there is nothing in a file yet, or no file.
fn is_empty(path: &Path) -> bool {
    match fs::metadata(path) {
        Ok(metadata) => metadata.len() == 0,
        Err(error) => error.kind() == ErrorKind::NotFound,
    }
}

fn prepare(path: &Path) -> Result<(Database, Commits), redb::Error> {
    let mut database = Database::create(path)?;
    database.check_integrity()?;
    let number = |name| match database.begin_read()?.open_table(NUMBERS) {
        Err(TableError::TableDoesNotExist(_)) => Ok(0),
        table => Ok::<_, redb::Error>(table?.get(name)?.map_or(0, |number| number.value())),
    };
    let (last_id, revision) = (number("last_id")?, number("revision")?);
    if revision == 0 {
        commit(&database, &[], last_id, revision)?; // makes the tables
    }
    Ok((database, Commits::after(last_id, revision)))
}

fn io_error(error: redb::Error) -> io::Error {
    match error {
        redb::Error::Io(error) => error,
        redb::Error::DatabaseAlreadyOpen => io::Error::other("another program uses it"),
        redb::Error::Corrupted(_) => {
            io::Error::new(ErrorKind::InvalidData, "it is damaged, or no store")
        }
        error => io::Error::other(error),
    }
}

fn record(id: u64, (revision, text): (u64, &str)) -> Result<Record, redb::Error> {
    let data = serde_json::from_str(text);
    let data = data.map_err(|_| redb::Error::Corrupted(format!("record {id} is no JSON")))?;
    Ok(Record { id, revision, data })
}

impl Store for Disk {
    fn add(&self, data: Value) -> io::Result<Record> {
        let text = Some(data.to_string());
        let commits = self.lock();
        let (id, revision) = (commits.last_id + 1, commits.revision + 1);
        self.write(commits, Write { id, revision, is_new: true, text })?;
        Ok(Record { id, revision, data })
    }

    fn get(&self, id: u64) -> io::Result<Option<Record>> {
        self.read(|records| records.get(id)?.map(|found| record(id, found.value())).transpose())
    }

    fn page(&self, after: u64, room: Room) -> io::Result<Page> {
        let Some(first) = after.checked_add(1) else { return Ok(Page::default()) };
        self.read(|records| {
            let found = records.range(first..)?.map(|entry| {
                let (id, found) = entry?;
                record(id.value(), found.value())
            });
            Page::of(found, room)
        })
    }

    fn change(&self, id: u64, decide: &mut Decide) -> Result<Option<Record>, Problem> {
        let commits = self.lock();
        let current = match commits.pending(id) {
            Some(Write { text: None, .. }) => None,
            Some(Write { revision, text: Some(text), .. }) => {
                Some(record(id, (*revision, text)).map_err(io_error)?)
            }
            None => self.get(id)?,
        };
        let Some(current) = current else { return Ok(None) };
        let data = match decide(&current)? {
            Change::Replace(data) => Some(data),
            Change::Delete => None,
        };
        let revision = commits.revision + 1;
        let text = data.as_ref().map(Value::to_string);
        self.write(commits, Write { id, revision, is_new: false, text })?;
        Ok(Some(data.map_or(current, |data| Record { id, revision, data })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::json;
    use std::sync::Barrier;
    use std::thread;
    use tempfile::TempDir;

    struct Place {
        _directory: TempDir,
        file: PathBuf,
    }

    impl Place {
        fn new() -> Place {
            let directory = TempDir::new().expect("a temporary directory");
            let file = directory.path().join("records");
            Place { _directory: directory, file }
        }

        fn open(&self) -> Disk {
            Disk::open(&self.file).expect("it can be opened")
        }
    }

    #[test]
    fn what_was_kept_is_there_again() {
        let place = Place::new();
        let disk = place.open();
        for number in 1..=3 {
            assert_eq!(disk.add(json!({ "n": number })).expect("there is room").id, number);
        }
        let mut delete = |_: &Record| Ok(Change::Delete);
        assert!(matches!(disk.change(3, &mut delete), Ok(Some(Record { revision: 3, .. }))));
        assert!(matches!(disk.change(3, &mut delete), Ok(None)));
        let mut replace = |_: &Record| Ok(Change::Replace(json!({ "n": "two" })));
        assert!(matches!(disk.change(2, &mut replace), Ok(Some(Record { revision: 5, .. }))));
        drop(disk);
        let disk = place.open();
        let page = disk.page(0, Room { records: 9, bytes: 1_000 }).expect("it can be read");
        let found: Vec<_> =
            page.records.into_iter().map(|it| (it.id, it.revision, it.data)).collect();
        assert_eq!(found, [(1, 1, json!({ "n": 1 })), (2, 5, json!({ "n": "two" }))]);
        let added = disk.add(json!({})).expect("there is room");
        assert_eq!((added.id, added.revision), (4, 6));
    }

    /// Remembers what it is told.
    #[derive(Default)]
    struct Notes(Mutex<Vec<String>>);

    impl Notes {
        fn take(&self) -> Vec<String> {
            std::mem::take(&mut self.0.lock().expect("nobody panics"))
        }
    }

    impl Observer for Notes {
        fn begin(&self, revision: u64) {
            self.0.lock().expect("nobody panics").push(format!("after {revision}"));
        }

        fn kept(&self, Event { id, revision, kind, data }: Event) {
            let note = format!("{revision}: {kind:?} {id} {data}");
            self.0.lock().expect("nobody panics").push(note);
        }
    }

    #[test]
    fn an_observer_hears_of_what_has_been_kept() {
        let place = Place::new();
        let notes = Arc::new(Notes::default());
        let disk = place.open().observed_by(notes.clone());
        disk.add(json!({ "n": 1 })).expect("there is room");
        assert!(disk.change(1, &mut |_| Err(Problem::new(412, "too late"))).is_err());
        let mut replace = |_: &Record| Ok(Change::Replace(json!({ "n": 2 })));
        disk.change(1, &mut replace).expect("there is room");
        disk.change(1, &mut |_| Ok(Change::Delete)).expect("there is room");
        let expected =
            ["after 0", "1: Created 1 {\"n\":1}", "2: Changed 1 {\"n\":2}", "3: Deleted 1 null"];
        assert_eq!(notes.take(), expected);
        drop(disk);
        let disk = place.open().observed_by(notes.clone());
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..25).for_each(|_| drop(disk.add(json!(0)))));
            }
        });
        let expected = (4..204).map(|revision| format!("{revision}: Created {} 0", revision - 2));
        let expected: Vec<_> = ["after 3".to_owned()].into_iter().chain(expected).collect();
        assert_eq!(notes.take(), expected);
    }

    #[test]
    fn of_many_who_expect_the_same_version_one_is_right() {
        let place = Place::new();
        let disk = place.open();
        disk.add(json!(0)).expect("there is room");
        let together = Barrier::new(16);
        let winners = thread::scope(|scope| {
            let race = || {
                together.wait();
                let mut decide = |current: &Record| match current.revision {
                    1 => Ok(Change::Replace(json!("won"))),
                    _ => Err(Problem::new(412, "too late")),
                };
                disk.change(1, &mut decide).is_ok()
            };
            let threads: Vec<_> = (0..16).map(|_| scope.spawn(race)).collect();
            threads.into_iter().map(|it| it.join().expect("no panic")).filter(|won| *won).count()
        });
        assert_eq!(winners, 1);
        assert_eq!(disk.get(1).expect("readable").map(|it| it.revision), Some(2));
    }

    #[test]
    fn changes_at_the_same_time_lose_nothing() {
        let place = Place::new();
        let disk = place.open();
        disk.add(json!(0)).expect("there is room");
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..25 {
                        let mut count = |current: &Record| {
                            Ok(Change::Replace(json!(current.data.as_u64().unwrap_or(0) + 1)))
                        };
                        disk.change(1, &mut count).expect("there is room");
                    }
                });
            }
        });
        assert_eq!(disk.get(1).expect("readable").map(|it| it.data), Some(json!(200)));
    }

    #[test]
    fn a_file_that_is_something_else_is_not_touched() {
        let place = Place::new();
        let text = "Dear diary,\n".repeat(1_000);
        fs::write(&place.file, &text).expect("writable");
        let error =
            Disk::open(&place.file).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("Not a redb database"), "{error}");
        assert_eq!(fs::read_to_string(&place.file).expect("readable"), text);
    }

    #[test]
    fn a_file_that_is_in_use_is_refused() {
        let place = Place::new();
        let _disk = place.open();
        let error =
            Disk::open(&place.file).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("another program uses it"), "{error}");
    }
}
