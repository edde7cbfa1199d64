//! Records in memory.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

/// How many bytes of JSON all records may have together.
const MAX_BYTES: usize = 64 * 1024 * 1024;

#[derive(Debug, Clone)]
pub struct Record {
    pub id: u64,
    /// The number of the change that made it what it is.
    pub revision: u64,
    pub data: Value,
}

/// What becomes of a record.
pub enum Change {
    Replace(Value),
    Delete,
}

/// There is no room for more.
pub struct Full;

#[derive(Default)]
pub struct Records {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    last_id: u64,
    revision: u64,
    bytes: usize,
    by_id: BTreeMap<u64, Record>,
}

impl Records {
    /// Adds a record. Its id has never been used before, also not by a record that is gone.
    pub fn add(&self, data: Value) -> Result<Record, Full> {
        let mut state = self.lock();
        let id = state.last_id + 1;
        let record = state.put(id, data)?;
        state.last_id = id;
        Ok(record)
    }

    pub fn get(&self, id: u64) -> Option<Record> {
        self.lock().by_id.get(&id).cloned()
    }

    /// The records after this id, in their order.
    pub fn after(&self, id: u64, limit: usize) -> Vec<Record> {
        self.lock()
            .by_id
            .range(id.saturating_add(1)..)
            .take(limit)
            .map(|(_, it)| it.clone())
            .collect()
    }

    /// Decides what becomes of a record, and does it. Nobody else can change the record in between. `None` if there is
    /// no such record; otherwise what is there now, or was there last.
    pub fn change<E: From<Full>>(
        &self,
        id: u64,
        decide: impl FnOnce(&Record) -> Result<Change, E>,
    ) -> Option<Result<Record, E>> {
        let mut state = self.lock();
        let current = state.by_id.get(&id)?.clone();
        Some(decide(&current).and_then(|change| match change {
            Change::Replace(data) => state.put(id, data).map_err(E::from),
            Change::Delete => {
                state.bytes -= current.data.to_string().len();
                state.by_id.remove(&id);
                state.revision += 1;
                Ok(current)
            }
        }))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn put(&mut self, id: u64, data: Value) -> Result<Record, Full> {
        let before = self.by_id.get(&id).map_or(0, |record| record.data.to_string().len());
        let bytes = self.bytes - before + data.to_string().len();
        if bytes > MAX_BYTES {
            return Err(Full);
        }
        self.bytes = bytes;
        self.revision += 1;
        let record = Record { id, revision: self.revision, data };
        self.by_id.insert(id, record.clone());
        Ok(record)
    }
}
