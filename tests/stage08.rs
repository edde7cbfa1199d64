//! Stage 8 · `POST /files/{name}` stores a file.
//!
//! The body of the request is the file's content; `Content-Length` says how many bytes it has.
//! The answer is `201 Created`. The file appears whole or not at all, whatever happens to the
//! connection.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use harness::{Check, Failure, Server, TIMEOUT};

/// Long enough for a server to take in what was sent.
const A_MOMENT: Duration = Duration::from_millis(20);

/// Expects that a file of the server's directory has this content.
fn expect_file(server: &Server, name: &str, content: &[u8]) -> Check {
    match fs::read(server.directory().join(name)) {
        Ok(found) if found == content => Ok(()),
        Ok(found) if found.len() != content.len() => Err(Failure::new(format!(
            "the file {name} has {} bytes, but {} were sent",
            found.len(),
            content.len()
        ))
        .why("Some bytes of the body come with the head, the others after it: store all of them.")
        .read(server.chapter())),
        Ok(found) => Err(Failure::new(format!("the file {name} has other bytes than were sent"))
            .difference(content, &found)
            .read(server.chapter())),
        Err(error) => Err(Failure::new(format!("the file {name} is not there ({error})"))
            .why("The server answered 201: it said that the file is stored.")
            .read(server.chapter())),
    }
}

/// Expects that the server's directory holds these files, and no others, before long.
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
            "The body ends after Content-Length bytes, though the connection stays open: do not wait \
             for more. Some of them, or all, may have been read together with the head: do not wait \
             for those again. Store them, then answer 201 Created.",
        )?;
        expect_file(&server, name, content)?;
    }
    server.get("/files/text").status(200).body("12345").because("It can be read back.")?;
    expect_files(&server, &["all.bin", "empty", "text"])
}

#[test]
fn takes_a_body_in_pieces() -> Check {
    let server = Server::start_with_directory("stage08")?;
    let why = "The body may come with the head, after it, or in many pieces. Some of it may have \
               been read together with the head; the rest is still to be read.";
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
    request.send().status(201).because("A file is stored, to be replaced later.")?;
    for name in ["old", "new"] {
        let mut client = server.connect()?;
        let head =
            format!("POST /files/{name} HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n");
        client.send(head.as_bytes())?;
        client.send(b"the beginning")?;
        client.leave().map_err(|failure| server.finish(failure))?;
    }
    let why = "Two clients left in the middle of their bodies. Write to a file of another name, \
               rename it when all is there, and remove it when something fails.";
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
    let why = "Two clients store the same name at once, and the one that began later ends first. \
               Either may win, but a mixture of both is of no use to anyone: each upload needs a \
               temporary file of its own.";
    for (client, half) in [(&mut second, vec![b'b'; 100_000]), (&mut first, vec![b'a'; 100_000])] {
        client.send(&half)?;
        server.answer(client).successful().because(why)?; // 200 and 204 if the file was there before
    }
    let found = fs::read(server.directory().join("same")).unwrap_or_default();
    let count = |byte: u8| found.iter().filter(|it| **it == byte).count();
    if !matches!((count(b'a'), count(b'b')), (200_000, 0) | (0, 200_000)) {
        return Err(Failure::new(format!(
            "of two uploads of 200000 bytes, the file has {} bytes of one and {} of the other",
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
        "/files/link/planted".to_owned(), // without the link, it is a directory that is not there
    ];
    #[cfg(unix)]
    let _ = std::os::unix::fs::symlink("..", directory.join("link"));
    let why = "Anyone could write to any directory of this machine. A name needs the same care as when \
               files are sent. The file may not be there yet, so ask where its directory really is (in \
               Rust: canonicalize the parent).";
    for path in paths {
        server.request("POST", &path).body("planted").send().refused().because(why)?;
        if outside.join("planted").exists() {
            let problem = format!("a file was stored outside of the directory, by POST {path}");
            return Err(Failure::new(problem).why(why).read(server.chapter()));
        }
    }
    Ok(())
}

#[test]
fn tells_a_waiting_client_to_go_on() -> Check {
    let server = Server::start_with_directory("stage08")?;
    let mut client = server.connect()?;
    client.send(
        b"POST /files/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\
          Expect: 100-continue\r\n\r\n",
    )?;
    let why = "A client that sends Expect: 100-continue holds its body back until the server answers \
               \"HTTP/1.1 100 Continue\\r\\n\\r\\n\" (curl gives up waiting after a second).";
    let told = client.expect_interim(100);
    told.map_err(|failure| server.finish(failure.why(why)))?;
    client.send(b"hello")?;
    server.answer(&mut client).status(201).because("Then the body came.")?;
    expect_file(&server, "a", b"hello")
}

#[test]
fn refuses_lengths_that_make_no_sense() -> Check {
    let server = Server::start_with_directory("stage08")?;
    for (header, status, why) in [
        ("Content-Length: five", 400, "A length is digits."),
        ("Content-Length: -5", 400, "A length is digits, without a sign."),
        ("Content-Length: +5", 400, "A length is digits, without a sign."),
        ("Content-Length: 5\r\nContent-Length: 6", 400, "Which of the two is the length?"),
        (
            "Content-Length: 1000000000000000000",
            413,
            "A billion gigabytes: no server takes that. Have a limit, and say 413 above it, before the body \
             comes.",
        ),
    ] {
        let request = format!("POST /files/a HTTP/1.1\r\nHost: a\r\n{header}\r\n\r\nhello");
        let expected = if status == 413 { vec![413, 400, 507] } else { vec![400] };
        server.send(request.as_bytes()).status_in(&expected).because(why)?;
    }
    expect_files(&server, &[])
}
