//! `cargo next`: the learner's companion.
//!
//! Runs the checks of the stages in order until one fails. Celebrates a stage that passes for the first time, and
//! explains the first that fails.

mod checks;
mod options;
mod progress;
mod screen;
mod waiting;
mod watch;

use std::io;
use std::process::ExitCode;

use harness::{Stage, check_program, subject};

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

/// Runs the chosen stages once. Returns whether there is nothing to fix.
fn run(options: &Options) -> io::Result<bool> {
    screen::show_subject(&mut io::stdout())?;
    let mut progress = Progress::load(subject().as_deref());
    let outcome = advance(options, &mut progress)?;
    progress.save()?;
    tell(&outcome, &progress)
}

/// The result of a run.
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
    /// Whether the learner has begun this stage, so that its failures are of interest.
    is_begun: bool,
}

/// Runs stages until one fails, and records the results in `progress`.
fn advance(options: &Options, progress: &mut Progress) -> io::Result<Outcome> {
    let stages = Stage::all();
    if let Some(first) = options.first(&stages) {
        progress.begin(first);
    }
    let mut outcome = Outcome { passed: Vec::new(), newly_done: None, failed: None };
    for stage in options.chosen(&stages) {
        let build = || check_program(&stage.name());
        let program = waiting::show(|| "building the checks".to_owned(), build);
        let findings = checks::run(&program.map_err(io::Error::other)?, stage)?;
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

/// Shows the result of a run. Returns whether there is nothing to fix.
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
