//! A directory that no request can leave (stage 7's lasting form; storing is stage 8's).

use std::ffi::OsString;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::content::folder::{Entry, Folder, not_found};
use crate::content::recent::Recent;
use crate::content::upload::{UNFINISHED, Upload, Uploads};
use crate::message::file::{FileState, OpenFile};
use crate::message::refused::Refused;
use crate::message::response::has_no_descriptor;
use crate::message::target::Rest;
use crate::protocol::request::Body;

/// How long the open root is used before its path is followed again. The path may be a link that is
/// switched to another directory with each release.
const ROOT_TTL: Duration = Duration::from_secs(1);

/// The most names of a folder that are listed.
pub(crate) const MOST_LISTED: usize = 10_000;

/// The files that clients may read and store: those below one directory, and no others.
///
/// ```no_run
/// use common::{Directory, Request, Response};
///
/// fn fetch(request: &Request, files: &Directory) -> std::io::Result<Response> {
///     match request.path() {
///         ("files", Some(name)) => Response::file(files.open(name)?),
///         _ => Ok(Response::not_found()),
///     }
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Directory {
    root: Option<Arc<Root>>,
    uploads: Arc<Uploads>,
    recent: Arc<Recent>,
    /// Whether an upload is on the disk when it has been answered.
    is_synced: bool,
}

/// A condition for the state of the file that is to be replaced, if there is one.
type Condition<'c> = dyn Fn(Option<FileState>) -> bool + 'c;

/// What stands under a name. From stage 13.
#[derive(Debug)]
pub enum Found {
    /// A file, open for reading.
    File(OpenFile),
    /// A folder, which holds files.
    Folder,
}

/// A name in a folder. From stage 13.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// The name, without those of the folders above.
    pub name: OsString,
    /// Whether it is a folder, or leads to one.
    pub is_folder: bool,
}

/// The directory itself.
#[derive(Debug)]
struct Root {
    /// The path as the user named it, with all links.
    path: PathBuf,
    /// The directory that the path led to when it was last opened, and the time of that.
    latest: Mutex<Option<(Instant, Arc<Folder>)>>,
}

impl Directory {
    /// Gives access to the files below `root`, or to no files if there is no root.
    pub fn new(root: Option<PathBuf>) -> Directory {
        let root = root.map(|path| Arc::new(Root { path, latest: Mutex::default() }));
        Directory { root, uploads: Arc::default(), recent: Arc::default(), is_synced: false }
    }

    /// Removes uploads that earlier programs left unfinished directly in the directory.
    #[must_use]
    pub fn without_left_overs(self) -> Directory {
        if let Some(Ok(folder)) = self.root.as_ref().map(|root| root.folder()) {
            self.uploads.sweep_once(&folder);
        }
        self
    }

    /// Has an upload on the disk before it is answered, so that it survives a loss of power. That takes the time that
    /// the disk takes. From stage 19.
    #[must_use]
    pub fn synced(self) -> Directory {
        Directory { is_synced: true, ..self }
    }

    /// Opens a file for reading. Symbolic links are followed if they stay inside the directory.
    ///
    /// # Errors
    ///
    /// `NotFound` when there is no such file, when the name leads out of the directory, and when it
    /// names something other than a file; otherwise the error of the system.
    pub fn open(&self, name: Rest) -> io::Result<OpenFile> {
        match self.find(&name.file_name()?)? {
            Found::File(file) => Ok(file),
            Found::Folder => Err(not_found()),
        }
    }

    /// Looks up a name, such as `sub/a.txt`, and opens it if it is a file. From stage 13.
    ///
    /// # Errors
    ///
    /// As [`Directory::open`], but for a folder.
    pub fn find(&self, name: &Path) -> io::Result<Found> {
        self.find_at(name, SystemTime::now())
    }

    fn find_at(&self, name: &Path, now: SystemTime) -> io::Result<Found> {
        let root = self.root_for(name)?;
        if let Some(file) = self.recent.get(&root, name) {
            return Ok(Found::File(file));
        }
        let file = match root.open_file(name) {
            Err(error) if has_no_descriptor(&error) => {
                self.recent.forget();
                root.open_file(name)?
            }
            opened => opened?,
        };
        let metadata = file.metadata()?;
        match metadata.file_type() {
            kind if kind.is_file() => {
                let file = OpenFile::new(file, &metadata);
                Ok(Found::File(self.recent.keep(name, file, &metadata, now)))
            }
            kind if kind.is_dir() => Ok(Found::Folder),
            _ => Err(not_found()), // reading anything else may never end
        }
    }

    /// Lists the names in a folder of this directory, sorted, at most 10,000 of them. The empty name means the directory
    /// itself. Names that begin with a dot are left out, and those that [`Directory::find`] would not find. From stage
    /// 13.
    ///
    /// # Errors
    ///
    /// `NotFound` when there is no such folder, or when it is outside; otherwise the error of the system.
    pub fn list(&self, folder: &Path) -> io::Result<Vec<Listed>> {
        let is_root = folder.as_os_str().is_empty();
        let root = if is_root { self.root_for(Path::new("any"))? } else { self.root_for(folder)? };
        let opened = if is_root { root } else { Arc::new(root.open_folder(folder)?) };
        let mut listed = Vec::new();
        let mut names = opened.names()?;
        names
            .retain(|name| !name.as_encoded_bytes().starts_with(b".") && is_plain(Path::new(name)));
        names.sort();
        for name in names.into_iter().take(MOST_LISTED) {
            let is_folder = match opened.entry(&name)? {
                Entry::File { .. } | Entry::ReadOnly => false,
                Entry::Directory => true,
                Entry::Link => match self.find(&folder.join(&name)) {
                    Ok(found) => matches!(found, Found::Folder),
                    Err(_) => continue, // it leads nowhere, or outside
                },
                Entry::Special | Entry::Nothing => continue,
            };
            listed.push(Listed { name, is_folder });
        }
        Ok(listed)
    }

    /// Stores the whole body of a request under `name`, and replaces what was there before. If that is
    /// a file, its permissions are kept.
    ///
    /// The file appears completely or not at all: the bytes go to a file of another name, which is
    /// renamed at the end, and removed on any failure.
    ///
    /// # Errors
    ///
    /// `NotFound` when the name leads out of the directory, names a directory, or names something in a
    /// directory that does not exist; 403 for a file that may not be changed, and for anything else
    /// that is neither a file nor a link; `StorageFull`, which is answered with 507, when there is no
    /// room; otherwise the error of reading the body or writing the file.
    pub fn store(&self, name: Rest, content: Body) -> io::Result<()> {
        let length = content.length();
        self.store_name(&name.file_name()?, length, content, None)
    }

    /// Stores a file as [`Directory::store`] does, if a condition holds for the state of the file that it
    /// replaces; `None` if there is none. The condition is evaluated before the body is read, and again when all of
    /// it has arrived, at a moment when no other upload of this program can replace the file. From stage 15.
    ///
    /// # Errors
    ///
    /// As [`Directory::store`], and 412 if the condition does not hold.
    pub fn store_if(
        &self,
        name: Rest,
        content: Body,
        condition: impl Fn(Option<FileState>) -> bool,
    ) -> io::Result<()> {
        let length = content.length();
        self.store_name(&name.file_name()?, length, content, Some(&condition))
    }

    /// Stores content under this relative path, as [`Directory::store`] does. From stage 18.
    ///
    /// # Errors
    ///
    /// As [`Directory::store`].
    pub fn store_as(&self, name: &Path, content: impl Read) -> io::Result<()> {
        self.store_name(name, None, content, None)
    }

    /// Stores content that was decoded by hand, as [`Directory::store`] does.
    ///
    /// # Errors
    ///
    /// As [`Directory::store`].
    pub fn store_from(&self, name: Rest, content: impl Read) -> io::Result<()> {
        self.store_name(&name.file_name()?, None, content, None)
    }

    fn store_name(
        &self,
        name: &Path,
        length: Option<u64>,
        content: impl Read,
        condition: Option<&Condition>,
    ) -> io::Result<()> {
        let root = self.root_for(name)?;
        let last = name.file_name().ok_or_else(not_found)?;
        let folder = match name.parent() {
            Some(parent) if parent != Path::new("") => Arc::new(root.open_folder(parent)?),
            _ => root,
        };
        self.uploads.sweep_once(&folder);
        let mode = match folder.entry(last)? {
            Entry::File { mode } => Some(mode),
            Entry::Link | Entry::Nothing => None,
            Entry::Directory => return Err(not_found()),
            Entry::ReadOnly => return Err(READ_ONLY.into()),
            Entry::Special => return Err(NO_FILE.into()),
        };
        if length > folder.free_space().or(Some(u64::MAX)) {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "there is no room for it"));
        }
        // After all other reasons to refuse it (RFC 9110, section 13.2.1).
        self.check(name, condition)?;
        let mut upload = Upload::begin(Arc::clone(&folder), &self.uploads)?;
        upload.copy_from(content)?;
        if self.is_synced {
            upload.sync()?; // before others have to wait
        }
        let _alone = self.uploads.finish_alone();
        let replaced = self.check(name, condition)?; // another upload may have been quicker
        upload.finish(last, mode, replaced)?;
        if self.is_synced { folder.sync() } else { Ok(()) }
    }

    /// Refuses to change a file that is not in the state that a condition asks for. Returns the state.
    fn check(&self, name: &Path, condition: Option<&Condition>) -> io::Result<Option<FileState>> {
        let Some(holds) = condition else { return Ok(self.state(name).unwrap_or_default()) };
        let state = self.state(name)?;
        if holds(state) { Ok(state) } else { Err(FAILED.into()) }
    }

    /// Returns the state of a file; `None` if there is no such file.
    fn state(&self, name: &Path) -> io::Result<Option<FileState>> {
        match self.find(name) {
            Ok(Found::File(file)) => file.state().map(Some),
            Ok(Found::Folder) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes the files of unfinished uploads. These uploads fail, and so do all that begin later.
    /// For a program that is about to end, and cannot wait for them.
    pub fn abandon_uploads(&self) {
        self.uploads.abandon();
    }

    /// Returns the path of the file called `name`, whether or not it exists: in an existing directory
    /// inside the root, and not itself a directory. The last part may be a symbolic link to anywhere.
    ///
    /// # Errors
    ///
    /// `NotFound` if there can be no such file.
    pub fn place(&self, name: Rest) -> io::Result<PathBuf> {
        let name = name.file_name()?;
        let root = self.root.as_ref().filter(|_| is_plain(&name)).ok_or_else(not_found)?;
        let root = root.path.canonicalize()?;
        let place = root.join(name);
        let parent = place.parent().ok_or_else(not_found)?;
        let parent = parent.canonicalize().map_err(|_| not_found())?;
        let is_no_name = |error: io::Error| error.kind() != io::ErrorKind::NotFound;
        let may_be = !place.symlink_metadata().is_err_and(is_no_name) && !place.is_dir();
        let is_inside = parent.starts_with(&root);
        let last = place.file_name().filter(|_| is_inside && may_be).ok_or_else(not_found)?;
        Ok(parent.join(last))
    }

    /// Returns the root, if the name leads only downwards.
    fn root_for(&self, name: &Path) -> io::Result<Arc<Folder>> {
        self.root.as_ref().filter(|_| is_plain(name)).ok_or_else(not_found)?.folder()
    }
}

const READ_ONLY: Refused = Refused { status: 403, why: "this file may not be changed" };

const FAILED: Refused =
    Refused { status: 412, why: "the file is not in the version that the request asks for" };

const NO_FILE: Refused =
    Refused { status: 403, why: "there is something of this name that is no file" };

impl Root {
    /// Returns the directory that the path leads to now, or led to less than a second ago.
    fn folder(&self) -> io::Result<Arc<Folder>> {
        let now = Instant::now();
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        match &*latest {
            Some((since, folder)) if now.duration_since(*since) < ROOT_TTL => {
                Ok(Arc::clone(folder))
            }
            _ => {
                let folder = Arc::new(Folder::open(&self.path)?);
                *latest = Some((now, Arc::clone(&folder)));
                Ok(folder)
            }
        }
    }
}

/// Whether a name leads only downwards: parts between slashes, none of them empty, `.`, `..`, or like
/// the name of an unfinished upload, and nothing that the file system treats as more than a name.
fn is_plain(name: &Path) -> bool {
    let name = name.as_os_str().as_encoded_bytes();
    let forbidden: &[u8] = if cfg!(windows) { b"\0:\\" } else { b"\0" };
    !name.iter().any(|byte| forbidden.contains(byte))
        && name.split(|&byte| byte == b'/').all(|part| {
            // Some file systems ignore case.
            let start = part.get(..UNFINISHED.len()).unwrap_or_default();
            let is_unfinished = start.eq_ignore_ascii_case(UNFINISHED.as_bytes());
            !matches!(part, b"" | b"." | b"..") && !is_unfinished
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::target::Target;
    use pretty_assertions::assert_eq;
    use proptest::prelude::*;
    use std::fs;
    use tempfile::TempDir;

    /// Returns a directory with a file beside it that must stay out of reach.
    fn directory() -> (TempDir, Directory) {
        let outer = TempDir::new().expect("a temporary directory");
        let root = outer.path().join("root");
        fs::create_dir_all(root.join("sub")).expect("writable");
        fs::write(outer.path().join("secret"), "secret").expect("writable");
        fs::write(root.join("a.txt"), "inside").expect("writable");
        fs::write(root.join("sub/b.txt"), "below").expect("writable");
        let root = root.canonicalize().expect("the root exists");
        (outer, Directory::new(Some(root)))
    }

    fn open(directory: &Directory, name: &str) -> io::Result<OpenFile> {
        match directory.find(Path::new(name))? {
            Found::File(file) => Ok(file),
            Found::Folder => Err(not_found()),
        }
    }

    fn read(directory: &Directory, name: &str) -> Option<String> {
        let source = open(directory, name).ok()?.into_whole().expect("the file can be read");
        Some(io::read_to_string(source).expect("readable text"))
    }

    fn store(directory: &Directory, name: &str, content: impl Read) -> io::Result<()> {
        directory.store_name(Path::new(name), None, content, None)
    }

    fn listing(directory: &Directory) -> Vec<String> {
        let root = directory.root.as_ref().expect("there is a root");
        let entries = fs::read_dir(&root.path).expect("readable");
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
        let too_long = "x".repeat(300);
        for name in [
            "",
            ".",
            "..",
            &too_long,
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
            let error = open(&directory, name).expect_err(name);
            assert_eq!(error.kind(), io::ErrorKind::NotFound, "{name:?}");
            if name != "missing" {
                let error = store(&directory, name, &b"x"[..]).expect_err(name);
                assert_eq!(error.kind(), io::ErrorKind::NotFound, "to store {name:?}");
            }
        }
        let target = format!("/files/{too_long}");
        let target = Target::parse("POST", &target).expect("valid");
        let place = directory.place(target.rest().expect("there is a slash"));
        assert_eq!(place.map_err(|it| it.kind()), Err(io::ErrorKind::NotFound));
        assert!(open(&Directory::new(None), "a.txt").is_err());
    }

    #[test]
    fn an_escaped_slash_does_not_lead_into_a_directory() {
        let (_outer, directory) = directory();
        let open = |target| {
            let target = Target::parse("GET", target).expect("valid");
            directory.open(target.rest().expect("there is a slash")).map(drop)
        };
        open("/files/sub/b.txt").expect("the file exists");
        open("/files/sub/%62.txt").expect("it is the same file");
        assert_eq!(
            open("/files/sub%2Fb.txt").map_err(|it| it.kind()),
            Err(io::ErrorKind::NotFound)
        );
    }

    #[test]
    fn abandoned_uploads_leave_nothing() {
        let (_outer, directory) = directory();
        let before = listing(&directory);
        let folder = directory.root_for(Path::new("new")).expect("the root exists");
        let upload = Upload::begin(folder, &directory.uploads).expect("an upload can begin");
        directory.abandon_uploads();
        assert!(upload.finish("new".as_ref(), None, None).is_err());
        assert!(store(&directory, "later", &b"x"[..]).is_err());
        assert_eq!(listing(&directory), before);
    }

    /// Starts an upload, calls `action`, and lets the upload end.
    #[cfg(unix)]
    fn during_an_upload(
        directory: &Directory,
        name: &str,
        action: impl FnOnce(),
    ) -> io::Result<()> {
        struct Once<F>(Option<F>);
        impl<F: FnOnce()> Read for Once<F> {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                if let Some(action) = self.0.take() {
                    action();
                }
                Ok(0)
            }
        }
        store(directory, name, b"new".chain(Once(Some(action))))
    }

    #[cfg(unix)]
    #[test]
    fn what_happens_to_a_directory_meanwhile_does_not_lead_out() {
        let (outer, directory) = directory();
        let root = outer.path().join("root");
        let swap = || {
            fs::rename(root.join("sub"), root.join("moved")).expect("renamed");
            std::os::unix::fs::symlink("..", root.join("sub")).expect("a link");
        };
        during_an_upload(&directory, "sub/c.txt", swap).expect("stored where it began");
        assert_eq!(read(&directory, "moved/c.txt").as_deref(), Some("new"));
        assert!(!outer.path().join("c.txt").exists());
        let names = fs::read_dir(root.join("moved")).expect("readable").count();
        assert_eq!(names, 2, "nothing is left of the upload");
    }

    #[cfg(unix)]
    #[test]
    fn a_link_that_is_switched_is_followed() {
        use std::os::unix::fs::symlink;
        let outer = TempDir::new().expect("a temporary directory");
        for release in ["one", "two"] {
            fs::create_dir(outer.path().join(release)).expect("writable");
            fs::write(outer.path().join(release).join("a.txt"), release).expect("writable");
        }
        let current = outer.path().join("current");
        symlink("one", &current).expect("a link");
        let directory = Directory::new(Some(current.clone()));
        assert_eq!(read(&directory, "a.txt").as_deref(), Some("one"));
        fs::remove_file(&current).and_then(|()| symlink("two", &current)).expect("a link");
        let root = directory.root.as_ref().expect("there is a root");
        let mut latest = root.latest.lock().expect("no thread has panicked");
        let (since, _) = latest.as_mut().expect("the root was opened");
        *since -= ROOT_TTL; // a second later
        drop(latest);
        assert_eq!(read(&directory, "a.txt").as_deref(), Some("two"));
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_is_replaced_keeps_its_permissions() {
        use std::os::unix::fs::PermissionsExt;
        let (outer, directory) = directory();
        let path = outer.path().join("root/a.txt");
        for mode in [0o600, 0o640, 0o755] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("the file is ours");
            store(&directory, "a.txt", &b"new"[..]).expect("stored");
            let found = fs::metadata(&path).expect("it exists").permissions().mode() & 0o7777;
            assert_eq!(found, mode, "{found:o}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).expect("the file is ours");
        let error = store(&directory, "a.txt", &b"newer"[..]).expect_err("the file is read-only");
        assert_eq!(Refused::inside(&error).map(|refused| refused.status), Some(403));
        assert_eq!(read(&directory, "a.txt").as_deref(), Some("new"));
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_file_is_neither_read_nor_replaced() {
        let (outer, directory) = directory();
        let root = outer.path().join("root");
        std::os::unix::net::UnixListener::bind(root.join("socket")).expect("a socket");
        let made = std::process::Command::new("mkfifo").arg(root.join("pipe")).status();
        assert!(made.expect("mkfifo runs").success());
        for name in ["socket", "pipe"] {
            assert!(open(&directory, name).is_err(), "{name}"); // without waiting
            let error = store(&directory, name, &b"x"[..]).expect_err(name);
            assert_eq!(Refused::inside(&error).map(|refused| refused.status), Some(403));
        }
        assert_eq!(listing(&directory), ["a.txt", "pipe", "socket", "sub"]);
    }

    #[cfg(unix)]
    #[test]
    fn stale_uploads_are_removed_and_running_ones_kept() {
        let (outer, directory) = directory();
        let root = outer.path().join("root");
        let folder = directory.root_for(Path::new("new")).expect("the root exists");
        let upload = Upload::begin(folder, &directory.uploads).expect("an upload can begin");
        fs::write(root.join(".upload-1-2"), "half").expect("writable");
        fs::write(root.join(".upload-notes.md"), "a user's own").expect("writable");
        let _ = Directory::new(Some(root.clone()));
        assert!(root.join(".upload-1-2").exists());
        let _ = Directory::new(Some(root)).without_left_overs();
        upload.finish("new".as_ref(), None, None).expect("the file is still there");
        assert_eq!(listing(&directory), [".upload-notes.md", "a.txt", "new", "sub"]);
    }

    #[cfg(unix)]
    #[test]
    fn a_program_that_writes_to_a_pipe_is_not_disturbed() {
        let (outer, directory) = directory();
        let pipe = outer.path().join("root/pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.expect("mkfifo runs").success());
        let path = pipe.clone();
        let writer = std::thread::spawn(move || fs::write(path, "data"));
        let start = Instant::now();
        while start.elapsed() < Duration::from_millis(50) {
            assert!(open(&directory, "pipe").is_err());
        }
        let (sender, content) = std::sync::mpsc::channel();
        std::thread::spawn(move || sender.send(fs::read(pipe)));
        let content = content.recv_timeout(Duration::from_secs(10)).expect("the writer is there");
        assert_eq!(content.expect("readable"), b"data");
        writer.join().expect("it ends").expect("somebody has read all of it");
    }

    #[test]
    fn each_upload_has_a_later_time_than_the_last() {
        let (outer, directory) = directory();
        let path = outer.path().join("root/a.txt");
        let state = || directory.state(Path::new("a.txt")).expect("it is there").expect("a file");
        // As if the clock of the file system were an hour behind, or its ticks an hour long.
        let later = SystemTime::now() + Duration::from_secs(3_000);
        let file = fs::File::options().append(true).open(path).expect("writable");
        file.set_modified(later).expect("it has a time");
        let mut before = state();
        for content in [&b"first"[..], b"again", b"third"] {
            store(&directory, "a.txt", content).expect("storable");
            assert!(state().modified > before.modified, "{before:?} {:?}", state());
            before = state();
        }
    }

    #[test]
    fn what_a_condition_refuses_would_have_been_stored() {
        let (_outer, directory) = directory();
        let never: &Condition = &|_| false;
        let status = |name: &str| {
            let stored = directory.store_name(Path::new(name), None, &b"x"[..], Some(never));
            let error = stored.expect_err("the condition does not hold");
            Refused::inside(&error).map(|refused| refused.status)
        };
        assert_eq!(status("new"), Some(412));
        assert_eq!(status("missing/new"), None); // there is no such folder, which comes first
        assert_eq!(status("sub"), None);
    }

    #[cfg(unix)]
    #[test]
    fn what_cannot_be_opened_is_not_absent() {
        use std::os::unix::fs::PermissionsExt;
        let (outer, directory) = directory();
        let path = outer.path().join("root/a.txt");
        fs::set_permissions(&path, PermissionsExt::from_mode(0o222)).expect("it is ours");
        if fs::File::open(&path).is_ok() {
            return; // the administrator can open everything
        }
        let is_new: &Condition = &|state| state.is_none();
        let name = Path::new("a.txt");
        directory.store_name(name, None, &b"x"[..], Some(is_new)).expect_err("it is there");
        fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).expect("it is ours");
        assert_eq!(read(&directory, "a.txt").as_deref(), Some("inside"));
    }

    #[test]
    fn hidden_names_take_no_place_in_a_list() {
        let (outer, directory) = directory();
        for number in 0..MOST_LISTED {
            fs::write(outer.path().join(format!("root/.{number}")), "").expect("writable");
        }
        let names = directory.list(Path::new("")).expect("a folder");
        let names: Vec<_> = names.iter().map(|listed| &listed.name).collect();
        assert_eq!(names, ["a.txt", "sub"]);
    }

    #[test]
    fn what_cannot_fit_is_refused_before_it_comes() {
        let (_outer, directory) = directory();
        let error = directory.store_name(Path::new("new"), Some(u64::MAX), io::empty(), None);
        if cfg!(unix) {
            let error = error.expect_err("no disk is that large");
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        }
    }

    #[cfg(unix)]
    #[test]
    fn follows_links_only_inside() {
        use std::os::unix::fs::symlink;
        let (outer, directory) = directory();
        let root = outer.path().join("root");
        symlink("a.txt", root.join("inward")).expect("a link");
        symlink("../secret", root.join("outward")).expect("a link");
        symlink("..", root.join("up")).expect("a link");
        assert_eq!(read(&directory, "inward").as_deref(), Some("inside"));
        assert_eq!(read(&directory, "outward"), None);
        assert_eq!(read(&directory, "up/secret"), None);
        assert!(store(&directory, "up/new", &b"x"[..]).is_err());
        // Storing under the name of a link replaces the link. Its target is not touched.
        store(&directory, "outward", &b"mine"[..]).expect("stored");
        assert_eq!(fs::read(outer.path().join("secret")).expect("it exists"), b"secret");
        assert_eq!(read(&directory, "outward").as_deref(), Some("mine"));
    }

    #[test]
    fn stores_and_replaces_whole_files() {
        let (_outer, directory) = directory();
        store(&directory, "new", &b"one"[..]).expect("stored");
        store(&directory, "new", &b"\0two"[..]).expect("stored");
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
            assert!(store(&directory, name, b"half".chain(Broken)).is_err(), "{name}");
        }
        assert_eq!(listing(&directory), ["a.txt", "sub"]);
        assert_eq!(read(&directory, "a.txt").as_deref(), Some("inside"));
    }

    #[test]
    fn an_unfinished_upload_cannot_be_named() {
        let (_outer, directory) = directory();
        for name in [".upload-1-2", ".UPLOAD-1-2", "sub/.upload-1-2"] {
            assert!(store(&directory, name, &b""[..]).is_err(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_name_leads_outside(name in "([a./\\\\\0-]|\\.\\./|sub|secret|root){0,12}") {
            let (outer, directory) = directory();
            prop_assert_ne!(read(&directory, &name), Some("secret".to_owned()));
            prop_assert!(store(&directory, &name, &b"x"[..]).is_err() || is_plain(Path::new(&name)));
            prop_assert_eq!(fs::read(outer.path().join("secret")).expect("it exists"), b"secret");
        }
    }
}
