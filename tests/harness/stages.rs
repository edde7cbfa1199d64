//! The stages: their names, their checks, and the programs that run the checks.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

/// The top directory of the repository, where `SERVER` is run and which contains `stages/mine`.
pub fn repository() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here)
}

/// A stage of the course.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stage {
    /// Its folder, which is also the name of its chapter, such as `04-echo`.
    pub folder: String,
}

impl Stage {
    /// All stages, in order.
    pub fn all() -> Vec<Stage> {
        let entries = fs::read_dir(repository().join("stages")).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let numbered = names.filter(|name| name.starts_with(|first: char| first.is_ascii_digit()));
        let mut stages: Vec<_> = numbered.map(|folder| Stage { folder }).collect();
        stages.sort();
        stages
    }

    /// Its number in two digits, such as `04`.
    pub fn number(&self) -> &str {
        self.folder.split('-').next().unwrap_or_default()
    }

    /// Its number as people write it, such as `4`.
    pub fn order(&self) -> &str {
        self.number().trim_start_matches('0')
    }

    /// The name of its program and of its checks, such as `stage04`.
    pub fn name(&self) -> String {
        format!("stage{}", self.number())
    }

    /// Its title, such as `files get`.
    pub fn title(&self) -> String {
        self.folder.split('-').skip(1).collect::<Vec<_>>().join(" ")
    }

    /// Its chapter, such as `docs/04-echo.md`.
    pub fn chapter(&self) -> String {
        format!("docs/{}.md", self.folder)
    }

    /// What it asks of a server.
    pub fn rules(&self) -> Rules {
        Rules::read(&fs::read_to_string(repository().join(self.chapter())).unwrap_or_default())
    }

    /// The names of its checks, in the order of the file.
    pub fn checks(&self) -> Vec<String> {
        let path = repository().join(format!("tests/{}.rs", self.name()));
        let code = fs::read_to_string(path).unwrap_or_default();
        let tests = code.split("#[test]\nfn ").skip(1);
        tests.filter_map(|test| Some(test.split_once('(')?.0.to_owned())).collect()
    }
}

/// What a stage asks of a server: the numbered list at the beginning of its chapter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// The rules in order, as the chapter writes them, with their numbers and line breaks.
    pub rules: Vec<String>,
    /// For the name of each check, the indices of the rules that it is about.
    pub checked: BTreeMap<String, Vec<usize>>,
}

impl Rules {
    /// Reads the rules of a chapter, which are below the heading "Your server must". Lines such as
    /// ``- `answers_200` (2): …`` say which rules a check is about.
    pub fn read(chapter: &str) -> Rules {
        let lines = chapter.lines().skip_while(|line| *line != "## Your server must").skip(2);
        let mut rules: Vec<String> = Vec::new();
        for line in lines.take_while(|line| !line.is_empty()) {
            match rules.last_mut().filter(|_| line.starts_with(' ')) {
                Some(rule) => *rule += &format!("\n{line}"),
                None => rules.push(line.to_owned()),
            }
        }
        let entries =
            chapter.lines().filter_map(|line| line.strip_prefix("- `")?.split_once("` ("));
        let entries = entries.filter_map(|(check, rest)| Some((check, rest.split_once("):")?.0)));
        let indices = |text: &str| {
            let numbers = text.split(", ").filter_map(|number| number.parse::<usize>().ok());
            numbers.filter_map(|number| number.checked_sub(1)).collect()
        };
        let checked = entries.map(|(check, text)| (check.to_owned(), indices(text))).collect();
        Rules { rules, checked }
    }
}

/// Runs cargo in the repository.
///
/// # Errors
///
/// With all that cargo printed, when it fails.
pub fn cargo(args: &[&str]) -> Result<String, String> {
    let cargo = env::var_os("CARGO").unwrap_or("cargo".into());
    let output = Command::new(cargo).args(args).current_dir(repository()).output();
    let output = output.map_err(|error| format!("cannot run cargo: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(said) } else { Err(said) }
}

/// The program that runs the checks of a stage. Builds it if necessary, with those of all stages whose checks are in the
/// same package: the checks of TLS have one of their own, so that nobody waits for its cryptography before they need it.
///
/// # Errors
///
/// With all that cargo printed, when it fails.
pub fn check_program(stage: &str) -> Result<PathBuf, String> {
    static BUILT: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if !built.contains_key(stage) {
        built.extend(build_checks(package_of(stage))?);
    }
    built.get(stage).cloned().ok_or_else(|| format!("cargo has not built the checks of {stage}"))
}

/// The package in which the checks of a stage are.
fn package_of(stage: &str) -> &'static str {
    let manifest = fs::read_to_string(repository().join("tests/Cargo.toml")).unwrap_or_default();
    if manifest.contains(&format!("name = \"{stage}\"")) { "tests" } else { "secure" }
}

/// The programs that run the checks of a package, by the names of their stages.
fn build_checks(package: &str) -> Result<BTreeMap<String, PathBuf>, String> {
    let said = cargo(&["test", "--no-run", "--package", package, "--test", "stage*"])?;
    // Such as `  Executable stage04.rs (target/debug/deps/stage04-0123456789abcdef)`.
    let lines = said.lines().filter_map(|line| line.trim().strip_prefix("Executable "));
    let pairs = lines.filter_map(|line| line.trim_end_matches(')').split_once(".rs ("));
    let named = pairs.map(|(file, path)| (file.rsplit('/').next().unwrap_or(file), path));
    Ok(named.map(|(name, path)| (name.to_owned(), repository().join(path))).collect())
}
