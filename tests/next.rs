//! `cargo next`: the checks of every stage in order, up to the first that fails.
//!
//! Shows which stages stand, which check fails and why, and where to go on reading.

use std::collections::BTreeSet;
use std::env;
use std::io::{self, IsTerminal};
use std::path::Path;
use std::process::{Command, ExitCode};

use harness::{Stage, check_programs, repository};

/// What the checks of a stage found.
struct Findings {
    failed: BTreeSet<String>,
    /// What the test runner wrote, with a report for each failed check.
    reports: String,
    /// What the compiler said, if the server had to be built.
    compiler: String,
}

fn main() -> ExitCode {
    println!("Checking {}.\n", subject());
    let programs = match check_programs() {
        Ok(programs) => programs,
        Err(said) => {
            eprintln!("{said}");
            return ExitCode::FAILURE;
        }
    };
    let stages = Stage::all();
    for stage in &stages {
        let Some(program) = programs.get(&stage.name()) else { continue };
        let findings = match run(program) {
            Ok(findings) => findings,
            Err(error) => {
                eprintln!("error: the checks of {} cannot be run: {error}", stage.name());
                return ExitCode::FAILURE;
            }
        };
        if !findings.failed.is_empty() {
            explain(stage, &findings);
            return ExitCode::FAILURE;
        }
        println!("  {}  {} {}", green("ok"), stage.number(), stage.title());
    }
    println!("\nAll {} stages stand.", stages.len());
    ExitCode::SUCCESS
}

/// What is checked, in words.
fn subject() -> String {
    if let Ok(command) = env::var("SERVER") {
        format!("SERVER, which is: {command}")
    } else if repository().join("stages/mine").is_dir() {
        "stages/mine".to_owned()
    } else {
        "the course's own stages: there is no stages/mine yet".to_owned()
    }
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

/// Lists the checks of a stage that does not stand, and reports the first that failed.
fn explain(stage: &Stage, findings: &Findings) {
    println!("  {}  {} {}\n", red("no"), stage.number(), stage.title());
    let checks = stage.checks();
    for check in &checks {
        let mark = if findings.failed.contains(check) { red("no") } else { green("ok") };
        println!("      {mark}  {check}");
    }
    let first = checks.iter().find(|check| findings.failed.contains(*check));
    let report = first.and_then(|check| report(&findings.reports, check)).unwrap_or_default();
    if report.contains("does not compile") {
        let lines = findings.compiler.lines().filter(|line| !line.contains(": checking "));
        println!("\n{}", lines.collect::<Vec<_>>().join("\n"));
    }
    println!("\n{report}\n");
    println!("To run this stage alone: cargo test --test {}", stage.name());
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
