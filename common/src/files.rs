//! A directory that cannot be left (stage 7's lasting form; storing is stage 8's).

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How much of an upload is in memory at a time.
const BLOCK: usize = 128 * 1024;

/// How the names of unfinished uploads begin. No request can name such a file.
const UNFINISHED: &str = ".upload-";

/// The files that clients may read and store: those below one directory, and no others.
#[derive(Debug, Clone)]
pub struct Directory {
    /// Absolute, without symbolic links.
    root: Option<PathBuf>,
    uploads: Arc<Mutex<Uploads>>,
}

/// The uploads that are being written at this moment.
#[derive(Debug, Default)]
struct Uploads {
    paths: BTreeSet<PathBuf>,
    /// Whether there may be no more of them.
    are_abandoned: bool,
}

impl Directory {
    /// The files below `root`, which must be absolute and without symbolic links; without a
    /// root, no files at all.
    pub fn new(root: Option<PathBuf>) -> Directory {
        Directory { root, uploads: Arc::default() }
    }

    /// Opens a file for reading. Symbolic links are followed as long as they stay inside.
    ///
    /// # Errors
    ///
    /// `NotFound` when there is no such file, when the name leads out of the directory, and when
    /// it names something else than a file.
    pub fn open(&self, name: &str) -> io::Result<File> {
        let mut path = self.locate(name)?;
        let mut found = path.symlink_metadata().map_err(|_| not_found())?;
        if found.is_symlink() {
            path = self.real(&path)?;
            found = path.metadata()?;
        }
        // Opening something else may have no end: a pipe waits for somebody who writes.
        if found.is_file() { File::open(path) } else { Err(not_found()) }
    }

    /// Stores all of `content` under `name`, instead of what was there before.
    ///
    /// The file appears whole or not at all: the bytes go to a file of another name, which is
    /// renamed at the end and removed on any failure.
    ///
    /// # Errors
    ///
    /// `NotFound` when the name leads out of the directory, or names a directory or something in
    /// a directory that is not there; otherwise what reading `content` or writing the file gives.
    pub fn store(&self, name: &str, mut content: impl Read) -> io::Result<()> {
        let place = self.place(name)?;
        let mut upload = Upload::new(&place, &self.uploads)?;
        let mut block = vec![0; BLOCK]; // `io::copy` would take small ones
        loop {
            match content.read(&mut block) {
                Ok(0) => return upload.finish(&place),
                Ok(count) => upload.file.write_all(&block[..count])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Removes what there is of unfinished uploads, which will fail, as will all that begin later.
    /// For a program that is about to end, and cannot wait for them.
    pub fn abandon_uploads(&self) {
        let mut uploads = lock(&self.uploads);
        uploads.are_abandoned = true;
        for path in &uploads.paths {
            let _ = fs::remove_file(path);
        }
    }

    /// Where the file called `name` is, or would be: in an existing directory inside the root,
    /// and not itself a directory. The last part may be a symbolic link to anywhere.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is no such place.
    pub fn place(&self, name: &str) -> io::Result<PathBuf> {
        let place = self.locate(name)?;
        let is_usable = match place.metadata() {
            Ok(found) => !found.is_dir(),
            Err(error) => error.kind() == io::ErrorKind::NotFound, // free, or not a possible name
        };
        if is_usable { Ok(place) } else { Err(not_found()) }
    }

    /// The path that a plain name stands for, in a directory that really is inside the root. Only its
    /// last part may be a link.
    fn locate(&self, name: &str) -> io::Result<PathBuf> {
        let root = self.root.as_ref().filter(|_| is_plain(name)).ok_or_else(not_found)?;
        match name.rsplit_once('/') {
            Some((parent, last)) => Ok(self.real(&root.join(parent))?.join(last)),
            None => Ok(root.join(name)), // no need to ask about the root again
        }
    }

    /// Where something really is, if that is inside the root.
    fn real(&self, path: &Path) -> io::Result<PathBuf> {
        let path = path.canonicalize().map_err(|_| not_found())?;
        if self.contains(&path) { Ok(path) } else { Err(not_found()) }
    }

    fn contains(&self, path: &Path) -> bool {
        self.root.as_ref().is_some_and(|root| path.starts_with(root))
    }
}

/// Whether a name goes down only: words between slashes, none of them `.`, `..` or empty, and
/// nothing that a file system takes for more than a name.
fn is_plain(name: &str) -> bool {
    let forbidden: &[char] = if cfg!(windows) { &['\0', ':', '\\'] } else { &['\0'] };
    !name.contains(forbidden)
        && name.split('/').all(|part| {
            // Some file systems do not tell upper from lower case.
            let is_unfinished = part.to_ascii_lowercase().starts_with(UNFINISHED);
            !matches!(part, "" | "." | "..") && !is_unfinished
        })
}

fn lock(uploads: &Mutex<Uploads>) -> MutexGuard<'_, Uploads> {
    uploads.lock().unwrap_or_else(PoisonError::into_inner)
}

fn not_found() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "no such file")
}

/// A file that is being written beside its place, under a name of its own. When dropped it is
/// removed, unless it is finished.
#[derive(Debug)]
struct Upload<'d> {
    file: File,
    path: PathBuf,
    uploads: &'d Mutex<Uploads>,
    is_finished: bool,
}

impl<'d> Upload<'d> {
    fn new(place: &Path, uploads: &'d Mutex<Uploads>) -> io::Result<Upload<'d>> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        loop {
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = place.with_file_name(format!("{UNFINISHED}{}-{count}", process::id()));
            let mut all = lock(uploads);
            if all.are_abandoned {
                return Err(io::Error::other("the server is about to end"));
            }
            match File::create_new(&path) {
                // Left behind by a server that was killed and had the same process id.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                created => {
                    let file = created?;
                    all.paths.insert(path.clone());
                    return Ok(Upload { file, path, uploads, is_finished: false });
                }
            }
        }
    }

    fn finish(mut self, place: &Path) -> io::Result<()> {
        fs::rename(&self.path, place)?;
        self.is_finished = true;
        Ok(())
    }
}

impl Drop for Upload<'_> {
    fn drop(&mut self) {
        // In this order, so that there is never a file that nobody would remove.
        let mut uploads = lock(self.uploads);
        if !self.is_finished {
            let _ = fs::remove_file(&self.path);
        }
        uploads.paths.remove(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;
    use tempfile::TempDir;

    /// A directory with a file beside it that must stay out of reach.
    fn directory() -> (TempDir, Directory) {
        let outer = TempDir::new().expect("a temporary directory");
        let root = outer.path().join("root");
        fs::create_dir_all(root.join("sub")).expect("writable");
        fs::write(outer.path().join("secret"), "secret").expect("writable");
        fs::write(root.join("a.txt"), "inside").expect("writable");
        fs::write(root.join("sub/b.txt"), "below").expect("writable");
        let root = root.canonicalize().expect("it exists");
        (outer, Directory::new(Some(root)))
    }

    fn read(directory: &Directory, name: &str) -> Option<String> {
        directory.open(name).ok().map(|file| io::read_to_string(file).expect("readable text"))
    }

    fn listing(directory: &Directory) -> Vec<String> {
        let root = directory.root.as_ref().expect("it has one");
        let entries = fs::read_dir(root).expect("readable");
        let mut names: Vec<_> = entries
            .map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn opens_files_inside() {
        let (_outer, directory) = directory();
        assert_eq!(read(&directory, "a.txt").as_deref(), Some("inside"));
        assert_eq!(read(&directory, "sub/b.txt").as_deref(), Some("below"));
    }

    #[test]
    fn finds_nothing_else() {
        let (outer, directory) = directory();
        let absolute = outer.path().join("secret").display().to_string();
        let absolute_inside = outer.path().join("root/a.txt").display().to_string();
        for name in [
            "",
            ".",
            "..",
            "/",
            "sub",
            "sub/",
            "a.txt/",
            "../secret",
            "sub/../../secret",
            "sub/../a.txt",
            "./a.txt",
            "/a.txt",
            "a.txt\0",
            "missing",
            &absolute,
            &absolute_inside,
        ] {
            let error = directory.open(name).expect_err(name);
            assert_eq!(error.kind(), io::ErrorKind::NotFound, "{name:?}");
        }
        assert!(Directory::new(None).open("a.txt").is_err());
    }

    #[test]
    fn abandoned_uploads_leave_nothing() {
        let (_outer, directory) = directory();
        let before = listing(&directory);
        let place = directory.place("new").expect("a free place");
        let upload = Upload::new(&place, &directory.uploads).expect("it can be written");
        directory.abandon_uploads();
        assert!(upload.finish(&place).is_err());
        assert!(directory.store("later", &b"x"[..]).is_err());
        assert_eq!(listing(&directory), before);
    }

    #[cfg(unix)]
    #[test]
    fn follows_links_only_inside() {
        use std::os::unix::fs::symlink;
        let (outer, directory) = directory();
        let root = outer.path().join("root");
        symlink("a.txt", root.join("inward")).expect("links");
        symlink("../secret", root.join("outward")).expect("links");
        symlink("..", root.join("up")).expect("links");
        assert_eq!(read(&directory, "inward").as_deref(), Some("inside"));
        assert_eq!(read(&directory, "outward"), None);
        assert_eq!(read(&directory, "up/secret"), None);
        assert!(directory.store("up/new", &b"x"[..]).is_err());
        // A link that is stored to is replaced; what it led to is not touched.
        directory.store("outward", &b"mine"[..]).expect("stored");
        assert_eq!(fs::read(outer.path().join("secret")).expect("there"), b"secret");
        assert_eq!(read(&directory, "outward").as_deref(), Some("mine"));
    }

    #[test]
    fn stores_and_replaces_whole_files() {
        let (_outer, directory) = directory();
        directory.store("new", &b"one"[..]).expect("stored");
        directory.store("new", &b"\0two"[..]).expect("stored");
        assert_eq!(read(&directory, "new").as_deref(), Some("\0two"));
        assert_eq!(listing(&directory), ["a.txt", "new", "sub"]);
    }

    #[test]
    fn a_failed_upload_leaves_nothing() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::ErrorKind::UnexpectedEof.into())
            }
        }
        let (_outer, directory) = directory();
        for name in ["new", "a.txt", "sub", "missing/new", "../new", "", &"n".repeat(300)] {
            assert!(directory.store(name, b"half".chain(Broken)).is_err(), "{name}");
        }
        assert_eq!(listing(&directory), ["a.txt", "sub"]);
        assert_eq!(read(&directory, "a.txt").as_deref(), Some("inside"));
    }

    #[test]
    fn an_unfinished_upload_cannot_be_named() {
        let (_outer, directory) = directory();
        for name in [".upload-1-2", ".UPLOAD-1-2", "sub/.upload-1-2"] {
            assert!(directory.store(name, &b""[..]).is_err(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_name_leads_outside(name in "([a./\\\\\0-]|\\.\\./|sub|secret|root){0,12}") {
            let (_outer, directory) = directory();
            prop_assert_ne!(read(&directory, &name), Some("secret".to_owned()));
            if let Ok(place) = directory.place(&name) {
                prop_assert!(directory.contains(&place), "{}", place.display());
            }
        }
    }
}
