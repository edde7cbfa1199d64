//! Which program is checked.

use std::collections::BTreeMap;
use std::env;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::{Failure, repository};

/// A program to check.
#[derive(Debug, Clone)]
enum Choice {
    /// The command line in `SERVER`, in the words of the user's shell.
    Command(String),
    /// A binary of this workspace.
    Binary(PathBuf),
    /// A binary of this workspace that cannot be built.
    Broken(String),
}

/// Whether the program is run through a shell, which may start others.
pub(crate) fn is_command() -> bool {
    env::var_os("SERVER").is_some()
}

/// The command that starts the server under test for `stage`, without arguments.
///
/// # Errors
///
/// When it has to be built first, and cannot.
pub(crate) fn command(stage: &'static str) -> Result<Command, Failure> {
    static CHOICE: OnceLock<Choice> = OnceLock::new();
    to_command(CHOICE.get_or_init(|| choose(stage)))
}

/// The command that starts the binary `stage` of this workspace, whatever `SERVER` says.
///
/// # Errors
///
/// When it cannot be built.
pub fn own_command(stage: &'static str) -> Result<Command, Failure> {
    static BUILT: Mutex<BTreeMap<&str, Choice>> = Mutex::new(BTreeMap::new());
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    to_command(built.entry(stage).or_insert_with(|| build(stage)))
}

fn to_command(choice: &Choice) -> Result<Command, Failure> {
    match choice {
        Choice::Command(line) => Ok(shell(line)),
        Choice::Binary(path) => Ok(Command::new(path)),
        Choice::Broken(name) => Err(Failure::new(format!("{name} does not compile"))
            .why("The compiler's messages stand above.")),
    }
}

/// Chooses, and says what was chosen on a line of its own, which the test runner lets through.
fn choose(stage: &'static str) -> Choice {
    let (chosen, shown) = if let Ok(line) = env::var("SERVER") {
        (Choice::Command(line.clone()), format!("SERVER, which is: {line}"))
    } else if repository().join("stages/mine").is_dir() {
        (build("mine"), "stages/mine".to_owned())
    } else {
        (build(stage), format!("this repository's {stage}"))
    };
    let _ = std::io::stderr().write_all(format!("{stage}: checking {shown}\n").as_bytes());
    chosen
}

/// Builds a binary of this workspace, in the profile that this test was built in.
fn build(name: &'static str) -> Choice {
    let cargo = env::var_os("CARGO").unwrap_or("cargo".into());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--bin", name]).current_dir(repository());
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

/// A command line as the user would type it. Arguments added to it go to the program.
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
