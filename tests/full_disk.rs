//! A store on a disk that is full: what does not fit is refused with 507, what is there can be read, and what fits is
//! written again as soon as there is room, without a restart.
//!
//! The server is that of stage 20, or the one in `SERVER`.
//!
//! It makes a small disk in memory, which only the system's administrator may do, so .ci/run runs it, and `cargo test`
//! does not.

#![cfg(target_os = "linux")]

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::{Server, json};
use tempfile::TempDir;

/// A disk of six megabytes. It is gone at the end.
struct SmallDisk(TempDir);

impl SmallDisk {
    /// `None` if this user may not make one.
    fn new() -> Option<SmallDisk> {
        let directory = TempDir::new().expect("a temporary directory");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=6m", "tmpfs"]).arg(directory.path());
        mount.status().is_ok_and(|status| status.success()).then_some(SmallDisk(directory))
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Fills what is left of it.
    fn fill(&self) {
        let mut file = File::create(self.file("filling")).expect("a file can be made");
        while file.write_all(&[b'x'; 1024]).is_ok() {}
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

fn status(server: &Server, method: &str, path: &str, body: &str) -> u16 {
    let request = server.request(method, path).header("Content-Type: application/json").body(body);
    request.send().answer().unwrap_or_else(|failure| panic!("{failure:?}")).status
}

fn start(store: &Path) -> Server {
    let store = store.display().to_string();
    let server = Server::start_with_args("stage20", &["--store", &store]);
    server.unwrap_or_else(|failure| panic!("{failure:?}"))
}

#[ignore = "needs an administrator; .ci/run runs it"]
#[test]
fn a_full_disk_refuses_and_then_goes_on() {
    let Some(disk) = SmallDisk::new() else {
        eprintln!("skipped: this user may not mount a disk");
        return;
    };
    let large = json!({ "filling": "x".repeat(700_000) }).to_string();
    let server = start(&disk.file("records"));
    let size = || fs::metadata(disk.file("records")).map_or(0, |metadata| metadata.len());
    let add = |_| {
        let before = size();
        let status = status(&server, "POST", "/data", &large);
        assert!(status == 201 || size() == before, "what was refused has been left in the file");
        status
    };
    let statuses: Vec<_> = (0..10).map(add).collect();
    assert!(statuses.starts_with(&[201, 201]) && statuses.ends_with(&[507, 507]), "{statuses:?}");
    assert_eq!(status(&server, "GET", "/data", ""), 200);
    assert_eq!(status(&server, "DELETE", "/data/1", ""), 204);
    assert_eq!(status(&server, "POST", "/data", "{}"), 201);
    server.kill();

    disk.fill();
    let server = start(&disk.file("records"));
    assert_eq!(status(&server, "GET", "/data/2", ""), 200);
    assert_eq!(status(&server, "GET", "/data/1", ""), 404);
    assert_eq!(status(&server, "POST", "/data", &large), 507);
    assert_eq!(status(&server, "GET", "/data/2", ""), 200);
    fs::remove_file(disk.file("filling")).expect("it can be removed");
    assert_eq!(status(&server, "POST", "/data", r#"{"again":true}"#), 201);
}

#[ignore = "needs an administrator; .ci/run runs it"]
#[test]
fn a_store_starts_anew_on_a_full_disk() {
    let Some(disk) = SmallDisk::new() else {
        eprintln!("skipped: this user may not mount a disk");
        return;
    };
    disk.fill();
    let server = start(&disk.file("records"));
    assert_eq!(status(&server, "POST", "/data", "{}"), 507);
    assert_eq!(status(&server, "GET", "/data", ""), 200);
    fs::remove_file(disk.file("filling")).expect("it can be removed");
    assert_eq!(status(&server, "POST", "/data", "{}"), 201);
}
