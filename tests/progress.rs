//! What `cargo next` shows. Learners see this screen more often than any other.

#![cfg(unix)] // the command in SERVER is one for a Unix shell

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use harness::{Failure, Stage, own_command, repository};
use pretty_assertions::assert_eq;
use tempfile::TempDir;

/// Longer than the checks of a stage take, even on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// A learner's server that changes: its command stays the same, but the program is one stage of the course or
/// another.
struct Learner {
    directory: TempDir,
}

impl Learner {
    fn new() -> Learner {
        Learner { directory: TempDir::new().expect("a temporary directory") }
    }

    fn server(&self) -> PathBuf {
        self.directory.path().join("server")
    }

    /// Replaces the learner's server with this stage of the course.
    fn writes(&self, stage: &str) -> Result<(), Failure> {
        let new = self.directory.path().join("new");
        fs::copy(own_command(stage)?.get_program(), &new).expect("the stage can be copied");
        fs::rename(new, self.server()).expect("the server can be replaced");
        Ok(())
    }

    /// Adds all stages but the last to what is remembered about this server, without running their checks.
    fn has_passed_all_before(&self, stages: &[Stage]) -> Result<(), Failure> {
        self.next(&["1-1"]);
        let path = self.memory().expect("it is remembered that stage 1 has passed");
        let numbers: Vec<_> = stages.iter().map(Stage::number).collect();
        let passed = numbers[..numbers.len() - 1].join(" ");
        let text = fs::read_to_string(&path).unwrap_or_default();
        let text = text.replace("passed: 01", &format!("passed: {passed}"));
        fs::write(path, text).map_err(|error| Failure::new(format!("cannot be written: {error}")))
    }

    /// The file in which `cargo next` remembers what this server has passed.
    fn memory(&self) -> Option<PathBuf> {
        let memory = Path::new(env!("CARGO_BIN_EXE_next")).ancestors().nth(2)?.join("next");
        let server = self.server().display().to_string();
        let mut paths = fs::read_dir(memory).ok()?.flatten().map(|entry| entry.path());
        paths.find(|path| fs::read_to_string(path).is_ok_and(|text| text.contains(&server)))
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = next(args);
        command.env("SERVER", self.server());
        command
    }

    /// The exit code of `cargo next` and its output, with `./server` in place of this server's path.
    fn next(&self, args: &[&str]) -> (Option<i32>, String) {
        let output = self.command(args).output().expect("cargo next can be run");
        let path = self.server().display().to_string();
        (output.status.code(), screen(&output).replace(&path, "./server"))
    }
}

impl Drop for Learner {
    /// Removes the progress that was kept for the server.
    fn drop(&mut self) {
        let _ = self.memory().map(fs::remove_file);
    }
}

fn next(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_next"));
    command.args(args).current_dir(repository()).env_remove("PORT").env_remove("SERVER");
    command
}

/// The bar that shows the progress, with a dot for each of the other stages.
fn bar(begin: &str) -> String {
    format!("{begin:.<width$}", width = Stage::all().len())
}

fn screen(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_stage_that_is_done_is_celebrated_and_the_next_is_explained_when_it_is_begun()
-> Result<(), Failure> {
    let learner = Learner::new();
    learner.writes("stage04")?;
    let (code, screen) = learner.next(&[]);
    let list = "Checking SERVER, which is: ./server.

  ok  01 bind
  ok  02 respond 200
  ok  03 respond 404
  ok  04 echo
";
    assert_eq!(
        screen,
        format!(
            "{list}\n  {}  Stage 4 is done (4 of {}). Next: docs/05-headers.md\n",
            bar("####>"),
            Stage::all().len()
        )
    );
    assert_eq!(code, Some(0));
    let (code, screen) = learner.next(&[]);
    assert_eq!(code, Some(1));
    let (beginning, _) = screen.split_once("  output ").expect("the server's log is shown");
    assert_eq!(
        beginning,
        format!(
            r#"{list}  no  05 headers

  {}

      no  answers_with_the_user_agent
      no  header_names_ignore_case
      no  white_space_around_a_value_is_not_part_of_it
      no  finds_the_header_among_others
      no  length_counts_bytes
      ok  takes_bytes_that_are_not_text
      ok  goes_on_without_the_header

Your server must (docs/05-headers.md):

  1. answer `GET /user-agent` with 200, `Content-Type: text/plain`, and the value of the header `User-Agent` as the
     body;

Error: the status is 404, not 200

  sent      GET /user-agent HTTP/1.1\r\n
            Host: localhost\r\n
            User-Agent: foobar/1.2.3\r\n
            \r\n

  received  HTTP/1.1 404 Not Found\r\n
            Content-Type: text/plain\r\n
            Content-Length: 0\r\n
            \r\n

  expected  status 200, Content-Type: text/plain, the body "foobar/1.2.3"

"#,
            bar("####>")
        )
    );
    let (_, end) = screen.split_once("  why ").expect("the reason is given");
    assert_eq!(
        end,
        "      The body must be the value of User-Agent, without the white space around it
            and without the line end.

  read      docs/05-headers.md

To run this stage alone:  SERVER='./server' cargo next 5-5
Still stuck?  The chapter has a list of causes: docs/05-headers.md#stuck
One way to do it:  git diff --no-index stages/04-echo stages/05-headers
"
    );
    Ok(())
}

#[test]
fn a_stage_that_passed_before_is_said_to_be_broken() -> Result<(), Failure> {
    let learner = Learner::new();
    learner.writes("stage03")?;
    assert_eq!(learner.next(&["2-3"]).0, Some(0));
    learner.writes("stage02")?;
    let (code, screen) = learner.next(&["2-3"]);
    assert_eq!(code, Some(1));
    let (_, news) = screen.split_once("no  03 respond 404\n").expect("stage 3 is listed");
    let bar = bar(".#>");
    let begin =
        format!("\n  {bar}\n\nStage 3 passed before. Your last change broke it.\n\n      no  ");
    assert!(news.starts_with(&begin), "{screen}");
    Ok(())
}

#[test]
fn some_stages_can_be_run_alone() -> Result<(), Failure> {
    let learner = Learner::new();
    learner.writes("stage03")?;
    let (code, screen) = learner.next(&["2-3"]);
    let end = format!("\n  {}\n\nStages 2 to 3 pass.\n", bar(".##"));
    assert!(screen.ends_with(&end), "{screen}");
    assert_eq!(code, Some(0));
    let (code, screen) = learner.next(&["4"]);
    assert!(screen.contains("no  04 echo"), "{screen}");
    assert_eq!(code, Some(1));
    Ok(())
}

#[test]
fn the_last_stage_is_an_end() -> Result<(), Failure> {
    let learner = Learner::new();
    let stages = Stage::all();
    let last = stages.last().expect("there are stages");
    let number = last.number();
    learner.writes(&last.name())?;
    learner.has_passed_all_before(&stages)?;
    let (code, screen) = learner.next(&[&format!("{number}-{number}")]);
    let line = format!("  ok  {number} {}\n", last.title());
    let (_, end) = screen.split_once(&line).unwrap_or_else(|| panic!("{screen}"));
    let bar = "#".repeat(stages.len());
    let begin = format!("\n  {bar}\n\nStage {number} passes.\n\nYou have built");
    assert!(end.starts_with(&begin), "{screen}");
    assert_eq!(code, Some(0));
    let introduction = fs::read_to_string(repository().join("docs/00-introduction.md"));
    let (_, shown) = end.split_once("You have built").expect("the screen says what was built");
    let (shown, _) = shown.split_once("\n\nFrom here").expect("the screen says what to do next");
    assert!(
        introduction.is_ok_and(|text| text.contains(shown)),
        "docs/00-introduction.md shows another text for the end"
    );
    Ok(())
}

#[test]
fn what_is_not_understood_is_refused() {
    for args in [&["0"][..], &["99"], &["5-3"], &["x"], &["--wacht"], &["1", "2"]] {
        let output = next(args).output().expect("cargo next can be run");
        let message = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?} {message}");
        assert!(message.starts_with("error: "), "{args:?} {message}");
    }
    let help = next(&["--help"]).output().expect("cargo next can be run");
    assert!(screen(&help).contains("Usage: cargo next [OPTIONS] [STAGES]"), "{}", screen(&help));
}

#[test]
fn runs_again_when_the_server_changes() -> Result<(), Failure> {
    let learner = Learner::new();
    learner.writes("stage01")?;
    let mut command = learner.command(&["1-2", "--watch"]);
    let mut child = command.stdout(Stdio::piped()).spawn().expect("cargo next can be run");
    let output = child.stdout.take().expect("stdout is piped");
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || BufReader::new(output).lines().try_for_each(|line| sender.send(line)));
    let wait_for = |words: &str| {
        let is_it = |line: io::Result<String>| line.is_ok_and(|line| line.contains(words));
        while !is_it(lines.recv_timeout(DEADLINE)?) {}
        Ok(())
    };
    let shown = || -> Result<(), RecvTimeoutError> {
        wait_for(&format!("Stage 1 is done (1 of {}). Next:", Stage::all().len()))?;
        wait_for("Waiting for a change")?;
        learner.writes("stage02").expect("stage 2 can be built");
        wait_for("server has changed")?;
        wait_for("Stages 1 to 2 pass.")
    };
    let shown = shown();
    child.kill().and_then(|()| child.wait()).expect("cargo next runs until it is killed");
    assert_eq!(shown, Ok(()));
    Ok(())
}

#[test]
fn a_server_in_the_background_is_named_as_the_mistake_and_not_started() {
    let directory = TempDir::new().expect("a temporary directory");
    let witness = directory.path().join("started");
    let server = format!("touch '{}'; sleep 100 &", witness.display());
    let output = next(&["1"]).env("SERVER", server).output().expect("cargo next can be run");
    let screen = screen(&output);
    assert!(screen.contains("Error: the command in SERVER ends with &"), "{screen}");
    assert!(!witness.exists());
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let output =
        next(&["1"]).env("SERVER", "no-such-program").output().expect("cargo next can be run");
    let screen = screen(&output);
    assert!(screen.contains("Error: the command in SERVER cannot be run"), "{screen}");
    assert!(screen.contains("no-such-program: not found"), "{screen}");
}
