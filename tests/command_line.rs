//! The command line of every stage: what it accepts, what it refuses, and with which messages.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

use harness::{Failure, own_command};
use pretty_assertions::assert_eq;

const STAGES: [&str; 9] = [
    "stage01", "stage02", "stage03", "stage04", "stage05", "stage06", "stage07", "stage08",
    "stage09",
];

fn command(stage: &'static str) -> Result<Command, Failure> {
    let mut command = own_command(stage)?;
    command.env_remove("PORT").env("RUST_BACKTRACE", "1").current_dir(harness::repository());
    Ok(command)
}

/// Runs a stage that should end by itself.
fn run(stage: &'static str, args: &[&str]) -> Result<Output, Failure> {
    let output = command(stage)?.args(args).output();
    output.map_err(|error| Failure::new(format!("cannot run {stage}: {error}")))
}

/// Expects one line on stderr, a non-zero exit code, and all of these words.
fn expect_refusal(stage: &'static str, args: &[&str], words: &[&str]) -> Result<(), Failure> {
    let output = run(stage, args)?;
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{stage} {args:?} succeeded: {message}");
    assert_eq!(message.lines().count(), 1, "{message}");
    for word in words {
        assert!(message.contains(word), "{stage} {args:?} does not say {word:?}: {message}");
    }
    Ok(())
}

#[test]
fn help_and_version_name_the_stage() -> Result<(), Failure> {
    for stage in STAGES {
        let help = run(stage, &["--help"])?;
        let text = String::from_utf8_lossy(&help.stdout);
        assert!(help.status.success());
        assert!(text.contains(stage) && text.contains("--port") && text.contains("4221"), "{text}");
        assert_eq!(text.contains("--directory"), stage >= "stage07", "{text}");
        let version = run(stage, &["--version"])?;
        assert!(String::from_utf8_lossy(&version.stdout).starts_with(&format!("{stage} ")));
    }
    Ok(())
}

#[test]
fn a_port_in_use_is_explained() -> Result<(), Failure> {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("the listener is bound").port().to_string();
    for stage in STAGES {
        expect_refusal(stage, &["--port", &port], &["error: ", &port, "--port 0"])?;
    }
    Ok(())
}

#[test]
fn a_directory_that_cannot_be_used_is_explained() -> Result<(), Failure> {
    for stage in ["stage07", "stage08", "stage09"] {
        expect_refusal(stage, &["--directory", "no/such/place"], &["no/such/place", "exists"])?;
        expect_refusal(stage, &["--directory", "Cargo.toml"], &["Cargo.toml", "is a file"])?;
    }
    Ok(())
}

#[test]
fn what_is_wrong_with_a_certificate_is_explained() -> Result<(), Failure> {
    let pair = |certificate, key| ["--cert", certificate, "--key", key];
    let no = "no/such/file.pem";
    expect_refusal("stage23", &pair(no, no), &["no/such/file.pem"])?;
    expect_refusal("stage23", &pair("README.md", "README.md"), &["README.md"])?;
    expect_refusal("stage23", &["--http-port", "0"], &["--http-port", "--cert", "--self-signed"])?;
    let args = ["--port", "0", "--http-port", "0", "--self-signed"];
    expect_refusal("stage23", &args, &["--host"])?;
    let several = [pair("a", "b"), pair("c", "d")].concat();
    expect_refusal("stage23", &several, &["one certificate"])?;
    expect_refusal("stage23", &[&several[..], &["--cert", "e"]].concat(), &["--cert", "--key"])
}

#[test]
fn what_is_not_understood_is_refused() -> Result<(), Failure> {
    for stage in STAGES {
        for args in [&["--prot", "1"][..], &["--port", "65536"], &["--port", "http"], &["more"]] {
            let output = run(stage, args)?;
            let message = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{message}");
            assert!(message.starts_with("error: "), "{message}");
        }
    }
    Ok(())
}

#[test]
fn port_0_picks_a_free_port_and_prints_it() -> Result<(), Failure> {
    for stage in STAGES {
        let mut child = command(stage)?
            .args(["--port", "0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the stage can be started");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("stdout is piped");
        BufReader::new(stdout).read_line(&mut line).expect("the stage prints a line");
        let address = line
            .trim_end()
            .strip_prefix("listening on http://")
            .expect("the line names an address");
        let connected = std::net::TcpStream::connect(address);
        child.kill().and_then(|()| child.wait()).expect("the stage can be stopped");
        assert!(connected.is_ok(), "{line}");
    }
    Ok(())
}
