//! Terminal sessions: the commands are run, and their output is compared with the page.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::slice;
use std::thread;
use std::time::{Duration, Instant};

use harness::{Server, Stage};
use tempfile::TempDir;

use crate::{Block, Page};

/// How long a command, or a line of the log, may take.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The servers that the sessions of a page use, by their stage and their arguments. From stage 7 on, there is a file
/// hello.txt.
type Servers<'p> = BTreeMap<&'p [&'p str], Server>;

/// Runs the sessions of a page in order, and says what is wrong with them.
pub fn check(page: &Page) -> Vec<String> {
    let home = TempDir::new().expect("a temporary directory");
    // Without this, curl shows its progress when its output is not a terminal.
    fs::write(home.path().join(".curlrc"), "no-progress-meter\n").expect("the file can be written");
    let blocks: Vec<_> = page.blocks();
    let words: Vec<Vec<_>> =
        blocks.iter().map(|block| block.words.iter().map(String::as_str).collect()).collect();
    let mut servers = Servers::new();
    let mut complaints = Vec::new();
    for (words, block) in words.iter().zip(&blocks) {
        let outcome = match &words[..] {
            ["console", command @ ..] if !command.is_empty() => {
                run(block, command, &mut servers, home.path())
            }
            ["text", stage, "log"] => compare_log(block, slice::from_ref(stage), &mut servers),
            _ => Ok(()),
        };
        if let Err(complaint) = outcome {
            complaints.push(format!("{}:{}: {complaint}", page.name(), block.line));
        }
    }
    complaints
}

/// The server that a stage and its arguments start. It is started when it is first used.
fn start<'s, 'p>(
    command: &'p [&'p str],
    servers: &'s mut Servers<'p>,
) -> Result<&'s Server, String> {
    let (stage, args) = command.split_first().ok_or("no stage is named")?;
    let names = Stage::all().into_iter().map(|stage| stage.name());
    let name = names.into_iter().find(|name| name == stage).ok_or("there is no such stage")?;
    let name: &'static str = name.leak(); // a test is short, so this does not matter
    if !servers.contains_key(command) {
        let server = match args {
            [] => Server::start_own(name),
            args => Server::start_own_with_args(name, args),
        };
        let server = server.map_err(|failure| format!("{failure:?}"))?;
        server.connect().map_err(|failure| format!("{failure:?}"))?;
        if server.outside().is_some() {
            let hello = server.directory().join("hello.txt");
            fs::write(hello, "Hello, World!\n").map_err(|error| error.to_string())?;
        }
        servers.insert(command, server);
    }
    Ok(&servers[command])
}

fn run<'p>(
    block: &Block,
    command: &'p [&'p str],
    servers: &mut Servers<'p>,
    home: &Path,
) -> Result<(), String> {
    let server = start(command, servers)?;
    let port = server.port().to_string();
    for (command, expected) in commands(&block.body) {
        let printed =
            execute(&command.replace("4221", &port), server, home)?.replace(&port, "4221");
        if !matches(&expected, &printed.lines().collect::<Vec<_>>()) {
            return Err(format!(
                "{command}\nshould print\n{}\nbut prints\n{printed}",
                expected.join("\n")
            ));
        }
    }
    Ok(())
}

/// Splits a session into commands and the lines that each of them prints. A command begins with `$ ` and may
/// continue on the next line after a backslash.
fn commands(body: &str) -> Vec<(String, Vec<&str>)> {
    let mut commands: Vec<(String, Vec<&str>)> = Vec::new();
    let mut continues = false;
    for line in body.lines() {
        match (line.strip_prefix("$ "), commands.last_mut()) {
            (Some(command), _) => commands.push((command.to_owned(), Vec::new())),
            (None, Some((command, _))) if continues => {
                command.truncate(command.len() - 1);
                command.push_str(line.trim_start());
            }
            (None, Some((_, printed))) => printed.push(line),
            (None, None) => {}
        }
        continues = line.ends_with('\\');
    }
    commands
}

/// Runs a command in a shell, in the directory that contains the server's directory, if it has one.
fn execute(command: &str, server: &Server, home: &Path) -> Result<String, String> {
    let directory = server.outside().unwrap_or(home);
    let mut child = Command::new("sh")
        .args(["-c", &format!("{{ {command}\n}} 2>&1")])
        .current_dir(directory)
        .env("CURL_HOME", home)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let start = Instant::now();
    while child.try_wait().map_err(|error| error.to_string())?.is_none() {
        if start.elapsed() > TIMEOUT {
            let _ = child.kill();
            return Err(format!("{command}\ndoes not end"));
        }
        thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    Ok(String::from_utf8_lossy(&output.stdout).replace('\r', ""))
}

fn compare_log<'p>(
    block: &Block,
    command: &'p [&'p str],
    servers: &mut Servers<'p>,
) -> Result<(), String> {
    let server = start(command, servers)?;
    let mut expected = vec!["…"];
    for line in block.body.lines() {
        expected.extend([line, "…"]);
    }
    let begin = Instant::now();
    loop {
        let output = server.output();
        if matches(&expected, &output.lines().collect::<Vec<_>>()) {
            return Ok(());
        }
        if begin.elapsed() > TIMEOUT {
            return Err(format!("the log does not contain these lines. It is\n{output}"));
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Whether lines match a pattern. A line `…` in the pattern stands for any number of lines.
fn matches(expected: &[&str], found: &[&str]) -> bool {
    match (expected, found) {
        ([], []) => true,
        (["…", rest @ ..], _) if matches(rest, found) => true,
        (["…", ..], [_, more @ ..]) => matches(expected, more),
        ([pattern, rest @ ..], [line, more @ ..]) => {
            line_matches(pattern, line) && matches(rest, more)
        }
        _ => false,
    }
}

/// Whether a line matches a pattern. A `…` in the pattern stands for any part of the line.
fn line_matches(pattern: &str, line: &str) -> bool {
    let parts: Vec<_> = pattern.trim_end().split('…').collect();
    let mut rest = line.trim_end();
    let Some((last, first)) = parts.split_last() else { return false };
    for (index, part) in first.iter().enumerate() {
        let Some(at) = rest.find(part) else { return false };
        if index == 0 && at > 0 {
            return false;
        }
        rest = &rest[at + part.len()..];
    }
    if first.is_empty() { rest == *last } else { rest.ends_with(last) }
}

#[test]
fn patterns_match_what_they_should() {
    assert!(line_matches("a … c", "a b c"));
    assert!(line_matches("a", "a"));
    assert!(!line_matches("a", "ab"));
    assert!(!line_matches("b…", "ab"));
    assert!(matches(&["a", "…", "z"], &["a", "b", "c", "z"]));
    assert!(matches(&["…"], &[]));
    assert!(!matches(&["a"], &["a", "b"]));
}
