//! `cargo next --watch`: runs again when a file of the server changes.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use harness::{repository, sources};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};

use crate::options::Options;

/// Editors write a file in several steps. If no step follows for this time, the file is complete.
const SETTLED: Duration = Duration::from_millis(200);

/// Folders that are not watched, because users do not edit files in them. Nor are folders watched whose names
/// begin with a dot.
const LEFT_OUT: [&str; 3] = ["target", "node_modules", "__pycache__"];

/// What compilers write, perhaps beside what they read.
const COMPILED: [&str; 5] = ["class", "o", "obj", "pyc", "exe"];

/// The most folders that are watched.
const MOST: usize = 1000;

/// Runs the checks, and runs them again after each change, until the user stops the program.
///
/// # Errors
///
/// When there is nothing to watch.
pub(crate) fn run_again(options: &Options) -> io::Result<bool> {
    let mut during_the_run_before = BTreeSet::new();
    loop {
        let changes = Changes::watch(&sources())?; // before the run, so that no change is missed
        crate::run(options)?;
        let during_the_run: BTreeSet<PathBuf> = changes.files.try_iter().collect();
        // Files that change in every run are written by the run itself: a compiled program, a log.
        let is_news = !during_the_run.is_subset(&during_the_run_before);
        during_the_run_before = during_the_run;
        if is_news {
            println!("\nA file has changed during the run, so the checks run again.\n");
            continue;
        }
        println!("\nWaiting for a change to your server. Press Ctrl-C to stop.");
        let file = changes.wait()?;
        during_the_run_before.remove(&file);
        let shown = file.strip_prefix(repository()).unwrap_or(&file).display();
        println!("\n--- {shown} has changed\n");
    }
}

/// Receives the paths of files that change.
struct Changes {
    files: Receiver<PathBuf>,
    _watcher: RecommendedWatcher,
}

impl Changes {
    /// Begins to watch these files, and these folders with everything in them.
    fn watch(paths: &[PathBuf]) -> io::Result<Changes> {
        let wanted = paths.to_vec();
        let (sender, files) = mpsc::channel();
        let tell = move |event: notify::Result<Event>| {
            let event = event.ok().filter(|event| !matches!(event.kind, EventKind::Access(_)));
            for file in event.into_iter().flat_map(|event| event.paths) {
                if wanted.iter().any(|path| file.starts_with(path)) && !is_left_out(&file) {
                    let _ = sender.send(file); // at the end, the receiver may be gone
                }
            }
        };
        let mut watcher = notify::recommended_watcher(tell).map_err(io::Error::other)?;
        let mut folders = BTreeSet::new();
        paths.iter().for_each(|path| collect_folders(path, &mut folders));
        if folders.is_empty() {
            return Err(io::Error::other(
                "there is nothing to watch: the command in SERVER names no file or folder",
            ));
        }
        for folder in &folders {
            watcher.watch(folder, RecursiveMode::NonRecursive).map_err(io::Error::other)?;
        }
        Ok(Changes { files, _watcher: watcher })
    }

    /// Waits for a change, and then until no more changes follow. Returns the first file that changed.
    fn wait(&self) -> io::Result<PathBuf> {
        let first = self.files.recv().map_err(io::Error::other)?;
        while self.files.recv_timeout(SETTLED).is_ok() {}
        Ok(first)
    }
}

/// Collects the folders to watch: the folder of a file, or a folder and all folders in it.
fn collect_folders(path: &Path, folders: &mut BTreeSet<PathBuf>) {
    if !path.is_dir() {
        folders.extend(path.parent().map(Path::to_owned));
    } else if folders.len() < MOST && folders.insert(path.to_owned()) {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        let inner = entries.map(|entry| entry.path()).filter(|it| it.is_dir() && !is_left_out(it));
        inner.for_each(|folder| collect_folders(&folder, folders));
    }
}

fn is_left_out(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let is_compiled =
        path.extension().is_some_and(|it| COMPILED.iter().any(|compiled| it == *compiled));
    name.starts_with('.') || name == "Cargo.lock" || is_compiled || LEFT_OUT.contains(&&*name)
}
