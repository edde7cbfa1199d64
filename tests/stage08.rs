//! Stage 8 · `POST /files/{name}` stores a file.
//!
//! The body of the request is the content of the file, and `Content-Length` is its number of bytes. The answer
//! is `201 Created`. The file appears whole or not at all, whatever happens to the connection.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use harness::{Check, Failure, Server, TIMEOUT};

/// Long enough for a server to read what was sent.
const A_MOMENT: Duration = Duration::from_millis(20);

/// Expects that a file in the server's directory has this content.
fn expect_file(server: &Server, name: &str, content: &[u8]) -> Check {
    match fs::read(server.directory().join(name)) {
        Ok(found) if found == content => Ok(()),
        Ok(found) if found.len() != content.len() => Err(Failure::new(format!(
            "the file \"{name}\" has {} bytes, but {} were sent",
            found.len(),
            content.len()
        ))
        .why("Some bytes of the body arrive together with the head, and others after it. Store all of them.")
        .read(server.chapter())),
        Ok(found) => Err(Failure::new(format!("the file \"{name}\" does not contain the bytes that were sent"))
            .difference(content, &found)
            .read(server.chapter())),
        Err(error) => Err(Failure::new(format!("the file \"{name}\" does not exist ({error})"))
            .why("Your server answered 201, which means that the file is stored. Store it in the directory \
                  before you answer.")
            .read(server.chapter())),
    }
}

/// Expects that within [`TIMEOUT`] the server's directory holds these files and no others.
fn expect_files(server: &Server, expected: &[&str]) -> Check {
    let start = Instant::now();
    loop {
        let found = names(server);
        if found == expected {
            return Ok(());
        }
        if start.elapsed() > TIMEOUT {
            return Err(Failure::new(format!(
                "the directory should hold the files {expected:?}, but it holds {found:?}"
            ))
            .read(server.chapter()));
        }
        thread::sleep(Duration::from_millis(5));
    }
}

fn names(server: &Server) -> Vec<String> {
    let entries = fs::read_dir(server.directory()).into_iter().flatten().flatten();
    let mut names: Vec<_> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn stores_the_body() -> Check {
    let server = Server::start_with_directory("stage08")?;
    let bytes: Vec<u8> = (0..=255).cycle().take(1_000_000).collect();
    for (name, content) in [("text", &b"12345"[..]), ("all.bin", &bytes), ("empty", b"")] {
        let request = server.request("POST", &format!("/files/{name}")).body(content);
        request.send().status(201).because(
            "Store the body, then answer 201 Created. The body ends after Content-Length bytes, but the \
             connection stays open: do not wait for more bytes. You may have read some of them, or all, \
             together with the head: do not wait for those again.",
        )?;
        expect_file(&server, name, content)?;
    }
    server
        .get("/files/text")
        .status(200)
        .body("12345")
        .because("The file was stored by the POST before. GET must send it back.")?;
    expect_files(&server, &["all.bin", "empty", "text"])
}

#[test]
fn takes_a_body_in_pieces() -> Check {
    let server = Server::start_with_directory("stage08")?;
    let why = "The body may arrive with the head, after it, or in many pieces. You may have read some of it \
               together with the head. Count those bytes, and read only the rest.";
    for (name, piece) in [("a", 1), ("b", 7)] {
        let request = server.request("POST", &format!("/files/{name}")).body("two\r\n\r\nlines");
        request.send_body_in_pieces(piece).status(201).because(why)?;
        expect_file(&server, name, b"two\r\n\r\nlines").map_err(|failure| failure.why(why))?;
    }
    Ok(())
}

#[test]
fn a_file_appears_whole_or_not_at_all() -> Check {
    let server = Server::start_with_directory("stage08")?;
    let request = server.request("POST", "/files/old").body("what was there before");
    request
        .send()
        .status(201)
        .because("This upload is complete. Store it and answer 201 Created.")?;
    for name in ["old", "new"] {
        let mut client = server.connect()?;
        let head =
            format!("POST /files/{name} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n");
        client.send(head.as_bytes())?;
        client.send(b"the beginning")?;
        client.leave().map_err(|failure| server.finish(failure))?;
    }
    let why = "Two clients left before they had sent the whole body. Write the body to a temporary file with \
               another name, and rename it when the body is complete. If something fails, remove the temporary \
               file.";
    expect_files(&server, &["old"]).map_err(|failure| failure.why(why))?;
    expect_file(&server, "old", b"what was there before").map_err(|failure| failure.why(why))
}

#[test]
fn two_uploads_of_one_name_do_not_mix() -> Check {
    let server = Server::start_with_directory("stage08")?;
    let head = b"POST /files/same HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n";
    let (mut first, mut second) = (server.connect()?, server.connect()?);
    for (client, half) in [(&mut first, vec![b'a'; 100_000]), (&mut second, vec![b'b'; 100_000])] {
        client.send(head)?;
        client.send(&half)?;
        client.expect_silence(A_MOMENT).map_err(|failure| server.finish(failure))?;
    }
    let why = "Two clients upload a file of the same name at the same time. The one that began second ends \
               first. Either of the two files may stay, but not a mixture of both: give each upload a temporary \
               file of its own.";
    for (client, half) in [(&mut second, vec![b'b'; 100_000]), (&mut first, vec![b'a'; 100_000])] {
        client.send(&half)?;
        server.answer(client).successful().because(why)?; // 200 and 204 if the file was there before
    }
    let found = fs::read(server.directory().join("same")).unwrap_or_default();
    let count = |byte: u8| found.iter().filter(|it| **it == byte).count();
    if !matches!((count(b'a'), count(b'b')), (200_000, 0) | (0, 200_000)) {
        return Err(Failure::new(format!(
            "the file should be one of two uploads of 200000 bytes, but it has {} bytes of one and {} of the \
             other",
            count(b'a'),
            count(b'b')
        ))
        .why(why)
        .read(server.chapter()));
    }
    expect_files(&server, &["same"])
}

#[test]
fn no_upload_leads_out_of_the_directory() -> Check {
    let server = Server::start_with_directory("stage08")?;
    let directory = server.directory();
    let outside = directory.parent().unwrap_or(&directory);
    let absolute = outside.join("planted").to_string_lossy().replace('\\', "/");
    let paths = [
        "/files/../planted".to_owned(),
        "/files/%2e%2e%2fplanted".to_owned(),
        format!("/files/{absolute}"),
        format!("/files/{}", absolute.replace('/', "%2F")),
        "/files/link/planted".to_owned(), // if there is no link, this directory does not exist
    ];
    #[cfg(unix)]
    let _ = std::os::unix::fs::symlink("..", directory.join("link"));
    let why = "This name leads out of the directory, so refuse it. Otherwise, any client can write to any \
               directory on this machine. The file may not exist yet, so resolve the directory that it would be \
               in (in Rust: canonicalize the parent).";
    for path in paths {
        server.request("POST", &path).body("planted").send().refused().because(why)?;
        if outside.join("planted").exists() {
            let problem = format!("POST {path} stored a file outside of the directory");
            return Err(Failure::new(problem).why(why).read(server.chapter()));
        }
    }
    Ok(())
}

#[test]
fn stores_nothing_that_is_no_file() -> Check {
    let server = Server::start_with_directory("stage08")?;
    let folder = server.directory().join("folder");
    fs::create_dir(&folder)
        .map_err(|error| Failure::new(format!("this check cannot prepare its files: {error}")))?;
    for path in ["/files/", "/files/folder", "/files/folder/"] {
        let why = "This is an empty name, or that of a folder, so no file can have it: answer 404, or another 4xx. \
                   Check the name before you read the body.";
        server.request("POST", path).body("hello").send().refused().because(why)?;
        expect_files(&server, &["folder"]).map_err(|failure| failure.why(why))?;
        if !folder.is_dir() {
            let problem = format!("POST {path} has replaced a folder by a file");
            return Err(Failure::new(problem).why(why).read(server.chapter()));
        }
    }
    drop(server); // there may be one port for all
    let without_directory = Server::start("stage08")?;
    let request = without_directory.request("POST", "/files/a").body("hello");
    request.send().refused().because(
        "The server was started without --directory, so there is nowhere to store a file: answer 404, or another \
         4xx.",
    )
}

#[test]
fn tells_a_waiting_client_to_go_on() -> Check {
    let server = Server::start_with_directory("stage08")?;
    let mut client = server.connect()?;
    client.send(
        b"POST /files/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\
          Expect: 100-continue\r\n\r\n",
    )?;
    let why = "A client that sends Expect: 100-continue does not send its body until your server answers \
               \"HTTP/1.1 100 Continue\\r\\n\\r\\n\". (curl waits for one second, then sends it anyway.)";
    let told = client.expect_interim(100);
    told.map_err(|failure| server.finish(failure.why(why)))?;
    client.send(b"hello")?;
    server.answer(&mut client).status(201).because(
        "After 100 Continue, the client has sent its body. Store it and answer 201 Created.",
    )?;
    expect_file(&server, "a", b"hello")?;
    let mut old_client = server.connect()?;
    old_client.send(
        b"POST /files/b HTTP/1.0\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello",
    )?;
    let answer = server.answer(&mut old_client).status(201);
    let answer =
        answer.expect("no 100 Continue", |answer| match answer.raw.starts_with(b"HTTP/1.1 100") {
            true => Err(Failure::new("your server answers 100 Continue to HTTP/1.0")),
            false => Ok(()),
        });
    answer.because(
        "This client speaks HTTP/1.0, which has no 100 Continue: it would take that for the answer. Ignore its \
         Expect (RFC 9110, section 10.1.1).",
    )?;
    expect_file(&server, "b", b"hello")
}

#[test]
fn refuses_lengths_that_make_no_sense() -> Check {
    let server = Server::start_with_directory("stage08")?;
    for (header, status, why) in [
        ("Content-Length: five", 400, "Content-Length must be digits. Answer 400."),
        ("Content-Length: -5", 400, "Content-Length must be digits, without a sign. Answer 400."),
        ("Content-Length: +5", 400, "Content-Length must be digits, without a sign. Answer 400."),
        (
            "Content-Length: 5\r\nContent-Length: 6",
            400,
            "There are two different lengths, and your server cannot know which one is right. Answer 400.",
        ),
        (
            "Content-Length: 1000000000000000000",
            413,
            "This body would have a billion gigabytes. Set a limit, and answer 413 to a body above it, before \
             the body arrives.",
        ),
    ] {
        let request = format!("POST /files/a HTTP/1.1\r\nHost: a\r\n{header}\r\n\r\nhello");
        let expected = if status == 413 { vec![413, 400, 507] } else { vec![400] };
        server.send(request.as_bytes()).status_in(&expected).because(why)?;
    }
    expect_files(&server, &[])
}
