//! Files that were sent recently, kept for the next who asks for them.
//!
//! To ask the system whether a name still stands for the same version of a file takes a quarter of the time of
//! opening, reading and closing it. So what is sent is never older than the file.

use std::collections::HashMap;
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::content::folder::{Folder, Version, version_of};
use crate::message::file::OpenFile;

/// How many files are kept whose content has been read. Each takes at most 32 KiB.
const MOST_READ: usize = 256;

/// Up to this size, in bytes, files are kept. For larger ones, the time of opening them does not matter; and while
/// a file is open, the system cannot use its space again.
const LARGEST: u64 = 1024 * 1024;

/// How many seconds a file must have been unchanged to be kept. The clock of a file system can be coarse, and a second change
/// within the same tick would not be seen.
const SETTLED: i64 = 3;

/// How many files a directory keeps open at most: a small part of what the system allows.
pub(crate) fn most_open() -> usize {
    (descriptors() / 16).min(32)
}

/// How many descriptors the system allows this program to have.
#[cfg(unix)]
pub(crate) fn descriptors() -> usize {
    use nix::sys::resource::{Resource, getrlimit};
    let (most, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((u64::MAX, u64::MAX));
    usize::try_from(most).unwrap_or(usize::MAX)
}

#[cfg(not(unix))]
pub(crate) fn descriptors() -> usize {
    usize::MAX
}

/// The files, and when each was last asked for.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    files: Mutex<Files>,
}

#[derive(Debug)]
struct Files {
    most_open: usize,
    by_name: HashMap<PathBuf, Kept>,
    /// Counts how often files have been asked for.
    uses: u64,
}

#[derive(Debug)]
struct Kept {
    file: OpenFile,
    version: Version,
    last_use: u64,
}

impl Recent {
    /// Returns a file that is kept, if the name in this folder still leads to the same version of it.
    pub(crate) fn get(&self, folder: &Folder, name: &Path) -> Option<OpenFile> {
        let (file, version) = self.lock().get(name)?;
        if folder.version(name) == Some(version) {
            return Some(file);
        }
        self.lock().by_name.remove(name);
        None
    }

    /// Keeps a file that has been found under a name, unless it is large or may change at this moment. Returns it.
    pub(crate) fn keep(
        &self,
        name: &Path,
        file: OpenFile,
        metadata: &Metadata,
        now: SystemTime,
    ) -> OpenFile {
        match version_of(metadata) {
            Some(version) if is_worth_it(metadata) && is_settled(version, now) => {
                let file = file.read_if_small();
                self.lock().put(name, file.clone(), version);
                file
            }
            _ => file,
        }
    }

    /// Forgets everything, to have its descriptors back.
    pub(crate) fn forget(&self) {
        self.lock().by_name.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a file is not too large. (The size 0 may mean that nobody has counted, as of the files in `/proc`. These can
/// only be read once.)
fn is_worth_it(metadata: &Metadata) -> bool {
    (1..=LARGEST).contains(&metadata.len())
}

/// Whether a file has been left alone for a while.
fn is_settled(version: Version, now: SystemTime) -> bool {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    i64::try_from(now).is_ok_and(|now| now.saturating_sub(version.changed.0) > SETTLED)
}

impl Default for Files {
    fn default() -> Files {
        Files { most_open: most_open(), by_name: HashMap::new(), uses: 0 }
    }
}

impl Files {
    fn get(&mut self, name: &Path) -> Option<(OpenFile, Version)> {
        self.uses += 1;
        let kept = self.by_name.get_mut(name)?;
        kept.last_use = self.uses;
        Some((kept.file.clone(), kept.version))
    }

    fn put(&mut self, name: &Path, file: OpenFile, version: Version) {
        let is_open = file.has_descriptor();
        let most = if is_open { self.most_open } else { MOST_READ };
        let alike = || self.by_name.iter().filter(|(_, it)| it.file.has_descriptor() == is_open);
        if alike().count() >= most {
            let idlest = alike().min_by_key(|(_, it)| it.last_use).map(|(name, _)| name.clone());
            self.by_name.remove(&idlest.unwrap_or_default());
        }
        self.uses += 1;
        self.by_name.insert(name.to_owned(), Kept { file, version, last_use: self.uses });
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use std::fs;
    use std::io::Read;
    use std::time::Duration;
    use tempfile::TempDir;

    const LATER: Duration = Duration::from_secs(60);

    /// A folder, and what is kept of it.
    struct Shelf {
        directory: TempDir,
        folder: Folder,
        recent: Recent,
    }

    impl Shelf {
        fn new() -> Shelf {
            let directory = TempDir::new().expect("a temporary directory");
            let folder = Folder::open(directory.path()).expect("it can be opened");
            Shelf { directory, folder, recent: Recent::default() }
        }

        /// Writes a file, and has it kept at this time after now.
        fn keep(&self, name: &str, content: &[u8], later: Duration) {
            let path = self.directory.path().join(name);
            fs::write(&path, content).expect("writable");
            let file = fs::File::open(path).expect("readable");
            let metadata = file.metadata().expect("it has metadata");
            let file = OpenFile::new(file, &metadata);
            self.recent.keep(Path::new(name), file, &metadata, SystemTime::now() + later);
        }

        fn kept(&self, name: &str) -> Option<Vec<u8>> {
            let file = self.recent.get(&self.folder, Path::new(name))?;
            let mut content = Vec::new();
            file.into_whole().and_then(|mut all| all.read_to_end(&mut content)).expect("readable");
            Some(content)
        }
    }

    #[test]
    fn a_file_is_kept_while_it_is_the_same() {
        let shelf = Shelf::new();
        for content in [&b"small"[..], &[b'x'; 100_000]] {
            shelf.keep("a", content, LATER);
            assert_eq!(shelf.kept("a").as_deref(), Some(content));
            assert_eq!(shelf.kept("a").as_deref(), Some(content));
            assert_eq!(shelf.kept("b"), None);
            fs::write(shelf.directory.path().join("a"), "something else").expect("writable");
            assert_eq!(shelf.kept("a"), None);
        }
    }

    #[test]
    fn a_file_in_another_place_is_another_file() {
        let shelf = Shelf::new();
        let path = |name| shelf.directory.path().join(name);
        shelf.keep("a", b"first", LATER);
        fs::write(path("b"), "other").expect("writable"); // as long as the first
        fs::rename(path("b"), path("a")).expect("renamed");
        assert_eq!(shelf.kept("a"), None);

        shelf.keep("a", b"first", LATER);
        fs::remove_file(path("a")).expect("removed");
        assert_eq!(shelf.kept("a"), None);
    }

    #[test]
    fn what_changes_at_this_moment_is_not_kept() {
        let shelf = Shelf::new();
        shelf.keep("a", b"first", Duration::ZERO);
        assert_eq!(shelf.kept("a"), None);
    }

    #[test]
    fn what_is_large_or_empty_is_not_read() {
        let shelf = Shelf::new();
        for (size, is_kept, has_descriptor) in [
            (0, false, false),
            (1, true, false),
            (32 * 1024, true, false),
            (32 * 1024 + 1, true, true),
            (1024 * 1024, true, true),
            (1024 * 1024 + 1, false, false),
        ] {
            let name = size.to_string();
            shelf.keep(&name, &vec![b'x'; size], LATER);
            let found = shelf.recent.get(&shelf.folder, Path::new(&name));
            let found = found.map(|file| file.has_descriptor());
            assert_eq!(found, is_kept.then_some(has_descriptor), "{size}");
        }
    }

    #[test]
    fn the_idlest_files_are_forgotten() {
        let shelf = Shelf::new();
        let large = vec![b'x'; 40_000];
        for number in 0..40 {
            shelf.keep(&format!("large-{number}"), &large, LATER);
            assert!(shelf.kept("large-0").is_some(), "{number}");
        }
        for number in 0..300 {
            shelf.keep(&format!("small-{number}"), b"small", LATER);
        }
        let count = |start: &str| {
            let files = shelf.recent.lock();
            files.by_name.keys().filter(|name| name.to_string_lossy().starts_with(start)).count()
        };
        assert_eq!((count("large"), count("small")), (most_open(), MOST_READ));
        assert!(shelf.kept("small-0").is_none() && shelf.kept("small-299").is_some());
    }
}
