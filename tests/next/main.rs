//! `cargo next`: the learner's companion.
//!
//! Runs the checks of the stages in order, as far as they pass. A stage that passes for the first
//! time is celebrated; the first that fails is explained.

mod checks;
mod options;
mod progress;
mod screen;
mod waiting;
mod watch;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use harness::{Stage, check_programs, subject};

use checks::Findings;
use options::Options;
use progress::Progress;

fn main() -> ExitCode {
    let options = Options::from_command_line();
    let outcome = if options.watch { watch::run_again(&options) } else { run(&options) };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {}", error.to_string().trim_end());
            ExitCode::FAILURE
        }
    }
}

/// Runs the chosen stages once. Returns whether there is nothing to mend.
fn run(options: &Options) -> io::Result<bool> {
    screen::show_subject(&mut io::stdout())?;
    let programs = waiting::show(|| "building the checks".to_owned(), check_programs);
    let programs = programs.map_err(io::Error::other)?;
    let mut progress = Progress::load(subject().as_deref());
    let outcome = advance(options, &programs, &mut progress)?;
    progress.save()?;
    tell(&outcome, &progress)
}

/// How far the stages passed.
struct Outcome {
    /// The stages that passed in this run.
    passed: Vec<Stage>,
    /// The last of them that had never passed before.
    newly_done: Option<Stage>,
    failed: Option<Failed>,
}

/// The first stage that failed.
struct Failed {
    stage: Stage,
    findings: Findings,
    /// Whether its failures are news to the learner, who has come to this stage.
    is_begun: bool,
}

/// Runs stages until one fails, and notes in `progress` what became of them.
fn advance(
    options: &Options,
    programs: &BTreeMap<String, PathBuf>,
    progress: &mut Progress,
) -> io::Result<Outcome> {
    let stages = Stage::all();
    if let Some(first) = options.first(&stages) {
        progress.begin(first);
    }
    let mut outcome = Outcome { passed: Vec::new(), newly_done: None, failed: None };
    for stage in options.chosen(&stages) {
        let program = programs.get(&stage.name());
        let missing = || io::Error::other(format!("cargo has built no checks of {}", stage.name()));
        let findings = checks::run(program.ok_or_else(missing)?, stage)?;
        if !findings.failed.is_empty() {
            let is_begun = outcome.newly_done.is_none()
                || progress.has_begun(stage)
                || findings.main_check_passed(stage);
            progress.begin(stage);
            outcome.failed = Some(Failed { stage: stage.clone(), findings, is_begun });
            break;
        }
        screen::show_pass(&mut io::stdout(), stage)?;
        if progress.pass(stage) {
            outcome.newly_done = Some(stage.clone());
        }
        outcome.passed.push(stage.clone());
    }
    Ok(outcome)
}

/// Shows how far the stages passed. Returns whether there is nothing to mend.
fn tell(outcome: &Outcome, progress: &Progress) -> io::Result<bool> {
    let (out, stages) = (&mut io::stdout(), &Stage::all());
    let Some(Failed { stage, findings, is_begun }) = &outcome.failed else {
        screen::show_success(out, &outcome.passed, stages, progress)?;
        return Ok(true);
    };
    if let Some(report) = findings.compiler_report(stage) {
        screen::show_compiler(out, &findings.compiler, report)?;
        return Ok(false);
    }
    match &outcome.newly_done {
        Some(done) if !is_begun && progress.is_kept() => {
            screen::show_done(out, done, stage, stages, progress)?;
            Ok(true)
        }
        _ => {
            screen::show_failure(out, stage, findings, stages, progress)?;
            Ok(false)
        }
    }
}
