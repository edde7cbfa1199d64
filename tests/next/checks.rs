//! Runs the checks of one stage on the server.

use std::collections::BTreeSet;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use harness::{Stage, repository};

use crate::waiting;

/// The results of the checks of a stage.
pub(crate) struct Findings {
    /// The names of the checks that failed.
    pub(crate) failed: BTreeSet<String>,
    /// The output of the test runner, with a report for each failed check.
    reports: String,
    /// The output of the compiler, if the server had to be built.
    pub(crate) compiler: String,
}

/// Runs the program with the checks of a stage.
///
/// # Errors
///
/// When it cannot be run.
pub(crate) fn run(program: &Path, stage: &Stage) -> io::Result<Findings> {
    let finished = AtomicUsize::new(0);
    let count = stage.checks().len();
    let what = || {
        let finished = finished.load(Ordering::Relaxed);
        format!("{} {}: {finished} of {count} checks", stage.number(), stage.title())
    };
    let (findings, status) = waiting::show(what, || collect(program, &finished))?;
    // The list of failed checks is complete only if the program has run to its end.
    if status.success() == findings.failed.is_empty() {
        return Ok(findings);
    }
    Err(io::Error::other(format!(
        "the checks of {} did not run to their end ({status})",
        stage.name()
    )))
}

/// Runs the program to its end, and counts the checks that have finished so far.
fn collect(program: &Path, finished: &AtomicUsize) -> io::Result<(Findings, ExitStatus)> {
    let mut child = Command::new(program)
        .current_dir(repository().join("tests")) // as cargo does
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let compiler = thread::spawn(move || {
        let mut bytes = Vec::new();
        stderr.map(|mut stderr| stderr.read_to_end(&mut bytes));
        String::from_utf8_lossy(&bytes).into_owned()
    });
    let mut reports = String::new();
    for line in stdout.into_iter().flat_map(|it| BufReader::new(it).split(b'\n')) {
        let line = String::from_utf8_lossy(&line?).into_owned();
        if line.starts_with("test ") {
            finished.fetch_add(1, Ordering::Relaxed);
        }
        reports += &(line + "\n");
    }
    let failed = reports
        .lines()
        .filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"))
        .map(str::to_owned)
        .collect();
    let compiler = compiler.join().unwrap_or_default();
    Ok((Findings { failed, reports, compiler }, child.wait()?))
}

impl Findings {
    /// Whether the main check of the stage passed, which is the first. Unlike some of the others, it passes only if
    /// the server does what is new in the stage.
    pub(crate) fn main_check_passed(&self, stage: &Stage) -> bool {
        stage.checks().first().is_some_and(|main| !self.failed.contains(main))
    }

    /// The first check that failed.
    pub(crate) fn first_failed(&self, stage: &Stage) -> Option<String> {
        stage.checks().into_iter().find(|check| self.failed.contains(check))
    }

    /// The report of the first check that failed.
    pub(crate) fn first_report(&self, stage: &Stage) -> &str {
        let first = self.first_failed(stage);
        first.and_then(|check| report(&self.reports, &check)).unwrap_or_default()
    }

    /// The same report, if the server does not compile.
    pub(crate) fn compiler_report(&self, stage: &Stage) -> Option<&str> {
        Some(self.first_report(stage)).filter(|report| report.contains("does not compile"))
    }
}

/// Finds the report of one check in the output of the test runner.
fn report<'r>(reports: &'r str, check: &str) -> Option<&'r str> {
    let (_, rest) = reports.split_once(&format!("---- {check} stdout ----\n"))?;
    let end = rest.find("\n---- ").or(rest.find("\nfailures:\n")).unwrap_or(rest.len());
    Some(rest[..end].trim())
}
