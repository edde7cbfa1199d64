//! The text that a learner sees.

use std::env;
use std::io::{self, IsTerminal, Write};

use harness::{Stage, subject};

use crate::checks::Findings;
use crate::progress::Progress;

/// Shows which server the checks test.
pub(crate) fn show_subject(out: &mut impl Write) -> io::Result<()> {
    let own = || "the course's own stages: there is no stages/mine yet".to_owned();
    writeln!(out, "Checking {}.\n", subject().unwrap_or_else(own))
}

/// Shows a stage that passes, in the list of stages.
pub(crate) fn show_pass(out: &mut impl Write, stage: &Stage) -> io::Result<()> {
    writeln!(out, "  {}  {} {}", green("ok"), stage.number(), stage.title())
}

/// All stages in one line: `#` is a stage that has passed, `>` the current one, `.` one that has not passed yet.
fn way(stages: &[Stage], current: Option<&Stage>, progress: &Progress) -> String {
    let mark = |stage: &Stage| match stage {
        _ if current == Some(stage) => '>',
        _ if progress.has_passed(stage) => '#',
        _ => '.',
    };
    green(&stages.iter().map(mark).collect::<String>())
}

/// Celebrates the last stage that passed for the first time in this run, and names the next chapter.
pub(crate) fn show_done(
    out: &mut impl Write,
    done: &Stage,
    next: &Stage,
    stages: &[Stage],
    progress: &Progress,
) -> io::Result<()> {
    let passed = stages.iter().filter(|stage| progress.has_passed(stage)).count();
    let (way, total) = (way(stages, Some(next), progress), stages.len());
    let (number, chapter) = (done.order(), next.chapter());
    writeln!(out, "\n  {way}  Stage {number} is done ({passed} of {total}). Next: {chapter}")
}

/// Lists the checks of a stage that fails, shows the report of the first check that failed, and says where to find
/// help.
pub(crate) fn show_failure(
    out: &mut impl Write,
    stage: &Stage,
    findings: &Findings,
    stages: &[Stage],
    progress: &Progress,
) -> io::Result<()> {
    writeln!(out, "  {}  {} {}", red("no"), stage.number(), stage.title())?;
    if progress.is_kept() {
        writeln!(out, "\n  {}", way(stages, Some(stage), progress))?;
    }
    if progress.has_passed(stage) {
        let number = stage.order();
        // A machine that is too slow, or a wrong command, is no change of the server.
        let has_run = !findings.first_report(stage).contains("cannot be reached");
        let blame = if has_run { " Your last change broke it." } else { "" };
        writeln!(out, "\nStage {number} passed before.{blame}")?;
    }
    writeln!(out)?;
    for check in stage.checks() {
        let mark = if findings.failed.contains(&check) { red("no") } else { green("ok") };
        writeln!(out, "      {mark}  {check}")?;
    }
    show_rules(out, stage, findings)?;
    let report = findings.first_report(stage);
    writeln!(out, "\n{report}\n")?;
    show_help(out, stages, stage, report)
}

/// Shows the rules of the chapter that the first failed check is about.
fn show_rules(out: &mut impl Write, stage: &Stage, findings: &Findings) -> io::Result<()> {
    let rules = stage.rules();
    let checked = findings.first_failed(stage).and_then(|check| rules.checked.get(&check).cloned());
    writeln!(out, "\nYour server must ({}):\n", stage.chapter())?;
    for rule in checked.unwrap_or_default().into_iter().filter_map(|index| rules.rules.get(index)) {
        writeln!(out, "  {}", rule.replace('\n', "\n  "))?;
    }
    Ok(())
}

/// Says where to find help with a stage that fails.
fn show_help(
    out: &mut impl Write,
    stages: &[Stage],
    stage: &Stage,
    report: &str,
) -> io::Result<()> {
    // The report may name the chapter of another stage, because a later stage can break an earlier one.
    let (_, page) = report.rsplit_once("  read ").unwrap_or_default();
    let page = page.trim();
    let (alone, order) = (env::var("SERVER").ok(), stage.order());
    let server = alone.filter(|line| !line.trim().is_empty() && !cfg!(windows));
    let server = server.map_or_else(String::new, |line| format!("SERVER={} ", quoted(&line)));
    writeln!(out, "To run this stage alone:  {server}cargo next {order}-{order}")?;
    writeln!(out, "Still stuck?  The chapter has a list of causes: {page}#stuck")?;
    let solved = stages.iter().position(|it| it.chapter() == page);
    let folder = |stage: &Stage| format!("stages/{}", stage.folder);
    match solved {
        Some(0) | None => writeln!(out, "One way to do it:  {}", folder(stage)),
        Some(at) => {
            let (before, after) = (folder(&stages[at - 1]), folder(&stages[at]));
            writeln!(out, "One way to do it:  git diff --no-index {before} {after}")
        }
    }
}

/// Shows the errors of a server that does not compile.
pub(crate) fn show_compiler(out: &mut impl Write, compiler: &str, report: &str) -> io::Result<()> {
    let lines = compiler.lines().filter(|line| !line.contains(": checking "));
    writeln!(out, "{}\n\n{report}", lines.collect::<Vec<_>>().join("\n"))?;
    writeln!(out, "\nNo check has run.")
}

/// Shows the end of a run in which no check failed.
pub(crate) fn show_success(
    out: &mut impl Write,
    ran: &[Stage],
    stages: &[Stage],
    progress: &Progress,
) -> io::Result<()> {
    let passes_all = stages.iter().all(|stage| progress.has_passed(stage));
    if progress.is_kept() {
        writeln!(out, "\n  {}", way(stages, None, progress))?;
    }
    match ran {
        _ if ran.len() == stages.len() => writeln!(out, "\nAll {} stages pass.", ran.len())?,
        [one] => writeln!(out, "\nStage {} passes.", one.order())?,
        [first, .., last] => writeln!(out, "\nStages {} to {} pass.", first.order(), last.order())?,
        [] => {}
    }
    match progress.is_kept() {
        true if passes_all && ran.last() == stages.last() => writeln!(out, "\n{}", THE_END.trim()),
        true => Ok(()),
        false => writeln!(
            out,
            "These are the course's own stages. To write your own, read {INTRODUCTION}"
        ),
    }
}

const INTRODUCTION: &str = "docs/00-introduction.md";

const THE_END: &str = "
You have built an HTTP/1.1 server. It
  - talks to browsers, curl and proxies over connections that stay open;
  - sends and stores files of any size, whole or not at all, and never outside of its directory;
  - compresses bodies for clients that accept it, and streams bodies whose length is not known yet;
  - refuses invalid requests and says why, and limits time, size and the number of clients;
  - serves many clients at the same time, and stops without losing an answer;
  - shows a folder as a web site, with the right types and no way out of it;
  - sends a file only to those who do not have it yet, and as much of it as they need;
  - keeps records for programs, loses none of them in a crash, and tells all open pages what has changed;
  - waits for ten thousand clients with one thread;
  - speaks TLS, so that nobody on the way can read what is said, or change it;
  - shares its records with others like it, and is missed by nobody when it is restarted.

From here: compare it with servers that people trust (docs/strict.md and docs/speed.md). Read
common/src/lib.rs, the same server as a library with limits and tests. Or use your server for
something you care about.
";

/// A word for the shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
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
