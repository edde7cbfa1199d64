//! A directory that is held open, and the way to files below it (stage 8's lasting form).

use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io;
use std::path::{Path, PathBuf};

/// What a name in a directory refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A file that may be replaced. Its permissions are kept.
    File {
        /// The permissions, on systems that have them in this form.
        mode: u32,
    },
    /// A file that may not be changed.
    ReadOnly,
    /// A symbolic link, to anywhere.
    Link,
    Directory,
    /// A pipe, a socket, or a device.
    Special,
    Nothing,
}

/// What is different when the content of a file may be different.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version {
    device: u64,
    inode: u64,
    length: u64,
    /// When the content last changed, in seconds since the beginning of 1970 and nanoseconds. Users can set it.
    modified: (i64, i64),
    /// When anything about the file last changed. Users cannot set it.
    pub(crate) changed: (i64, i64),
}

pub(crate) use system::{Folder, NewFile, remove_if_left_behind, version_of};

/// Turns the errors of the system for names that do not exist, or cannot, into a single short one:
/// `NotFound`.
fn absence(error: io::Error) -> io::Error {
    if system::is_absence(&error) { not_found() } else { error }
}

pub(crate) fn not_found() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "no such file")
}

/// Follows a name below a root step by step, and checks at the end that it has not led out. An attacker
/// who changes links at the right moment could defeat the check. Systems that can open a file below a
/// directory in one step do that instead.
fn follow(root: &Path, name: &Path) -> io::Result<PathBuf> {
    let root = root.canonicalize().map_err(absence)?;
    let path = root.join(name).canonicalize().map_err(absence)?;
    if path.starts_with(&root) { Ok(path) } else { Err(not_found()) }
}

#[cfg(unix)]
mod system {
    use super::*;
    use nix::dir::Dir;
    use nix::errno::Errno;
    use nix::fcntl::{self, AtFlags, Flock, FlockArg, OFlag};
    use nix::sys::stat::{self, Mode, SFlag};
    use nix::sys::statvfs::fstatvfs;
    use nix::unistd::{self, AccessFlags, UnlinkatFlags};
    use std::ops::Deref;
    use std::os::fd::OwnedFd;
    use std::os::unix::fs::MetadataExt;

    /// A directory that is held open. Operations take place in this directory, even if it is moved, or
    /// another one takes its place.
    #[derive(Debug)]
    pub(crate) struct Folder {
        fd: OwnedFd,
        path: PathBuf,
    }

    impl Folder {
        pub(crate) fn open(path: &Path) -> io::Result<Folder> {
            let flags = OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
            let fd = fcntl::open(path, flags, Mode::empty())?;
            Ok(Folder { fd, path: path.to_owned() })
        }

        pub(crate) fn path(&self) -> &Path {
            &self.path
        }

        /// Opens a file below this directory for reading, unless a link leads out. It may be a directory.
        pub(crate) fn open_file(&self, name: &Path) -> io::Result<File> {
            // To open a pipe, and to close it, can end the program that is about to write to it.
            if self.is_special(name) {
                return Err(not_found());
            }
            // It may have become a pipe since. To open one without a writer must not block.
            let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
            self.open_beneath(name, flags).map(File::from)
        }

        /// Whether a name leads to something that is neither a file nor a directory.
        fn is_special(&self, name: &Path) -> bool {
            stat::fstatat(&self.fd, name, AtFlags::empty()).is_ok_and(|found| {
                let kind = SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT;
                kind != SFlag::S_IFREG && kind != SFlag::S_IFDIR
            })
        }

        /// Opens a directory below this one, unless a link leads out.
        pub(crate) fn open_folder(&self, name: &Path) -> io::Result<Folder> {
            let fd = self.open_beneath(name, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
            Ok(Folder { fd, path: self.path.join(name) })
        }

        fn open_beneath(&self, name: &Path, flags: OFlag) -> io::Result<OwnedFd> {
            let flags = flags | OFlag::O_CLOEXEC;
            match self.open_in_one_step(name, flags) {
                // Either an absolute link, which may still lead inside, or a system without this call.
                Err(Errno::EXDEV | Errno::ENOSYS | Errno::EPERM) => {
                    let path = follow(&self.path, name)?;
                    let opened = fcntl::open(&path, flags | OFlag::O_NOFOLLOW, Mode::empty());
                    opened.map_err(|error| absence(error.into()))
                }
                opened => opened.map_err(|error| absence(error.into())),
            }
        }

        #[cfg(target_os = "linux")]
        fn open_in_one_step(&self, name: &Path, flags: OFlag) -> Result<OwnedFd, Errno> {
            use nix::fcntl::{OpenHow, ResolveFlag};
            let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS;
            for _ in 0..8 {
                match fcntl::openat2(&self.fd, name, OpenHow::new().flags(flags).resolve(resolve)) {
                    Err(Errno::EAGAIN) => {} // directories are being moved at this moment
                    opened => return opened,
                }
            }
            Err(Errno::EAGAIN)
        }

        #[cfg(not(target_os = "linux"))]
        fn open_in_one_step(&self, _: &Path, _: OFlag) -> Result<OwnedFd, Errno> {
            Err(Errno::ENOSYS)
        }

        /// Returns the version of what a name leads to, which may be outside.
        pub(crate) fn version(&self, name: &Path) -> Option<Version> {
            let found = stat::fstatat(&self.fd, name, AtFlags::empty()).ok()?;
            Some(Version {
                device: found.st_dev as u64,
                inode: found.st_ino as u64,
                length: u64::try_from(found.st_size).ok()?,
                modified: (found.st_mtime, found.st_mtime_nsec),
                changed: (found.st_ctime, found.st_ctime_nsec),
            })
        }

        /// Creates a file for an upload, and locks it. While it is locked, it does not count as left
        /// behind. Fails with `AlreadyExists` if there is a file of this name.
        pub(crate) fn create_new(&self, name: &OsStr) -> io::Result<NewFile> {
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC;
            let fd = fcntl::openat(&self.fd, name, flags, Mode::from_bits_truncate(0o666))?;
            let file = NewFile::lock(File::from(fd))?;
            // A search for files that were left behind may have removed it before it was locked.
            let is_gone = stat::fstat(&*file)?.st_nlink == 0;
            if is_gone { Err(io::ErrorKind::AlreadyExists.into()) } else { Ok(file) }
        }

        pub(crate) fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
            Ok(fcntl::renameat(&self.fd, from, &self.fd, to)?)
        }

        /// Waits until the names in this directory are on the disk.
        pub(crate) fn sync(&self) -> io::Result<()> {
            Ok(unistd::fsync(&self.fd)?)
        }

        pub(crate) fn remove(&self, name: &OsStr) -> io::Result<()> {
            Ok(unistd::unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir)?)
        }

        pub(crate) fn entry(&self, name: &OsStr) -> io::Result<Entry> {
            let found = match stat::fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                Err(Errno::ENOENT) => return Ok(Entry::Nothing),
                found => found.map_err(|error| absence(error.into()))?,
            };
            let mode = found.st_mode as u32 & 0o7777;
            Ok(match SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT {
                SFlag::S_IFREG if mode & 0o222 == 0 || !self.may_write(name) => Entry::ReadOnly,
                SFlag::S_IFREG => Entry::File { mode },
                SFlag::S_IFLNK => Entry::Link,
                SFlag::S_IFDIR => Entry::Directory,
                _ => Entry::Special,
            })
        }

        fn may_write(&self, name: &OsStr) -> bool {
            unistd::faccessat(&self.fd, name, AccessFlags::W_OK, AtFlags::empty()).is_ok()
        }

        pub(crate) fn set_mode(&self, file: &File, mode: u32) -> io::Result<()> {
            Ok(stat::fchmod(file, Mode::from_bits_truncate(mode as _))?)
        }

        /// Returns how many bytes the user may still store here, if the system says so.
        pub(crate) fn free_space(&self) -> Option<u64> {
            let system = fstatvfs(&self.fd).ok()?;
            Some((system.blocks_available() as u64).saturating_mul(system.fragment_size()))
        }

        pub(crate) fn names(&self) -> io::Result<Vec<std::ffi::OsString>> {
            use std::os::unix::ffi::OsStringExt;
            let flags = OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
            let mut entries = Dir::openat(&self.fd, ".", flags, Mode::empty())?;
            // A disk that fails gives an error again and again: the first one has to be the end.
            let found = entries.iter().collect::<Result<Vec<_>, Errno>>()?;
            let names = found.iter().map(|entry| entry.file_name().to_bytes().to_vec());
            Ok(names.map(std::ffi::OsString::from_vec).collect())
        }
    }

    /// Returns the version of an open file; `None` on systems that do not tell versions apart.
    pub(crate) fn version_of(metadata: &Metadata) -> Option<Version> {
        Some(Version {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }

    /// A newly created file, locked where the file system has locks.
    #[derive(Debug)]
    pub(crate) enum NewFile {
        Locked(Flock<File>),
        Unlocked(File),
    }

    impl NewFile {
        /// Locks a file. Fails with `AlreadyExists` if it is locked already.
        fn lock(file: File) -> io::Result<NewFile> {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(locked) => Ok(NewFile::Locked(locked)),
                Err((_, Errno::EWOULDBLOCK)) => Err(io::ErrorKind::AlreadyExists.into()),
                Err((file, _)) => Ok(NewFile::Unlocked(file)),
            }
        }
    }

    impl Deref for NewFile {
        type Target = File;

        fn deref(&self) -> &File {
            match self {
                NewFile::Locked(file) => file,
                NewFile::Unlocked(file) => file,
            }
        }
    }

    /// Removes an upload if it was left behind: its lock is gone with the program that held it. Returns
    /// whether it was removed.
    pub(crate) fn remove_if_left_behind(folder: &Folder, name: &OsStr) -> bool {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        fcntl::openat(&folder.fd, name, flags, Mode::empty()).is_ok_and(|fd| {
            let lock = Flock::lock(fd, FlockArg::LockExclusiveNonblock);
            lock.is_ok() && folder.remove(name).is_ok() // in this order: it stays locked until it is removed
        })
    }

    pub(crate) fn is_absence(error: &io::Error) -> bool {
        use Errno::{EILSEQ, EINVAL, ELOOP, ENAMETOOLONG, ENOENT, ENOTDIR, ENXIO};
        error.raw_os_error().map(Errno::from_raw).is_some_and(|errno| {
            matches!(errno, ENOENT | ENOTDIR | ENAMETOOLONG | EINVAL | ELOOP | ENXIO | EILSEQ)
        })
    }
}

#[cfg(not(unix))]
mod system {
    use super::*;
    use std::fs;

    pub(crate) type NewFile = File;

    /// A directory, identified by its path.
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
            let mut options = File::options();
            #[cfg(windows)]
            // a directory is opened with this flag only: FILE_FLAG_BACKUP_SEMANTICS
            std::os::windows::fs::OpenOptionsExt::custom_flags(&mut options, 0x0200_0000);
            options.read(true).open(follow(&self.path, name)?)
        }

        pub(crate) fn open_folder(&self, name: &Path) -> io::Result<Folder> {
            let path = follow(&self.path, name)?;
            if path.is_dir() { Ok(Folder { path }) } else { Err(not_found()) }
        }

        pub(crate) fn version(&self, _: &Path) -> Option<Version> {
            None
        }

        pub(crate) fn create_new(&self, name: &OsStr) -> io::Result<NewFile> {
            File::create_new(self.path.join(name))
        }

        pub(crate) fn rename(&self, from: &OsStr, to: &OsStr) -> io::Result<()> {
            fs::rename(self.path.join(from), self.path.join(to))
        }

        /// Does nothing: here, a new name is on the disk with its file.
        pub(crate) fn sync(&self) -> io::Result<()> {
            Ok(())
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

        pub(crate) fn set_mode(&self, _: &File, _: u32) -> io::Result<()> {
            Ok(())
        }

        pub(crate) fn free_space(&self) -> Option<u64> {
            None
        }

        pub(crate) fn names(&self) -> io::Result<Vec<std::ffi::OsString>> {
            Ok(fs::read_dir(&self.path)?.flatten().map(|entry| entry.file_name()).collect())
        }
    }

    pub(crate) fn version_of(_: &Metadata) -> Option<Version> {
        None
    }

    pub(crate) fn is_absence(error: &io::Error) -> bool {
        // ERROR_INVALID_NAME, ERROR_FILENAME_EXCED_RANGE
        let is_no_name = matches!(error.raw_os_error(), Some(123 | 206));
        is_no_name || matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput)
    }

    /// Returns `false`: there is no way to tell whether a program still writes to the file.
    pub(crate) fn remove_if_left_behind(_: &Folder, _: &OsStr) -> bool {
        false
    }
}
