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

/// Editors write a file in several steps: this long after the last one, it is taken for whole.
const SETTLED: Duration = Duration::from_millis(200);

/// Folders whose files nobody edits. Those whose names begin with a dot are left out, too.
const LEFT_OUT: [&str; 3] = ["target", "node_modules", "__pycache__"];

/// The most folders that are watched.
const MOST: usize = 1000;

/// Runs the checks, and again after each change, until the program is ended.
///
/// # Errors
///
/// When nothing can be watched.
pub(crate) fn run_again(options: &Options) -> io::Result<bool> {
    let mut during_the_run_before = BTreeSet::new();
    loop {
        let changes = Changes::watch(&sources())?; // before the run, so that none is missed
        crate::run(options)?;
        let during_the_run: BTreeSet<PathBuf> = changes.files.try_iter().collect();
        // What changes in each run is written by the run itself: a program that is compiled, a log.
        let is_news = !during_the_run.is_subset(&during_the_run_before);
        during_the_run_before = during_the_run;
        if is_news {
            println!("\nA file has changed meanwhile, so all runs again.\n");
            continue;
        }
        println!("\nWaiting for a change of your server. Ctrl-C ends this.");
        let file = changes.wait()?;
        during_the_run_before.remove(&file);
        let shown = file.strip_prefix(repository()).unwrap_or(&file).display();
        println!("\n--- {shown} has changed\n");
    }
}

/// The files that change, one after another.
struct Changes {
    files: Receiver<PathBuf>,
    _watcher: RecommendedWatcher,
}

impl Changes {
    /// Begins to watch files, and folders with all that is in them.
    fn watch(paths: &[PathBuf]) -> io::Result<Changes> {
        let wanted = paths.to_vec();
        let (sender, files) = mpsc::channel();
        let tell = move |event: notify::Result<Event>| {
            let event = event.ok().filter(|event| !matches!(event.kind, EventKind::Access(_)));
            for file in event.into_iter().flat_map(|event| event.paths) {
                if wanted.iter().any(|path| file.starts_with(path)) && !is_left_out(&file) {
                    let _ = sender.send(file); // nobody waits for it at the end
                }
            }
        };
        let mut watcher = notify::recommended_watcher(tell).map_err(io::Error::other)?;
        let mut folders = BTreeSet::new();
        paths.iter().for_each(|path| collect_folders(path, &mut folders));
        if folders.is_empty() {
            return Err(io::Error::other(
                "no file or folder is known to watch: the command in SERVER names none",
            ));
        }
        for folder in &folders {
            watcher.watch(folder, RecursiveMode::NonRecursive).map_err(io::Error::other)?;
        }
        Ok(Changes { files, _watcher: watcher })
    }

    /// Waits for a change, and until no more follow. Returns the first file that changed.
    fn wait(&self) -> io::Result<PathBuf> {
        let first = self.files.recv().map_err(io::Error::other)?;
        while self.files.recv_timeout(SETTLED).is_ok() {}
        Ok(first)
    }
}

/// The folders in which something can change: that of a file, or a folder and those in it.
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
    name.starts_with('.') || name == "Cargo.lock" || LEFT_OUT.contains(&&*name)
}
