//! A certificate for trying it out (not part of the lesson, from stage 22).

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DnType, KeyPair};
use time::OffsetDateTime;

/// For whom the certificate is.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// How long it is valid.
const LIFE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How long the files are used again, so that whoever trusts them need not do that each time.
const USED_AGAIN: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Returns the files with a certificate for `localhost`, and with its key. No authority has signed it, only its own key:
/// clients trust it when they are given the file. The files are in this directory, and are made if they are not there.
///
/// # Errors
///
/// When the files cannot be made.
pub fn self_signed(directory: &Path) -> io::Result<(PathBuf, PathBuf)> {
    let (certificate, key) = (directory.join("cert.pem"), directory.join("key.pem"));
    if is_recent(&certificate) && key.is_file() {
        return Ok((certificate, key));
    }
    let (of_certificate, of_key) = generate().map_err(io::Error::other)?;
    fs::create_dir_all(directory)?;
    let _ = fs::remove_file(&certificate); // if the program ends now, there is no pair that does not match
    write_secret(&key, &of_key)?;
    fs::write(&certificate, of_certificate)?;
    Ok((certificate, key))
}

fn is_recent(path: &Path) -> bool {
    let modified = fs::metadata(path).and_then(|metadata| metadata.modified());
    let age = modified.ok().and_then(|time| SystemTime::now().duration_since(time).ok());
    age.is_some_and(|age| age < USED_AGAIN)
}

/// Returns a certificate and its key, as texts (RFC 7468).
fn generate() -> Result<(String, String), rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(NAMES.map(str::to_owned))?;
    let now = OffsetDateTime::now_utc();
    (params.not_before, params.not_after) = (now - Duration::from_secs(24 * 60 * 60), now + LIFE);
    params
        .distinguished_name
        .push(DnType::CommonName, "a server on this machine, for trying it out");
    let certificate = params.self_signed(&key)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// Writes a file that only its owner can read.
fn write_secret(path: &Path, text: &str) -> io::Result<()> {
    let _ = fs::remove_file(path);
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?.write_all(text.as_bytes())
}
