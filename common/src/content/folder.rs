//! A directory that is held open, and the way to it (stage 8's lasting form).

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// What stands under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A file that may be replaced. Its permissions are kept.
    File {
        /// The permissions, where the system has them in this form.
        mode: u32,
    },
    /// A file that may not be changed.
    ReadOnly,
    /// A symbolic link, to anywhere.
    Link,
    Directory,
    /// A pipe, a socket, a device.
    Special,
    Nothing,
}

pub(crate) use system::{Folder, is_left_behind};

/// What the system says of names under which there is nothing, and can be nothing, in few words.
fn absence(error: io::Error) -> io::Error {
    if system::is_absence(&error) { not_found() } else { error }
}

pub(crate) fn not_found() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "no such file")
}

/// Follows a name below a root step by step, and makes sure at the end that it has not led out. Somebody
/// who changes links at the right moment could fool it; where the system can do all of it in one step,
/// that is done instead.
fn follow(root: &Path, name: &Path) -> io::Result<PathBuf> {
    let root = root.canonicalize().map_err(absence)?;
    let path = root.join(name).canonicalize().map_err(absence)?;
    if path.starts_with(&root) { Ok(path) } else { Err(not_found()) }
}

#[cfg(unix)]
mod system {
    use super::*;
    use rustix::fs::{self, Access, AtFlags, FileType, FlockOperation, Mode, OFlags};
    use rustix::io::Errno;
    use std::os::fd::OwnedFd;

    /// A directory that is held open. What is done in it is done there, also when it is moved, or
    /// another one takes its place.
    #[derive(Debug)]
    pub(crate) struct Folder {
        fd: OwnedFd,
        path: PathBuf,
    }

    impl Folder {
        pub(crate) fn open(path: &Path) -> io::Result<Folder> {
            let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
            let fd = fs::open(path, flags, Mode::empty())?;
            Ok(Folder { fd, path: path.to_owned() })
        }

        pub(crate) fn path(&self) -> &Path {
            &self.path
        }

        /// Opens a file below this directory for reading, as long as no link leads out.
        pub(crate) fn open_file(&self, name: &Path) -> io::Result<File> {
            // A pipe that nobody writes to is not waited for.
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
            self.open_beneath(name, flags).map(File::from)
        }

        /// Opens a directory below this one, as long as no link leads out.
        pub(crate) fn open_folder(&self, name: &Path) -> io::Result<Folder> {
            let fd = self.open_beneath(name, OFlags::RDONLY | OFlags::DIRECTORY)?;
            Ok(Folder { fd, path: self.path.join(name) })
        }

        fn open_beneath(&self, name: &Path, flags: OFlags) -> io::Result<OwnedFd> {
            let flags = flags | OFlags::CLOEXEC;
            match self.open_in_one_step(name, flags) {
                // A link that is absolute, and may lead inside for all that; or a system without this.
                Err(Errno::XDEV | Errno::NOSYS | Errno::PERM) => {
                    let path = follow(&self.path, name)?;
                    let opened = fs::open(path, flags | OFlags::NOFOLLOW, Mode::empty());
                    opened.map_err(|error| absence(error.into()))
                }
                opened => opened.map_err(|error| absence(error.into())),
            }
        }

        #[cfg(target_os = "linux")]
        fn open_in_one_step(&self, name: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
            use rustix::fs::ResolveFlags;
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
            for _ in 0..8 {
                match fs::openat2(&self.fd, name, flags, Mode::empty(), resolve) {
                    Err(Errno::AGAIN) => {} // somebody moves directories at this moment
                    opened => return opened,
                }
            }
            Err(Errno::AGAIN)
        }

        #[cfg(not(target_os = "linux"))]
        fn open_in_one_step(&self, _: &Path, _: OFlags) -> Result<OwnedFd, Errno> {
            Err(Errno::NOSYS)
        }

        /// Creates a file for an upload, and locks it: as long as it is locked, it is not left behind.
        /// `AlreadyExists` when there is one of this name.
        pub(crate) fn create_new(&self, name: &OsStr) -> io::Result<File> {
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            let fd = fs::openat(&self.fd, name, flags, Mode::from_raw_mode(0o666))?;
            // Somebody who looks for what is left behind may have been quicker.
            let is_locked = fs::flock(&fd, FlockOperation::NonBlockingLockExclusive).is_ok();
            if !is_locked || fs::fstat(&fd)?.st_nlink == 0 {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            Ok(File::from(fd))
        }

        pub(crate) fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
            Ok(fs::renameat(&self.fd, from, &self.fd, to)?)
        }

        pub(crate) fn remove(&self, name: &OsStr) -> io::Result<()> {
            Ok(fs::unlinkat(&self.fd, name, AtFlags::empty())?)
        }

        pub(crate) fn entry(&self, name: &OsStr) -> io::Result<Entry> {
            let stat = match fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => return Ok(Entry::Nothing),
                stat => stat.map_err(|error| absence(error.into()))?,
            };
            let mode = stat.st_mode as u32 & 0o7777;
            Ok(match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile if mode & 0o222 == 0 || !self.may_write(name) => {
                    Entry::ReadOnly
                }
                FileType::RegularFile => Entry::File { mode },
                FileType::Symlink => Entry::Link,
                FileType::Directory => Entry::Directory,
                _ => Entry::Special,
            })
        }

        fn may_write(&self, name: &OsStr) -> bool {
            fs::accessat(&self.fd, name, Access::WRITE_OK, AtFlags::empty()).is_ok()
        }

        pub(crate) fn keep_mode(&self, file: &File, mode: u32) -> io::Result<()> {
            Ok(fs::fchmod(file, Mode::from_raw_mode(mode as fs::RawMode))?)
        }

        /// How many bytes the user may still store here, if the system says so.
        pub(crate) fn free_space(&self) -> Option<u64> {
            let system = fs::fstatvfs(&self.fd).ok()?;
            Some(system.f_bavail.saturating_mul(system.f_frsize))
        }

        pub(crate) fn names(&self) -> io::Result<Vec<std::ffi::OsString>> {
            use std::os::unix::ffi::OsStrExt;
            let entries = fs::Dir::read_from(&self.fd)?.flatten();
            let name = |entry: fs::DirEntry| OsStr::from_bytes(entry.file_name().to_bytes()).into();
            Ok(entries.map(name).collect())
        }
    }

    /// Whether nobody writes to this upload any more: its lock has gone with the program that held it.
    pub(crate) fn is_left_behind(folder: &Folder, name: &OsStr) -> bool {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        fs::openat(&folder.fd, name, flags, Mode::empty()).is_ok_and(|fd| {
            fs::flock(&fd, FlockOperation::NonBlockingLockExclusive).is_ok()
                && folder.remove(name).is_ok()
        })
    }

    pub(crate) fn is_absence(error: &io::Error) -> bool {
        matches!(
            Errno::from_io_error(error),
            Some(
                Errno::NOENT
                    | Errno::NOTDIR
                    | Errno::NAMETOOLONG
                    | Errno::INVAL
                    | Errno::LOOP
                    | Errno::NXIO
                    | Errno::ILSEQ
            )
        )
    }
}

#[cfg(not(unix))]
mod system {
    use super::*;
    use std::fs;

    /// A directory, by its path.
    #[derive(Debug)]
    pub(crate) struct Folder {
        path: PathBuf,
    }

    impl Folder {
        pub(crate) fn open(path: &Path) -> io::Result<Folder> {
            Ok(Folder { path: path.canonicalize()? })
        }

        pub(crate) fn path(&self) -> &Path {
            &self.path
        }

        pub(crate) fn open_file(&self, name: &Path) -> io::Result<File> {
            let path = follow(&self.path, name)?;
            if fs::metadata(&path)?.is_file() { File::open(path) } else { Err(not_found()) }
        }

        pub(crate) fn open_folder(&self, name: &Path) -> io::Result<Folder> {
            let path = follow(&self.path, name)?;
            if path.is_dir() { Ok(Folder { path }) } else { Err(not_found()) }
        }

        pub(crate) fn create_new(&self, name: &OsStr) -> io::Result<File> {
            File::create_new(self.path.join(name))
        }

        pub(crate) fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
            fs::rename(self.path.join(from), self.path.join(to))
        }

        pub(crate) fn remove(&self, name: &OsStr) -> io::Result<()> {
            fs::remove_file(self.path.join(name))
        }

        pub(crate) fn entry(&self, name: &OsStr) -> io::Result<Entry> {
            let found = match self.path.join(name).symlink_metadata() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Entry::Nothing),
                found => found.map_err(absence)?,
            };
            Ok(match found.file_type() {
                kind if kind.is_symlink() => Entry::Link,
                kind if kind.is_dir() => Entry::Directory,
                kind if !kind.is_file() => Entry::Special,
                _ if found.permissions().readonly() => Entry::ReadOnly,
                _ => Entry::File { mode: 0 },
            })
        }

        pub(crate) fn keep_mode(&self, _: &File, _: u32) -> io::Result<()> {
            Ok(())
        }

        pub(crate) fn free_space(&self) -> Option<u64> {
            None
        }

        pub(crate) fn names(&self) -> io::Result<Vec<std::ffi::OsString>> {
            Ok(fs::read_dir(&self.path)?.flatten().map(|entry| entry.file_name()).collect())
        }
    }

    pub(crate) fn is_absence(error: &io::Error) -> bool {
        // ERROR_INVALID_NAME, ERROR_FILENAME_EXCED_RANGE
        let is_no_name = matches!(error.raw_os_error(), Some(123 | 206));
        is_no_name || matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput)
    }

    /// There is no way to tell whether somebody still writes to it.
    pub(crate) fn is_left_behind(_: &Folder, _: &OsStr) -> bool {
        false
    }
}
