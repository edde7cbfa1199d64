//! What `cargo next` shows: the screen that a learner sees most.

#![cfg(unix)] // the server is named as a Unix shell would

use std::process::{Command, Output};

use harness::{Failure, own_command, repository};
use pretty_assertions::assert_eq;

fn next(server: Option<&str>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_next"));
    command.current_dir(repository()).env_remove("PORT").env_remove("SERVER");
    if let Some(server) = server {
        command.env("SERVER", server);
    }
    command.output().expect("it can be run")
}

fn own(stage: &'static str) -> Result<String, Failure> {
    Ok(format!("'{}'", own_command(stage)?.get_program().to_string_lossy()))
}

#[test]
fn shows_what_stands_what_fails_and_where_to_go_on() -> Result<(), Failure> {
    let server = own("stage04")?;
    let output = next(Some(&server));
    assert_eq!(output.status.code(), Some(1));
    let screen = String::from_utf8_lossy(&output.stdout).replace(&server, "OUR-SERVER");
    let (list, _) = screen.split_once("  output ").expect("the server's log is shown");
    assert_eq!(
        list,
        r#"Checking SERVER, which is: OUR-SERVER.

  ok  01 bind
  ok  02 respond 200
  ok  03 respond 404
  ok  04 echo
  no  05 headers

      no  answers_with_the_user_agent
      no  header_names_ignore_case
      no  white_space_around_a_value_is_not_part_of_it
      no  finds_the_header_among_others
      no  length_counts_bytes
      ok  takes_bytes_that_are_not_text
      ok  goes_on_without_the_header

Error: the status is 404, not 200

  sent      GET /user-agent HTTP/1.1\r\n
            Host: localhost\r\n
            User-Agent: foobar/1.2.3\r\n
            \r\n

  received  HTTP/1.1 404 Not Found\r\n
            Content-Type: text/plain\r\n
            Content-Length: 0\r\n
            \r\n

"#
    );
    let (_, end) = screen.split_once("  why ").expect("the reason is given");
    assert_eq!(
        end,
        "      The body is the header's value, without the white space around it and
            without the line end.

  read      docs/05-headers.md

To run this stage alone:  cargo test --test stage05
Still stuck?  The chapter has a list of causes: docs/05-headers.md#stuck
One way to do it:  git diff --no-index stages/04-echo/main.rs stages/05-headers/main.rs
"
    );
    Ok(())
}

#[test]
fn says_so_when_every_stage_stands() -> Result<(), Failure> {
    let output = next(Some(&own("stage13")?));
    let screen = String::from_utf8_lossy(&output.stdout);
    assert!(screen.ends_with("  ok  13 chunked\n\nAll 13 stages pass.\n"), "{screen}");
    assert_eq!(output.status.code(), Some(0));
    Ok(())
}

#[test]
fn a_server_in_the_background_is_named_as_the_mistake_and_not_started() {
    let directory = tempfile::TempDir::new().expect("a temporary directory");
    let witness = directory.path().join("started");
    let output = next(Some(&format!("touch '{}'; sleep 100 &", witness.display())));
    let screen = String::from_utf8_lossy(&output.stdout);
    assert!(screen.contains("Error: the command in SERVER ends with &"), "{screen}");
    assert!(!witness.exists());
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let output = next(Some("no-such-program"));
    let screen = String::from_utf8_lossy(&output.stdout);
    assert!(screen.contains("Error: the command in SERVER starts no program"), "{screen}");
    assert!(screen.contains("no-such-program: not found"), "{screen}");
}
