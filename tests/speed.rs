//! `cargo bench`: how fast the stages are, and what they cost, beside servers in common use. The benchmark itself is in
//! tests/rivals/speed/: it needs packages that nothing else here needs, so it is built when it is run.

use std::env;
use std::process::{Command, exit};

use harness::{cargo, repository};

/// The stages that take part.
const STAGES: [&str; 8] =
    ["stage06", "stage10", "stage13", "stage16", "stage19", "stage22", "stage23", "stage24"];

fn main() {
    if env::args().any(|arg| arg == "--test") {
        return; // `cargo test --benches` only tests whether the benchmark starts
    }
    eprintln!("building the stages and their rivals, which takes some minutes at the first time");
    let mut stages = vec!["build", "--release"];
    STAGES.iter().for_each(|stage| stages.extend(["--bin", stage]));
    let rivals = ["build", "--release", "--package", "rivals", "--features", "speed"];
    for build in [&stages[..], &rivals] {
        cargo(build).unwrap_or_else(|said| panic!("{said}"));
    }
    let speed = repository().join("target/release/speed");
    let args = env::args().skip(1).filter(|arg| arg != "--bench");
    let played = Command::new(&speed).args(args).current_dir(repository()).status();
    let status = played.unwrap_or_else(|error| panic!("cannot run {}: {error}", speed.display()));
    exit(status.code().unwrap_or(1));
}
