//! Which certificate is for whom, and how new ones are taken without a restart.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::thread;
use std::time::{Duration, SystemTime};

use common::log;

use crate::identity::Identity;

/// How often it is looked whether there are new files.
const LOOK: Duration = Duration::from_secs(1);

/// The certificates of a server. A client names the host that it wants in its first message (SNI, RFC 6066, section 3),
/// and gets the first certificate that is for this host, or else the first of all.
#[derive(Debug)]
pub struct Certificates {
    files: Vec<(PathBuf, PathBuf)>,
    current: RwLock<Vec<Arc<Identity>>>,
    /// What the files looked like when they were last read.
    seen: Mutex<Vec<Stamp>>,
}

/// What tells whether a file has changed: when it was written, and its length.
type Stamp = Option<(SystemTime, u64)>;

impl Certificates {
    /// Reads certificates and their keys from files (PEM, RFC 7468).
    ///
    /// # Errors
    ///
    /// When a file cannot be read, when there is no certificate or no key in it, and when they do not match.
    pub fn load(files: &[(PathBuf, PathBuf)]) -> io::Result<Arc<Certificates>> {
        if files.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "there is no certificate"));
        }
        let files = files.to_vec();
        let seen = Mutex::new(stamps(&files));
        let current = RwLock::new(identities(&files)?);
        Ok(Arc::new(Certificates { files, current, seen }))
    }

    /// Reads the files again. If one of them is wrong, all stays as it is, and the log says why.
    pub fn reload(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        *seen = stamps(&self.files);
        match identities(&self.files) {
            Ok(identities) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = identities;
                log("the certificates have been read again");
            }
            Err(error) => log(format_args!("the old certificates stay: {error}")),
        }
    }

    /// Reads the files again when they change, which is looked at every second in a thread, until nobody has these
    /// certificates any more.
    ///
    /// # Errors
    ///
    /// When the system has no thread.
    pub fn watch(self: &Arc<Certificates>) -> io::Result<()> {
        let watched = Arc::downgrade(self);
        let look = move || {
            while look_once(&watched) {
                thread::sleep(LOOK);
            }
        };
        thread::Builder::new().name("certificates".to_owned()).spawn(look).map(drop)
    }

    /// Reads the files again if they have changed.
    fn reload_if_changed(&self) {
        // A certificate and its key are two files. Whoever has written one of them writes the other one now: if they do
        // not match, it is looked again when that has changed, too.
        let now = stamps(&self.files);
        let has_changed = *self.seen.lock().unwrap_or_else(PoisonError::into_inner) != now;
        if has_changed {
            self.reload();
        }
    }

    /// Returns the identity for a host, or the first one.
    pub(crate) fn for_host(&self, host: Option<&str>) -> Arc<Identity> {
        let all = self.current.read().unwrap_or_else(PoisonError::into_inner);
        let fitting = host.and_then(|host| all.iter().find(|identity| identity.covers(host)));
        Arc::clone(fitting.unwrap_or(&all[0])) // there is one at least
    }
}

/// Returns whether it is worth to look again.
fn look_once(watched: &Weak<Certificates>) -> bool {
    let Some(certificates) = watched.upgrade() else { return false };
    certificates.reload_if_changed();
    true
}

fn identities(files: &[(PathBuf, PathBuf)]) -> io::Result<Vec<Arc<Identity>>> {
    files.iter().map(|(certificate, key)| Identity::load(certificate, key).map(Arc::new)).collect()
}

fn stamps(files: &[(PathBuf, PathBuf)]) -> Vec<Stamp> {
    let paths = files.iter().flat_map(|(certificate, key)| [certificate, key]);
    let stamp = |path: &PathBuf| {
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    paths.map(stamp).collect()
}
