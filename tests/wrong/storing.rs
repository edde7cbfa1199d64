//! Stage 20 with one mistake, chosen by `MISTAKE`; tests/wrong_servers.rs says which check must catch it. Look for
//! `is("…")`: that is where the mistake is. `style-database` is none: it is another kind of file.

mod mistake;

use std::fs::{self, File};
use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use json::{Change, Decide, Memory, Page, Problem, Record, Room, Rules, Store, Table};
use mistake::is;
use serde_json::{Value, json};

fn main() -> ExitCode {
    common::run_store(|args| {
        let files = args.files();
        let store: Arc<dyn Store> = match &args.store {
            Some(path) if is("style-database") => Arc::new(store::Disk::open(path)?),
            Some(path) => Arc::new(Lines::open(path).or_else(|error| refused(path, error))?),
            None => Arc::new(Memory::default()),
        };
        let mut app = args.app(&files);
        let rules = Rules { max_body: args.max_json, require_if_match: args.require_if_match };
        json::add_records(&mut app, &store, rules);
        json::add_form_files(&mut app, &files);
        args.run(app)
    })
}

/// What is done when the file cannot be used.
fn refused(path: &Path, error: io::Error) -> io::Result<Lines> {
    match () {
        () if is("empties-what-is-damaged") => fs::write(path, "")?,
        () if is("says-nothing-about-damage") => std::process::exit(1),
        () if is("ends-well-with-damage") => {
            println!("{error}");
            std::process::exit(0);
        }
        () => {}
    }
    Err(error)
}

const HEADER: &str = "lines of records\n";

/// Records in a file: a line for each change, with its length before it.
struct Lines {
    path: PathBuf,
    state: Mutex<State>,
}

struct State {
    table: Table,
    file: BufWriter<File>,
    length: usize,
}

impl Lines {
    fn open(path: &Path) -> io::Result<Lines> {
        let text = match fs::read(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            text => text?,
        };
        let (table, good) = match text.strip_prefix(HEADER.as_bytes()) {
            Some(lines) => replay(lines)?,
            None if text.is_empty() || is("starts-with-any-file") => (Table::default(), 0),
            None => {
                return Err(io::Error::other(format!(
                    "--store {}: this is no store",
                    path.display()
                )));
            }
        };
        let mut file = File::options().append(true).create(true).open(path)?;
        if text.is_empty() || is("starts-with-any-file") {
            file.write_all(HEADER.as_bytes())?;
        } else if !is("goes-on-after-what-is-torn") {
            file.set_len((HEADER.len() + good) as u64)?;
        }
        let length = HEADER.len() + good;
        let state = State { table, file: BufWriter::new(file), length };
        Ok(Lines { path: path.to_owned(), state: Mutex::new(state) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads changes. Returns the records, and how many bytes are good.
fn replay(text: &[u8]) -> io::Result<(Table, usize)> {
    let (mut table, mut good) = (Table::default(), 0);
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let Some(whole) = line.strip_suffix(b"\n") else { break };
        let value = whole.iter().position(|byte| *byte == b' ').and_then(|at| {
            let sum: u64 = std::str::from_utf8(&whole[..at]).ok()?.parse().ok()?;
            let value = serde_json::from_slice::<Value>(&whole[at + 1..]).ok()?;
            let is_checked = !is("trusts-what-can-be-parsed");
            (!is_checked || sum_of(&whole[at + 1..]) == sum).then_some(value)
        });
        let Some(mut value) = value else {
            match () {
                () if is("skips-what-is-damaged") => {}
                () if is("stops-where-it-is-damaged") => break,
                () => return Err(io::Error::new(ErrorKind::InvalidData, "the store is damaged")),
            }
            good += line.len();
            continue;
        };
        good += line.len();
        let number = |name: &str| value[name].as_u64().unwrap_or_default();
        let (id, revision) = (number("id"), number("revision"));
        match value.get_mut("data").map(Value::take) {
            Some(data) => table.put(Record { id, revision, data }),
            None => table.remove(id, revision),
        }
    }
    if is("ids-begin-after-the-last-record") || is("revisions-begin-anew") {
        let records: Vec<_> = table.after(0).cloned().collect();
        let last = records.last().map_or(0, |record| record.id);
        let (last_id, revision) = match is("revisions-begin-anew") {
            true => (table.last_id(), 0),
            false => (last, table.revision()),
        };
        let mut anew = Table::after_numbers(last_id, revision);
        for (index, record) in records.into_iter().enumerate() {
            let revision =
                if is("revisions-begin-anew") { index as u64 + 1 } else { record.revision };
            anew.put(Record { revision, ..record });
        }
        table = anew;
    }
    Ok((table, good))
}

fn sum_of(bytes: &[u8]) -> u64 {
    bytes.iter().fold(7, |sum, byte| (sum * 31 + u64::from(*byte)) % 1_000_000_007)
}

fn line_of(id: u64, revision: u64, data: Option<&Value>) -> String {
    let value = match data {
        Some(data) => json!({ "id": id, "revision": revision, "data": data }),
        None => json!({ "id": id, "revision": revision }),
    };
    let text = value.to_string();
    format!("{} {text}\n", sum_of(text.as_bytes()))
}

impl Lines {
    fn write(
        &self,
        state: &mut State,
        id: u64,
        revision: u64,
        data: Option<Value>,
    ) -> io::Result<()> {
        let line = line_of(id, revision, data.as_ref());
        match data {
            Some(data) => state.table.put(Record { id, revision, data }),
            None if is("forgets-to-write-deletions") => {
                state.table.remove(id, revision);
                return Ok(());
            }
            None => state.table.remove(id, revision),
        }
        if is("rewrites-the-file-in-its-place") {
            let records = state.table.after(0);
            let lines: String =
                records.map(|it| line_of(it.id, it.revision, Some(&it.data))).collect();
            let mut file = File::create(&self.path)?;
            file.write_all(HEADER.as_bytes())?;
            return lines.as_bytes().chunks(512).try_for_each(|part| file.write_all(part));
        }
        if is("writes-after-the-answer") {
            let mut file = state.file.get_ref().try_clone()?;
            thread::spawn(move || {
                thread::sleep(Duration::from_millis(10));
                file.write_all(line.as_bytes())
            });
            return Ok(());
        }
        state.file.write_all(line.as_bytes())?;
        state.length += line.len();
        if !is("keeps-it-in-a-buffer") {
            state.file.flush()?;
        }
        if state.length > 1_000_000 + 2 * state.table.bytes() && !is("never-tidies-up") {
            let records = state.table.after(0);
            let lines: String =
                records.map(|it| line_of(it.id, it.revision, Some(&it.data))).collect();
            let path = self.path.with_extension("new");
            fs::write(&path, format!("{HEADER}{lines}"))?;
            fs::rename(&path, &self.path)?;
            if !is("goes-on-with-the-old-file") {
                state.file = BufWriter::new(File::options().append(true).open(&self.path)?);
            }
            state.length = HEADER.len() + lines.len();
        }
        Ok(())
    }
}

impl Store for Lines {
    fn add(&self, data: Value) -> io::Result<Record> {
        let mut state = self.lock();
        let record = state.table.next(data);
        self.write(&mut state, record.id, record.revision, Some(record.data.clone()))?;
        Ok(record)
    }

    fn get(&self, id: u64) -> io::Result<Option<Record>> {
        Ok(self.lock().table.get(id).cloned())
    }

    fn page(&self, after: u64, room: Room) -> io::Result<Page> {
        Page::of(self.lock().table.after(after).cloned().map(Ok), room)
    }

    fn change(&self, id: u64, decide: &mut Decide) -> Result<Option<Record>, Problem> {
        let mut state = self.lock();
        let Some(current) = state.table.get(id).cloned() else { return Ok(None) };
        let data = match decide(&current)? {
            Change::Replace(data) => Some(data),
            Change::Delete => None,
        };
        let revision = state.table.revision() + 1;
        self.write(&mut state, id, revision, data.clone())?;
        Ok(Some(data.map_or(current, |data| Record { id, revision, data })))
    }
}
