//! Records in a file: a line for each change, which is on the disk before anybody hears of it.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock};

use json::{Change, Decide, Page, Problem, Record, Room, Store, Table};
use serde_json::{Value, json};

/// How many bytes of old changes a file may have before it is written anew.
const MAX_OLD: u64 = 1024 * 1024;

pub struct Log {
    path: PathBuf,
    writer: Mutex<Writer>,
    /// What has been written to the disk. Readers do not wait for the disk.
    table: RwLock<Table>,
}

struct Writer {
    file: File,
    /// How many bytes the file has. What is written beyond that, and not complete, is cut off.
    length: u64,
    /// Whether the disk has failed in a way after which nothing is known.
    is_broken: bool,
}

impl Log {
    /// Opens a file, or makes one, and reads what is in it.
    pub fn open(path: &Path) -> io::Result<Log> {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path);
        let mut file = file.map_err(|error| explained(path, error))?;
        lock(&file).map_err(|error| explained(path, error))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        let (table, length) = replay(&text).map_err(|error| explained(path, error))?;
        if length < text.len() {
            let torn = text.len() - length;
            common::log(format!("{}: {torn} bytes at the end were never complete", path.display()));
            file.set_len(length as u64)?;
        }
        let writer = Writer { file, length: length as u64, is_broken: false };
        let (writer, table) = (Mutex::new(writer), RwLock::new(table));
        Ok(Log { path: path.to_owned(), writer, table })
    }

    /// Writes a change, and waits until it is on the disk. Only then it is true.
    fn write(
        &self,
        writer: &mut Writer,
        id: u64,
        revision: u64,
        data: Option<Value>,
    ) -> io::Result<()> {
        let mut line = match &data {
            Some(data) => line(&json!({ "id": id, "revision": revision, "data": data })),
            None => line(&json!({ "id": id, "revision": revision })),
        };
        if writer.length == 0 {
            line = header(0, 0) + &line;
        }
        writer.append(line.as_bytes())?;
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        match data {
            Some(data) => table.put(Record { id, revision, data }),
            None => table.remove(id, revision),
        }
        Ok(())
    }

    /// Writes the file anew, without what is old, if there is too much of that. The old file stays until the new one is
    /// complete.
    fn compact(&self, writer: &mut Writer) -> io::Result<()> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        if writer.length < MAX_OLD + 2 * table.bytes() as u64 {
            return Ok(());
        }
        let mut path = self.path.clone().into_os_string();
        path.push(".new");
        let path = PathBuf::from(path);
        let mut file =
            File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
        lock(&file)?;
        let mut lines = header(table.last_id(), table.revision());
        for Record { id, revision, data } in table.after(0) {
            lines += &line(&json!({ "id": id, "revision": revision, "data": data }));
        }
        let written = file.write_all(lines.as_bytes()).and_then(|()| file.sync_all());
        if let Err(error) = written.and_then(|()| fs::rename(&path, &self.path)) {
            let _ = fs::remove_file(&path); // the old one is still good
            return Err(error);
        }
        sync_folder(&self.path)?;
        *writer = Writer { file, length: lines.len() as u64, is_broken: false };
        Ok(())
    }
}

impl Writer {
    /// Adds bytes, and waits until they are on the disk. If there is no room, the file stays as it was.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.is_broken {
            return Err(io::Error::other("the disk has failed; start the server again"));
        }
        self.file.seek(SeekFrom::Start(self.length))?;
        if let Err(error) = self.file.write_all(bytes) {
            self.is_broken = self.file.set_len(self.length).is_err(); // cuts off what has been written of it
            return Err(error);
        }
        if let Err(error) = self.file.sync_data() {
            self.is_broken = true; // what the disk has now, nobody knows
            return Err(error);
        }
        self.length += bytes.len() as u64;
        Ok(())
    }
}

impl Store for Log {
    fn add(&self, data: Value) -> io::Result<Record> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let record = self.table.read().unwrap_or_else(PoisonError::into_inner).next(data);
        self.write(&mut writer, record.id, record.revision, Some(record.data.clone()))?;
        self.tidy(&mut writer);
        Ok(record)
    }

    fn get(&self, id: u64) -> io::Result<Option<Record>> {
        Ok(self.table.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned())
    }

    fn page(&self, after: u64, room: Room) -> io::Result<Page> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        Page::of(table.after(after).cloned().map(Ok), room)
    }

    fn change(&self, id: u64, decide: &mut Decide) -> Result<Option<Record>, Problem> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(current) = self.get(id)? else { return Ok(None) };
        let data = match decide(&current)? {
            Change::Replace(data) => Some(data),
            Change::Delete => None,
        };
        let revision = self.table.read().unwrap_or_else(PoisonError::into_inner).revision() + 1;
        self.write(&mut writer, id, revision, data.clone())?;
        self.tidy(&mut writer);
        Ok(Some(data.map_or(current, |data| Record { id, revision, data })))
    }
}

impl Log {
    /// Writes the file anew if it has become large. If that fails, the file is as good as before.
    fn tidy(&self, writer: &mut Writer) {
        if let Err(error) = self.compact(writer) {
            common::log(format!("{} cannot be written anew: {error}", self.path.display()));
        }
    }
}

/// What the first line says: what this file is, and which numbers have been used.
fn header(last_id: u64, revision: u64) -> String {
    line(
        &json!({ "format": "records, a line for each change", "last_id": last_id, "revision": revision }),
    )
}

/// A line of the file: a checksum, and JSON.
fn line(value: &Value) -> String {
    let text = value.to_string();
    format!("{:08x} {text}\n", checksum(text.as_bytes()))
}

/// CRC-32, as in gzip (RFC 1952, section 8). It changes when a few bits have changed by accident.
fn checksum(bytes: &[u8]) -> u32 {
    let mut crc: u32 = !0;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 };
        }
    }
    !crc
}

/// Reads the changes one after another. Returns the records, and how many bytes are good: the end of the last line may
/// be missing, if the program was killed while it wrote. Nobody was told of that change.
fn replay(text: &[u8]) -> io::Result<(Table, usize)> {
    let foreign = || damaged("it is no store of records");
    let mut lines =
        text.split_inclusive(|byte| *byte == b'\n').filter_map(|line| line.strip_suffix(b"\n"));
    let Some(first) = lines.next() else {
        // Nothing, or the beginning of the first line: nobody was told of any change.
        let is_ours = header(0, 0).as_bytes().starts_with(text);
        return if is_ours { Ok((Table::default(), 0)) } else { Err(foreign()) };
    };
    let numbers = value_of(first).ok_or_else(foreign)?;
    let number = |name: &str| numbers[name].as_u64().ok_or_else(foreign);
    let mut table = Table::after_numbers(number("last_id")?, number("revision")?);
    let mut good = first.len() + 1;
    for (index, line) in lines.enumerate() {
        let is_applied = value_of(line).is_some_and(|change| apply(&mut table, change));
        if !is_applied {
            return Err(damaged(&format!("line {} is damaged", index + 2)));
        }
        good += line.len() + 1;
    }
    Ok((table, good))
}

/// Does a change again. Returns whether it is one.
fn apply(table: &mut Table, mut change: Value) -> bool {
    let (Some(id), Some(revision)) = (change["id"].as_u64(), change["revision"].as_u64()) else {
        return false;
    };
    match change.get_mut("data") {
        Some(data) => table.put(Record { id, revision, data: data.take() }),
        None => table.remove(id, revision),
    }
    true
}

/// The JSON of a line, if its checksum is right.
fn value_of(line: &[u8]) -> Option<Value> {
    let (sum, text) = line.split_at_checked(8)?;
    let text = text.strip_prefix(b" ")?;
    let is_right = format!("{:08x}", checksum(text)).as_bytes() == sum;
    serde_json::from_slice(text).ok().filter(|_| is_right)
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("{what}; nothing has been changed in it"))
}

/// Two programs that wrote to one file would destroy it.
fn lock(file: &File) -> io::Result<()> {
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => io::Error::other("another program uses it"),
        TryLockError::Error(error) => error,
    })
}

/// A new name in a folder is on the disk when the folder is.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| *folder != Path::new("")).unwrap_or(Path::new("."));
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

fn explained(path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("--store {}: {error}", path.display()))
}
