//! Which program the checks test.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::{Failure, repository};

/// A program to check.
#[derive(Debug, Clone)]
enum Choice {
    /// The command line in `SERVER`, as the user would type it in a shell.
    Command(String),
    /// A binary of this workspace.
    Binary(PathBuf),
    /// A binary of this workspace that cannot be built.
    Broken(String),
    /// `stages/mine` is there, and is no package.
    NoPackage,
}

/// Whether the program is run by a shell, which may start other programs.
pub(crate) fn is_command() -> bool {
    command_line().is_some()
}

/// The content of `SERVER`, if it is not empty.
fn command_line() -> Option<String> {
    env::var("SERVER").ok().filter(|line| !line.trim().is_empty())
}

/// The command that starts the server under test for `stage`, without arguments.
///
/// # Errors
///
/// When the server has to be built first and does not compile.
pub(crate) fn command(stage: &'static str) -> Result<Command, Failure> {
    static CHOICE: OnceLock<Choice> = OnceLock::new();
    to_command(CHOICE.get_or_init(|| choose(stage)))
}

/// The command that starts the binary `stage` of this workspace, whatever `SERVER` is.
///
/// # Errors
///
/// When it cannot be built.
pub fn own_command(stage: &str) -> Result<Command, Failure> {
    static BUILT: Mutex<BTreeMap<String, Choice>> = Mutex::new(BTreeMap::new());
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    to_command(built.entry(stage.to_owned()).or_insert_with(|| build(stage)))
}

fn to_command(choice: &Choice) -> Result<Command, Failure> {
    match choice {
        Choice::Command(line) if is_in_background(line) => Err(Failure::new(
            "the command in SERVER ends with &",
        )
        .cause(
            "The & starts your server in the background, where the checks can neither stop it nor see that it \
             has ended. Remove the &: the checks do not wait for your server to end.",
        )),
        Choice::Command(line) => Ok(shell(line)),
        Choice::Binary(path) => Ok(Command::new(path)),
        Choice::NoPackage => Err(Failure::new("stages/mine has no Cargo.toml").cause(
            "If your server is not written in Rust, set SERVER to the command that starts it.",
        )),
        Choice::Broken(name) => Err(Failure::new(format!("{name} does not compile")).cause(
            missing_crate(name).unwrap_or("Read the compiler's messages above.".to_owned()),
        )),
    }
}

/// Whether a command line starts its program in the background.
fn is_in_background(line: &str) -> bool {
    let line = line.trim_end();
    !cfg!(windows) && line.ends_with('&') && !line.ends_with("&&")
}

/// What to do about a package that uses `common` or `flate2` without listing it in its Cargo.toml.
fn missing_crate(package: &str) -> Option<String> {
    let read = |path: &str| fs::read_to_string(repository().join(package).join(path)).ok();
    let (code, manifest) = (read("src/main.rs")?, read("Cargo.toml")?);
    let is_missing = |name: &&str| code.contains(&format!("{name}::")) && !manifest.contains(*name);
    let missing = ["common", "flate2"].into_iter().find(is_missing)?;
    let source = if missing == "common" { "--path common" } else { missing };
    Some(format!(
        "It uses the crate {missing}, but its Cargo.toml does not list it. Run this once:\n\
         cargo add --manifest-path stages/mine/Cargo.toml {source}"
    ))
}

/// Whether the user has a server in this workspace.
fn has_mine() -> bool {
    repository().join("stages/mine").is_dir()
}

/// What the user's server is, in words. `None` if the checks test this repository's own stages.
pub fn subject() -> Option<String> {
    let command = command_line().map(|line| format!("SERVER, which is: {line}"));
    command.or_else(|| has_mine().then(|| "stages/mine".to_owned()))
}

/// The files and folders of the user's server: `stages/mine`, or those that the command in `SERVER` names.
pub fn sources() -> Vec<PathBuf> {
    let Some(line) = command_line() else { return vec![repository().join("stages/mine")] };
    let words = line.split_whitespace().map(|word| word.trim_matches(['"', '\'', ';', '&']));
    let paths = words.filter(|word| !word.is_empty()).map(|word| repository().join(word));
    paths.filter_map(|path| path.canonicalize().ok()).collect()
}

/// Chooses the program to check, and prints the choice on a line of its own. It writes to stderr directly,
/// because the test runner captures what `println!` writes.
fn choose(stage: &str) -> Choice {
    let shown = subject().unwrap_or_else(|| format!("this repository's {stage}"));
    let _ = std::io::stderr().write_all(format!("{stage}: checking {shown}\n").as_bytes());
    match command_line() {
        Some(line) => Choice::Command(line),
        None if has_mine() && !repository().join("stages/mine/Cargo.toml").exists() => {
            Choice::NoPackage
        }
        None if has_mine() => build("mine"),
        None => build(stage),
    }
}

/// Builds a binary of this workspace, in the same profile as this test.
fn build(name: &str) -> Choice {
    let cargo = env::var_os("CARGO").unwrap_or("cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--bin", name]).current_dir(repository());
    if name == "mine" {
        command.args(["--manifest-path", "stages/mine/Cargo.toml"]);
    }
    let Some(profile) = profile_directory() else { return Choice::Broken(name.to_owned()) };
    if profile.ends_with("release") {
        command.arg("--release");
    }
    match command.status() {
        Ok(status) if status.success() => {
            Choice::Binary(profile.join(format!("{name}{}", env::consts::EXE_SUFFIX)))
        }
        _ if name == "mine" => Choice::Broken("stages/mine".to_owned()),
        _ => Choice::Broken(name.to_owned()),
    }
}

/// `target/debug` or the like: this test is in its subdirectory `deps`.
fn profile_directory() -> Option<PathBuf> {
    Some(env::current_exe().ok()?.parent()?.parent()?.to_owned())
}

/// A command that runs a command line in a shell. Arguments that are added to it are passed to the program.
fn shell(line: &str) -> Command {
    if cfg!(windows) {
        let mut command = Command::new("cmd");
        command.args(["/C", line]);
        command
    } else {
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("{line} \"$@\"")).arg("sh");
        command
    }
}
