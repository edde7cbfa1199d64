//! Stage 13 · Take and send bodies whose length nobody knows beforehand.
//!
//! A body with `Transfer-Encoding: chunked` comes in pieces, each with its size in hexadecimal
//! before it, and ends with a piece of the size 0. `GET /countdown/{n}` sends n lines, n to 1, a
//! second apart; `GET /files/{name}` is compressed for those who accept gzip, while it is read.

use std::fs;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use harness::{Check, Failure, PATIENCE, Server};

/// What begins an upload in chunks.
const POST: &str =
    "POST /files/a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";

fn cannot(error: io::Error) -> Failure {
    Failure::new(format!("this check cannot prepare its files: {error}"))
}

/// Expects that the file `a` has been stored, with this content.
fn expect_stored(server: &Server, content: &str, why: &str) -> Check {
    let found = fs::read(server.directory().join("a")).unwrap_or_default();
    if found == content.as_bytes() {
        return Ok(());
    }
    let failure = Failure::new("the file a does not hold the content of the chunks");
    let failure = failure.difference(content.as_bytes(), &found);
    Err(failure.because(why).read(server.chapter()))
}

#[test]
fn takes_a_body_in_chunks() -> Check {
    let server = Server::start_with_directory("stage13")?;
    let content = "hello, chunks ".repeat(30) + "and a last one";
    for (body, why) in [
        (
            "5\r\nhello\r\n0\r\n\r\n",
            "Each chunk has its size before it; one of the size 0 is the last.",
        ),
        (
            "00a\r\n0123456789\r\nB\r\n0123456789a\r\n0\r\n\r\n",
            "Sizes are hexadecimal, in any case.",
        ),
        (
            "4\r\n\r\n\r\n\r\n0\r\n\r\n",
            "A chunk may contain line ends: its size says where it ends.",
        ),
        (
            "2;name=value\r\nhi\r\n0;x\r\n\r\n",
            "A size may have extensions after a semicolon: skip them.",
        ),
        (
            "2\r\nhi\r\n0\r\nX-Sum: 1\r\nX-Note: a\r\n\r\n",
            "Trailers are headers after the last chunk.",
        ),
        ("0\r\n\r\n", "A body may be empty."),
        (&format!("{:x}\r\n{content}\r\n0\r\n\r\n", content.len()), "A chunk may be large."),
    ] {
        let request = format!("{POST}{body}");
        server.send(request.as_bytes()).status(201).because_in_any_case(why)?;
        let mut decoded = String::new();
        let mut rest = body;
        while let Some((size, after)) = rest.split_once("\r\n") {
            let size = size.split(';').next().and_then(|size| usize::from_str_radix(size, 16).ok());
            let Some(size @ 1..) = size else { break };
            decoded.push_str(&after[..size]);
            rest = &after[size + 2..];
        }
        expect_stored(&server, &decoded, why)?;
    }
    Ok(())
}

#[test]
fn takes_chunks_in_pieces() -> Check {
    let server = Server::start_with_directory("stage13")?;
    let why = "A chunk, its size, and even its line end may arrive in any pieces.";
    for size in [1, 3] {
        let mut client = server.connect()?;
        let request = format!("{POST}5\r\nhello\r\n6;a=b\r\n world\r\n0\r\nT: x\r\n\r\n");
        client
            .send_in_parts(request.as_bytes().chunks(size))
            .map_err(|failure| server.finish(failure))?;
        server.answer(&mut client).status(201).because_in_any_case(why)?;
        expect_stored(&server, "hello world", why)?;
    }
    Ok(())
}

#[test]
fn finds_the_next_request_after_the_last_chunk() -> Check {
    let server = Server::start_with_directory("stage13")?;
    let mut client = server.connect()?;
    let body = "5\r\nhello\r\n0\r\n\r\n";
    client.send_requests(&[
        format!("{POST}{body}").as_bytes(),
        b"GET /files/a HTTP/1.1\r\nHost: a\r\n\r\n",
        format!("{POST}2\r\nhi\r\n0\r\nX: y\r\n\r\n").as_bytes(),
        b"GET /files/a HTTP/1.1\r\nHost: a\r\n\r\n",
    ])?;
    let why = "Four requests came at once. What comes after the last chunk, and its empty line, is the \
               next request.";
    for content in ["hello", "hi"] {
        server.answer(&mut client).status(201).because_in_any_case(why)?;
        server.answer(&mut client).status(200).body(content).because_in_any_case(why)?;
    }
    Ok(())
}

#[test]
fn refuses_chunks_that_can_be_read_in_two_ways() -> Check {
    let server = Server::start_with_args("stage13", &["--max-body", "1000"])?;
    let size = "A size is hexadecimal digits and nothing else.";
    let end = "A chunk ends where its size says, with CR LF.";
    let long = format!("2;{}\r\nhi\r\n0\r\n\r\n", "x".repeat(40_000));
    let trailers = format!("2\r\nhi\r\n0\r\nX: {}\r\n\r\n", "x".repeat(40_000));
    for (body, status, why) in [
        ("x\r\n", 400, size),
        ("-1\r\n", 400, size),
        ("+2\r\nhi\r\n0\r\n\r\n", 400, size),
        ("0x2\r\nhi\r\n0\r\n\r\n", 400, size),
        ("\r\nhi\r\n0\r\n\r\n", 400, size),
        (
            "10000000000000002\r\nhi\r\n0\r\n\r\n",
            400,
            "A size that does not fit is not a small one.",
        ),
        ("2\r\nhiya\r\n0\r\n\r\n", 400, end),
        ("3\r\nhi\r\n0\r\n\r\n", 400, end),
        ("2\nhi\r\n0\r\n\r\n", 400, "A line ends with CR LF, also between chunks."),
        ("2\r\nhi\n0\r\n\r\n", 400, end),
        ("2\r\nhi\r\n0\r\nno colon\r\n\r\n", 400, "Trailers are headers."),
        ("2\r\nhi\r\n0\r\nno name: x\r\n\r\n", 400, "Trailers are headers: no space in a name."),
        ("2\r\nhi\r\n0\r\nX(: x\r\n\r\n", 400, "Trailers are headers: no bracket in a name."),
        ("3e9\r\n", 413, "The server was started with --max-body 1000, and this chunk has 1001."),
        (&long, 431, "Nobody needs so many extensions."),
        (&trailers, 431, "Nobody needs trailers of this size."),
    ] {
        let answer = server.send(format!("{POST}{body}").as_bytes());
        answer.status(status).closing().because_in_any_case(why)?;
    }
    if server.directory().join("a").exists() {
        return Err(Failure::new("a body that was refused has been stored")
            .why("A file appears whole or not at all.")
            .read(server.chapter()));
    }
    Ok(())
}

#[test]
fn knows_no_other_transfer_coding() -> Check {
    let server = Server::start_with_directory("stage13")?;
    for (version, coding, status) in [
        ("1.1", "gzip", 501),
        ("1.1", "gzip, chunked", 501),
        ("1.1", "chunked, chunked", 400),
        ("1.1", "chunked\r\nContent-Length: 5", 400),
        ("1.0", "chunked", 400),
    ] {
        let request = format!(
            "POST /files/a HTTP/{version}\r\nHost: a\r\nTransfer-Encoding: {coding}\r\n\r\n0\r\n\r\n"
        );
        server.send(request.as_bytes()).status(status).closing().because_in_any_case(
            "chunked is the one transfer coding that everybody knows: 501 for others. Twice, beside a \
             length, or in HTTP/1.0 it could be read in two ways: 400 (RFC 9112, section 6.1).",
        )?;
    }
    Ok(())
}

#[test]
fn sends_what_there_is_as_it_comes() -> Check {
    let server = Server::start("stage13")?;
    let mut client = server.connect()?;
    client.send(b"GET /countdown/3 HTTP/1.1\r\nHost: a\r\n\r\n")?;
    let why = "The lines of a countdown come a second apart. Send each of them as soon as it is there: \
               a client that watches does not want to see all of them at the end.";
    let start = Instant::now();
    while !client.has_received(b"\n3") && !client.has_received(b"3\n") {
        if start.elapsed() > PATIENCE {
            if client.has_received(b"\r\n\r\n") && !client.has_received(b" 200 ") {
                return server.answer(&mut client).status(200).because_in_any_case(why);
            }
            let failure = client.failure("the first line of the countdown has not come");
            return Err(failure.because(why).read(server.chapter()));
        }
        let _ = client.wait_for_more(Duration::from_millis(20));
    }
    if client.has_received(b"1\n") {
        let problem = "the first line of the countdown came together with the last";
        let failure = client.failure_with_all(problem);
        return Err(failure.because(why).read(server.chapter()));
    }
    server.answer(&mut client).status(200).body("3\n2\n1\n").because_in_any_case(why)?;
    let answer = server.get("/countdown/1").status(200).header("Transfer-Encoding", "chunked");
    answer.body("1\n").because(
        "Nobody knows the length of a stream before its end, and the connection stays open: it comes in \
         chunks.",
    )
}

#[test]
fn sends_no_chunks_to_http_1_0() -> Check {
    let server = Server::start("stage13")?;
    let answer = server.send(b"GET /countdown/1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let answer = answer.status(200).no_header("Transfer-Encoding").closing().body("1\n");
    answer.because_in_any_case(
        "HTTP/1.0 knows no chunks, and would take the sizes for a part of the body. To an old client \
         the body ends with the connection, even if it asked to keep it.",
    )
}

#[test]
fn compresses_files_while_it_reads_them() -> Check {
    let server = Server::start_with_directory("stage13")?;
    let content: Vec<u8> = (0..400_000u32).flat_map(|number| number.to_le_bytes()).collect();
    fs::write(server.directory().join("numbers"), &content).map_err(cannot)?;
    let request = server.request("GET", "/files/numbers").header("Accept-Encoding: gzip");
    let answer = request.send().status(200).gzip_body(&content);
    answer.header("Vary", "Accept-Encoding").because(
        "The client accepts gzip. A file may be larger than memory, so compress it block by block, and \
         send it in chunks.",
    )?;
    let answer = server.get("/files/numbers").status(200).header("Content-Length", "1600000");
    answer.body(&content).because("Without gzip nothing changes, and the length is known.")
}

#[test]
fn an_upload_that_breaks_off_leaves_nothing() -> Check {
    let server = Server::start_with_directory("stage13")?;
    let whole = format!("{POST}5\r\nhello\r\n0\r\n\r\n");
    server.send(whole.as_bytes()).status(201).because_in_any_case("This upload is whole.")?;
    for beginning in
        ["5\r\nhel", "5\r\nhello\r\n", "5\r\nhello\r\n0\r\n", "5\r\nhello\r\n0\r\nX: y\r\n"]
    {
        let mut client = server.connect()?;
        let other = POST.replace("/files/a", "/files/b");
        client.send(format!("{other}{beginning}").as_bytes())?;
        client.leave().map_err(|failure| server.finish(failure))?;
    }
    let start = Instant::now();
    while fs::read_dir(server.directory()).map_err(cannot)?.count() > 1 {
        if start.elapsed() > PATIENCE {
            return Err(Failure::new("a file is left of an upload that was not finished")
                .why("The last chunk and the empty line after it are a part of the body.")
                .read(server.chapter()));
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
