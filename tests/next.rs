//! `cargo next`: the checks of every stage in order, up to the first that fails.
//!
//! Shows which stages stand, which check fails and why, and where to go on reading.

use std::collections::BTreeSet;
use std::env;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::{Command, ExitCode};

use harness::{Stage, check_programs, repository, subject};

/// What the checks of a stage found.
struct Findings {
    failed: BTreeSet<String>,
    /// What the test runner wrote, with a report for each failed check.
    reports: String,
    /// What the compiler said, if the server had to be built.
    compiler: String,
}

fn main() -> ExitCode {
    match check_all(&mut io::stdout()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Stop::Failed) => ExitCode::FAILURE,
        Err(Stop::Broken(reason)) => {
            eprintln!("error: {}", reason.trim_end());
            ExitCode::FAILURE
        }
    }
}

/// Why the list ends before the last stage.
enum Stop {
    /// A stage failed, and has been explained.
    Failed,
    /// The checks cannot be run, or nobody reads what they find.
    Broken(String),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Stop {
        Stop::Broken(error.to_string())
    }
}

fn check_all(out: &mut impl Write) -> Result<(), Stop> {
    let subject = subject();
    let subject =
        subject.as_deref().unwrap_or("the course's own stages: there is no stages/mine yet");
    writeln!(out, "Checking {subject}.\n")?;
    let programs = check_programs().map_err(Stop::Broken)?;
    let stages = Stage::all();
    for stage in &stages {
        let Some(program) = programs.get(&stage.name()) else { continue };
        let findings = run(program)?;
        if !findings.failed.is_empty() {
            let report = first_report(stage, &findings);
            if report.contains("does not compile") {
                show_compiler(out, &findings, report)?;
            } else {
                explain(out, stage, &findings, report)?;
                help(out, &stages, stage, report)?;
            }
            return Err(Stop::Failed);
        }
        writeln!(out, "  {}  {} {}", green("ok"), stage.number(), stage.title())?;
    }
    writeln!(out, "\nAll {} stages pass.", stages.len())?;
    Ok(())
}

fn run(program: &Path) -> io::Result<Findings> {
    // Tests are run in the directory of their package.
    let output = Command::new(program).current_dir(repository().join("tests")).output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let reports = text(&output.stdout);
    let failed = reports
        .lines()
        .filter_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"))
        .map(str::to_owned)
        .collect();
    Ok(Findings { failed, reports, compiler: text(&output.stderr) })
}

/// What the compiler said about a server that it did not accept.
fn show_compiler(out: &mut impl Write, findings: &Findings, report: &str) -> io::Result<()> {
    let lines = findings.compiler.lines().filter(|line| !line.contains(": checking "));
    writeln!(out, "{}\n\n{report}", lines.collect::<Vec<_>>().join("\n"))?;
    writeln!(out, "\nNo check has run.")
}

/// Lists the checks of a stage that fails, and reports the first that does.
fn explain(
    out: &mut impl Write,
    stage: &Stage,
    findings: &Findings,
    report: &str,
) -> io::Result<()> {
    writeln!(out, "  {}  {} {}\n", red("no"), stage.number(), stage.title())?;
    for check in stage.checks() {
        let mark = if findings.failed.contains(&check) { red("no") } else { green("ok") };
        writeln!(out, "      {mark}  {check}")?;
    }
    writeln!(out, "\n{report}\n")
}

/// Where to go on from a stage that fails, in steps.
fn help(out: &mut impl Write, stages: &[Stage], stage: &Stage, report: &str) -> io::Result<()> {
    let main = |stage: &Stage| format!("stages/{}/main.rs", stage.folder);
    let before = stages.iter().take_while(|it| *it != stage).last();
    // What breaks an early stage may be the subject of a later one.
    let (_, page) = report.rsplit_once("  read ").unwrap_or_default();
    writeln!(out, "To run this stage alone:  cargo test --test {}", stage.name())?;
    writeln!(out, "Still stuck?  The chapter has a list of causes: {}#stuck", page.trim())?;
    match before {
        Some(before) => {
            let (from, to) = (main(before), main(stage));
            writeln!(out, "One way to do it:  git diff --no-index {from} {to}")
        }
        None => writeln!(out, "One way to do it:  {}", main(stage)),
    }
}

/// The report of the first check of a stage that fails.
fn first_report<'f>(stage: &Stage, findings: &'f Findings) -> &'f str {
    let checks = stage.checks();
    let first = checks.iter().find(|check| findings.failed.contains(*check));
    first.and_then(|check| report(&findings.reports, check)).unwrap_or_default()
}

/// The report of one check in what the test runner wrote.
fn report<'r>(reports: &'r str, check: &str) -> Option<&'r str> {
    let (_, rest) = reports.split_once(&format!("---- {check} stdout ----\n"))?;
    let end = rest.find("\n---- ").or(rest.find("\nfailures:\n")).unwrap_or(rest.len());
    Some(rest[..end].trim())
}

fn green(word: &str) -> String {
    coloured(word, 32)
}

fn red(word: &str) -> String {
    coloured(word, 31)
}

fn coloured(word: &str, colour: u8) -> String {
    if io::stdout().is_terminal() && env::var_os("NO_COLOR").is_none() {
        format!("\x1b[{colour}m{word}\x1b[0m")
    } else {
        word.to_owned()
    }
}
