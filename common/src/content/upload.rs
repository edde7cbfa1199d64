//! A file that is being stored (stage 8's lasting form).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use crate::content::folder::{Folder, NewFile, remove_if_left_behind};
use crate::message::file::FileState;

/// How many bytes of an upload are in memory at a time.
const BLOCK: usize = 128 * 1024;

/// How many such blocks are kept for reuse.
const KEPT: usize = 8;

/// The most swept directories that are remembered.
const MAX_SWEPT: usize = 1_000;

/// The beginning of the names of unfinished uploads. No request can name such a file.
pub(crate) const UNFINISHED: &str = ".upload-";

/// The uploads that are being written at this moment.
#[derive(Debug, Default)]
pub(crate) struct Uploads {
    state: Mutex<State>,
    /// Held while a condition is evaluated and the file is put in its place.
    finishing: Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    running: BTreeMap<OsString, Arc<Folder>>,
    /// The directories from which files that were left behind have been removed.
    swept: BTreeSet<PathBuf>,
    /// Whether no more uploads may begin.
    are_abandoned: bool,
}

impl Uploads {
    /// Waits until no other upload with a condition is about to be put in its place.
    pub(crate) fn finish_alone(&self) -> MutexGuard<'_, ()> {
        self.finishing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes the files of all running uploads, and lets no more begin.
    pub(crate) fn abandon(&self) {
        let mut state = self.lock();
        state.are_abandoned = true;
        for (name, folder) in &state.running {
            let _ = folder.remove(name);
        }
    }

    /// Removes uploads that earlier programs left unfinished in a directory, unless it has been
    /// searched before.
    pub(crate) fn sweep_once(&self, folder: &Folder) {
        let mut state = self.lock();
        if state.swept.len() < MAX_SWEPT && state.swept.insert(folder.path().to_owned()) {
            drop(state);
            sweep(folder);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file that is being written beside its destination, under a temporary name. When dropped, it is
/// removed, unless it is finished.
#[derive(Debug)]
pub(crate) struct Upload<'u> {
    file: NewFile,
    folder: Arc<Folder>,
    name: OsString,
    uploads: &'u Uploads,
    is_finished: bool,
}

impl<'u> Upload<'u> {
    pub(crate) fn begin(folder: Arc<Folder>, uploads: &'u Uploads) -> io::Result<Upload<'u>> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        loop {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = OsString::from(format!("{UNFINISHED}{}-{count}", process::id()));
            let mut state = uploads.lock();
            if state.are_abandoned {
                return Err(io::Error::other("the server is about to end"));
            }
            match folder.create_new(&name) {
                // Left behind by an earlier program with the same process id.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    remove_if_left_behind(&folder, &name);
                }
                created => {
                    let file = created.map_err(own_fault)?;
                    state.running.insert(name.clone(), Arc::clone(&folder));
                    return Ok(Upload { file, folder, name, uploads, is_finished: false });
                }
            }
        }
    }

    /// Writes all bytes of `content`.
    pub(crate) fn copy_from(&mut self, mut content: impl Read) -> io::Result<()> {
        let mut file: &File = &self.file;
        let mut block = take_block();
        loop {
            match content.read(&mut block) {
                Ok(0) => break,
                Ok(count) => file.write_all(&block[..count]).map_err(own_fault)?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        keep_block(block);
        Ok(())
    }

    /// Waits until the content is on the disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_all().map_err(own_fault)
    }

    /// Moves the file to its destination, with these permissions if any are given. `replaced` is the state of the
    /// file that is there now, if there is one.
    pub(crate) fn finish(
        mut self,
        place: &OsStr,
        mode: Option<u32>,
        replaced: Option<FileState>,
    ) -> io::Result<()> {
        if let Some(mode) = mode {
            self.folder.set_mode(&self.file, mode).map_err(own_fault)?;
        }
        if let Some(before) = replaced.and_then(|state| state.modified) {
            let _ = make_later(&self.file, before); // not all file systems can
        }
        self.folder.rename(&self.name, place).map_err(own_fault)?;
        self.is_finished = true;
        Ok(())
    }
}

impl Drop for Upload<'_> {
    fn drop(&mut self) {
        // In this order, so that no file is left that nothing would remove.
        let mut state = self.uploads.lock();
        if !self.is_finished {
            let _ = self.folder.remove(&self.name);
        }
        state.running.remove(&self.name);
    }
}

/// Gives a new version of a file a later time than the version before, which was modified at this time, in nanoseconds
/// since the beginning of 1970. Validators are made of it, and where the clock of the file system is coarse, two
/// uploads can fall into one tick. A time that is far in the future is not a matter of ticks.
fn make_later(file: &File, before: i128) -> io::Result<()> {
    for step in STEPS {
        let modified = FileState::of(&file.metadata()?).modified.unwrap_or(before);
        if !(0..HOUR).contains(&(before - modified)) {
            break;
        }
        let since_1970 = u64::try_from(before).map(Duration::from_nanos).unwrap_or_default();
        file.set_modified(UNIX_EPOCH + since_1970 + step)?;
    }
    Ok(())
}

/// The ticks of file systems: of most; of ext2, ext3 and HFS+; of FAT.
const STEPS: [Duration; 3] =
    [Duration::from_nanos(1), Duration::from_secs(1), Duration::from_secs(2)];

/// In nanoseconds.
const HOUR: i128 = 3_600_000_000_000;

/// Marks an error of the disk as the server's own: `NotFound` does not mean here that the client
/// asked for a missing file.
fn own_fault(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::NotFound => io::Error::other(error),
        _ => error,
    }
}

/// Removes uploads that no program is writing any more.
fn sweep(folder: &Folder) {
    for name in folder.names().unwrap_or_default().iter().filter(|name| is_temporary(name)) {
        remove_if_left_behind(folder, name);
    }
}

/// Whether a name is one that [`Upload::begin`] makes. A user's file `.upload-notes` is not.
fn is_temporary(name: &OsStr) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
    let numbers = name.to_str().and_then(|name| name.strip_prefix(UNFINISHED)?.split_once('-'));
    numbers.is_some_and(|(process, count)| is_number(process) && is_number(count))
}

/// Blocks that can be reused. Getting a new one, all zeros, costs more than filling it.
static BLOCKS: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

fn take_block() -> Vec<u8> {
    let kept = BLOCKS.lock().unwrap_or_else(PoisonError::into_inner).pop();
    kept.unwrap_or_else(|| vec![0; BLOCK])
}

fn keep_block(block: Vec<u8>) {
    let mut kept = BLOCKS.lock().unwrap_or_else(PoisonError::into_inner);
    if kept.len() < KEPT {
        kept.push(block);
    }
}
