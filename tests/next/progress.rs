//! What `cargo next` remembers about a server between two runs.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::io;
use std::path::PathBuf;

use harness::Stage;

/// The stages that a server has passed, and those that the learner has begun. Kept in `target/next/`.
pub(crate) struct Progress {
    /// The file that keeps the progress. `None` for the course's own stages.
    path: Option<PathBuf>,
    subject: String,
    begun: BTreeSet<String>,
    passed: BTreeSet<String>,
}

impl Progress {
    /// Reads the progress of this server. It is empty if the server is new.
    pub(crate) fn load(subject: Option<&str>) -> Progress {
        let path = subject.and_then(path_for);
        let subject = subject.unwrap_or_default().to_owned();
        let text = path.as_ref().and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
        let line = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
        // Two different commands may have the same file name.
        let is_same = line("server: ") == Some(&subject);
        let numbers = |name| {
            let line = line(name).filter(|_| is_same).unwrap_or_default();
            line.split_whitespace().map(str::to_owned).collect()
        };
        Progress { begun: numbers("begun:"), passed: numbers("passed:"), path, subject }
    }

    /// Writes the progress to its file.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub(crate) fn save(&self) -> io::Result<()> {
        let Some(path) = &self.path else { return Ok(()) };
        let line = |numbers: &BTreeSet<String>| Vec::from_iter(numbers.iter().cloned()).join(" ");
        let (subject, begun, passed) = (&self.subject, line(&self.begun), line(&self.passed));
        fs::create_dir_all(path.parent().unwrap_or(path))?;
        fs::write(path, format!("server: {subject}\nbegun: {begun}\npassed: {passed}\n"))
    }

    /// Whether the progress is kept: only if the server is the learner's own.
    pub(crate) fn is_kept(&self) -> bool {
        self.path.is_some()
    }

    /// Whether the stage has passed before.
    pub(crate) fn has_passed(&self, stage: &Stage) -> bool {
        self.passed.contains(stage.number())
    }

    /// Whether the learner has begun the stage: the screen has announced or explained it, or the learner has chosen
    /// it.
    pub(crate) fn has_begun(&self, stage: &Stage) -> bool {
        self.begun.contains(stage.number())
    }

    /// Records that the learner has begun the stage.
    pub(crate) fn begin(&mut self, stage: &Stage) {
        self.begun.insert(stage.number().to_owned());
    }

    /// Records that the stage passes. Returns whether this is the first time.
    pub(crate) fn pass(&mut self, stage: &Stage) -> bool {
        self.passed.insert(stage.number().to_owned())
    }
}

/// A file in `target/next/`, named after the server.
fn path_for(subject: &str) -> Option<PathBuf> {
    const LONGEST: usize = 80;
    let plain = |it: char| if it.is_ascii_alphanumeric() { it.to_ascii_lowercase() } else { '-' };
    let name: String = subject.chars().map(plain).take(LONGEST).collect();
    let program = env::current_exe().ok()?; // target/debug/next
    Some(program.parent()?.parent()?.join("next").join(name + ".txt"))
}
