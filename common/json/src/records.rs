//! Records, and where they are kept (stage 19's lasting form).

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use crate::problem::Problem;

/// How many bytes of JSON the records of a [`Memory`] may have together.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// A JSON value with a name and a version.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Its name, which no other record has ever had.
    pub id: u64,
    /// The number of the change that made it what it is. All changes of a store are counted together.
    pub revision: u64,
    /// What the client has sent.
    pub data: Value,
}

/// What becomes of a record.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// Its data becomes this.
    Replace(Value),
    /// It goes.
    Delete,
}

/// A change that has been kept. From stage 20.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event<'e> {
    /// The record.
    pub id: u64,
    /// The number of the change: each is larger than those before it.
    pub revision: u64,
    /// What has become of the record.
    pub kind: EventKind,
    /// The data of the record, as JSON; `null` if it has been deleted.
    pub data: &'e str,
}

/// What has become of a record. From stage 20.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// It has been added.
    Created,
    /// Its data is another one.
    Changed,
    /// It has gone.
    Deleted,
}

/// Hears of all changes of a store, in their order. It is called while others wait to change a record, so it must be
/// quick, and must not use the store. From stage 20.
pub trait Observer: Send + Sync {
    /// Called before all else, with the number of the last change so far. Called again when the store has failed, and
    /// there may be changes up to this number that nobody knows of.
    fn begin(&self, revision: u64);

    /// Called when a change has been kept; before its client hears of it, unless the records are on another machine.
    fn kept(&self, event: Event);
}

/// How much a page can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// How many records.
    pub records: usize,
    /// How many bytes of JSON. One record is always on the page.
    pub bytes: usize,
}

/// Some records, in the order of their ids.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Page {
    /// The records.
    pub records: Vec<Record>,
    /// Whether others come after them.
    pub has_more: bool,
}

impl Page {
    /// Takes records until the page is full.
    ///
    /// # Errors
    ///
    /// The first of the records that is one.
    pub fn of<E>(records: impl Iterator<Item = Result<Record, E>>, room: Room) -> Result<Page, E> {
        let mut page = Page::default();
        let mut bytes = 0;
        for record in records {
            let record = record?;
            bytes += length(&record);
            let is_full = page.records.len() == room.records || bytes > room.bytes;
            if is_full && !page.records.is_empty() {
                return Ok(Page { has_more: true, ..page });
            }
            page.records.push(record);
        }
        Ok(page)
    }
}

/// Decides what becomes of a record. It is asked again if somebody else has changed the record in the meantime.
pub type Decide<'d> = dyn FnMut(&Record) -> Result<Change, Problem> + 'd;

/// A place where records are kept. What a method has returned is kept for good, as far as the place promises that.
pub trait Store: Send + Sync {
    /// Adds a record.
    ///
    /// # Errors
    ///
    /// When the record cannot be kept; `StorageFull` when there is no room for it.
    fn add(&self, data: Value) -> io::Result<Record>;

    /// Returns a record.
    ///
    /// # Errors
    ///
    /// When the records cannot be read.
    fn get(&self, id: u64) -> io::Result<Option<Record>>;

    /// Returns the first records whose ids come after this one, in their order: as many as a page has room for.
    ///
    /// # Errors
    ///
    /// As [`Store::get`].
    fn page(&self, after: u64, room: Room) -> io::Result<Page>;

    /// Decides what becomes of a record, and does it; nobody else can change the record in between. Returns the record
    /// as it is then, or as it was last; `None` if there is none.
    ///
    /// # Errors
    ///
    /// That of `decide`, and as [`Store::add`]. The record stays as it was.
    fn change(&self, id: u64, decide: &mut Decide) -> Result<Option<Record>, Problem>;

    /// Whether even to read may take long, because the records are on another machine. From stage 23.
    fn is_far_away(&self) -> bool {
        false
    }
}

/// Records in memory. They are gone when the program ends.
#[derive(Default)]
pub struct Memory {
    table: Mutex<Table>,
    observer: Option<Arc<dyn Observer>>,
}

impl fmt::Debug for Memory {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.debug_struct("Memory").field("table", &self.table).finish_non_exhaustive()
    }
}

impl Memory {
    /// Tells an observer of all changes. From stage 20.
    #[must_use]
    pub fn observed_by(self, observer: Arc<dyn Observer>) -> Memory {
        observer.begin(self.lock().revision());
        Memory { observer: Some(observer), ..self }
    }

    fn tell(&self, id: u64, revision: u64, kind: EventKind, data: &Value) {
        if let Some(observer) = &self.observer {
            observer.kept(Event { id, revision, kind, data: &data.to_string() });
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for Memory {
    fn add(&self, data: Value) -> io::Result<Record> {
        let mut table = self.lock();
        let record = table.next(data);
        table.fits(&record)?;
        table.put(record.clone());
        self.tell(record.id, record.revision, EventKind::Created, &record.data);
        Ok(record)
    }

    fn get(&self, id: u64) -> io::Result<Option<Record>> {
        Ok(self.lock().get(id).cloned())
    }

    fn page(&self, after: u64, room: Room) -> io::Result<Page> {
        Page::of(self.lock().after(after).cloned().map(Ok), room)
    }

    fn change(&self, id: u64, decide: &mut Decide) -> Result<Option<Record>, Problem> {
        let mut table = self.lock();
        let Some(current) = table.get(id).cloned() else { return Ok(None) };
        match decide(&current)? {
            Change::Replace(data) => {
                let record = table.changed(id, data);
                table.fits(&record)?;
                table.put(record.clone());
                self.tell(id, record.revision, EventKind::Changed, &record.data);
                Ok(Some(record))
            }
            Change::Delete => {
                let revision = table.revision() + 1;
                table.remove(id, revision);
                self.tell(id, revision, EventKind::Deleted, &Value::Null);
                Ok(Some(current))
            }
        }
    }
}

/// The records that there are, and the numbers that have been used.
#[derive(Debug, Default, Clone)]
pub struct Table {
    last_id: u64,
    revision: u64,
    bytes: usize,
    /// The records, and how many bytes of JSON each has.
    by_id: BTreeMap<u64, (Record, usize)>,
}

impl Table {
    /// An empty table in which these numbers have been used.
    pub fn after_numbers(last_id: u64, revision: u64) -> Table {
        Table { last_id, revision, ..Table::default() }
    }

    /// The largest id that has been used.
    pub fn last_id(&self) -> u64 {
        self.last_id
    }

    /// The number of the last change.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// How many bytes of JSON the records have.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns a record.
    pub fn get(&self, id: u64) -> Option<&Record> {
        self.by_id.get(&id).map(|(record, _)| record)
    }

    /// Returns the records whose ids come after this one.
    pub fn after(&self, id: u64) -> impl Iterator<Item = &Record> {
        let first = id.checked_add(1).into_iter();
        first.flat_map(|first| self.by_id.range(first..).map(|(_, (record, _))| record))
    }

    /// What a new record with this data would be.
    pub fn next(&self, data: Value) -> Record {
        Record { id: self.last_id + 1, revision: self.revision + 1, data }
    }

    /// What a record would be with this data.
    pub fn changed(&self, id: u64, data: Value) -> Record {
        Record { id, revision: self.revision + 1, data }
    }

    /// Puts a record in its place.
    pub fn put(&mut self, record: Record) {
        self.last_id = self.last_id.max(record.id);
        self.revision = self.revision.max(record.revision);
        let length = length(&record);
        self.bytes += length;
        let before = self.by_id.insert(record.id, (record, length));
        self.bytes -= before.map_or(0, |(_, length)| length);
    }

    /// Removes a record. `revision` is the number of this change.
    pub fn remove(&mut self, id: u64, revision: u64) {
        self.last_id = self.last_id.max(id);
        self.revision = self.revision.max(revision);
        self.bytes -= self.by_id.remove(&id).map_or(0, |(_, length)| length);
    }

    /// Whether there is room for a record.
    fn fits(&self, record: &Record) -> io::Result<()> {
        let before = self.by_id.get(&record.id).map_or(0, |(_, length)| *length);
        match self.bytes - before + length(record) > MAX_BYTES {
            true => {
                Err(io::Error::new(io::ErrorKind::StorageFull, "the records take all the room"))
            }
            false => Ok(()),
        }
    }
}

fn length(record: &Record) -> usize {
    record.data.to_string().len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use serde_json::json;

    #[test]
    fn numbers_are_never_used_again() {
        let store = Memory::default();
        let add = || store.add(json!({})).expect("there is room");
        assert_eq!((add().id, add().revision), (1, 2));
        let mut delete = |_: &Record| Ok(Change::Delete);
        assert!(matches!(
            store.change(2, &mut delete),
            Ok(Some(Record { id: 2, revision: 2, .. }))
        ));
        assert!(matches!(store.change(2, &mut delete), Ok(None)));
        let third = add();
        assert_eq!((third.id, third.revision), (3, 4));
        let ids = |after, records| {
            let page = store.page(after, Room { records, bytes: 1_000 }).expect("readable");
            page.records.iter().map(|record| record.id).collect::<Vec<_>>()
        };
        assert_eq!(
            (ids(0, 9), ids(1, 9), ids(0, 1), ids(u64::MAX, 9)),
            (vec![1, 3], vec![3], vec![1], vec![])
        );
    }

    #[test]
    fn a_page_is_full_when_its_records_or_its_bytes_are() {
        let record = |id| Record { id, revision: id, data: json!("12345678") }; // 10 bytes, with the quotes
        let page = |count, records, bytes| {
            let all = (1..=count).map(|id| Ok::<_, ()>(record(id)));
            let page = Page::of(all, Room { records, bytes }).expect("no error");
            (page.records.len(), page.has_more)
        };
        assert_eq!(page(0, 5, 100), (0, false));
        assert_eq!(page(5, 5, 100), (5, false));
        assert_eq!(page(6, 5, 100), (5, true));
        assert_eq!(page(6, 9, 30), (3, true));
        assert_eq!(page(3, 9, 30), (3, false));
        assert_eq!(page(2, 9, 1), (1, true));
        assert_eq!(page(1, 9, 1), (1, false));
    }

    #[test]
    fn what_is_refused_changes_nothing() {
        let store = Memory::default();
        store.add(json!({ "a": 1 })).expect("there is room");
        let refused = store.change(1, &mut |_| Err(Problem::new(412, "no")));
        assert!(refused.is_err());
        let large = json!({ "a": "x".repeat(MAX_BYTES) });
        assert!(store.add(large.clone()).is_err_and(|it| it.kind() == io::ErrorKind::StorageFull));
        assert!(store.change(1, &mut |_| Ok(Change::Replace(large.clone()))).is_err());
        let found = store.get(1).expect("memory can be read").expect("the record is there");
        assert_eq!((found.revision, found.data), (1, json!({ "a": 1 })));
    }
}
