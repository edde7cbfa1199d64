//! Names of files.

#![no_main]

use std::fs;
use std::io::Read;
use std::sync::OnceLock;

use common::{Directory, Target};
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

const SECRET: &str = "secret";

fuzz_target!(|name: &str| {
    static SERVED: OnceLock<(TempDir, Directory)> = OnceLock::new();
    let (outer, directory) = SERVED.get_or_init(serve);
    let target = format!("/files/{name}");
    let Ok(target) = Target::parse("GET", &target) else { return };
    let Some(name) = target.rest() else { return };
    if let Ok(file) = directory.open(name) {
        let mut content = String::new();
        let mut file = file.into_whole().expect("readable");
        file.read_to_string(&mut content).expect("readable");
        assert_ne!(content, SECRET);
    }
    if let Ok(place) = directory.place(name) {
        let parent = place.parent().expect("it has one").canonicalize().expect("it exists");
        assert!(parent.starts_with(outer.path().join("root")), "{}", place.display());
    }
});

/// A directory with things in it, and things beside it that must not be reached.
fn serve() -> (TempDir, Directory) {
    let outer = TempDir::new_in("/tmp").expect("a temporary directory");
    let root = outer.path().join("root");
    fs::create_dir_all(root.join("a/b")).expect("writable");
    fs::write(root.join("a/b/c"), "c").expect("writable");
    for name in ["root-b", "x", "etc"] {
        fs::write(outer.path().join(name), SECRET).expect("writable");
    }
    #[cfg(unix)]
    for (to, name) in [("..", "u"), ("../x", "x"), ("a", "l"), ("../../x", "a/x")] {
        std::os::unix::fs::symlink(to, root.join(name)).expect("writable");
    }
    let root = root.canonicalize().expect("it exists");
    (outer, Directory::new(Some(root)))
}
