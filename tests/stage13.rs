//! Stage 13 · Take and send bodies whose length nobody knows beforehand.
//!
//! A body with `Transfer-Encoding: chunked` comes in pieces, each with its size in hexadecimal
//! before it, and ends with a piece of the size 0. `GET /countdown/{n}` sends n lines, n to 1, a
//! second apart; `GET /files/{name}` is compressed for those who accept gzip, while it is read.

use std::fs;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use harness::{Check, Failure, Server, TIMEOUT};

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
    Err(failure.why(why).read(server.chapter()))
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
        server.send(request.as_bytes()).successful().because(why)?; // 201, or 200 and 204 for an old file
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
        server.answer(&mut client).successful().because(why)?;
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
        server.answer(&mut client).successful().because(why)?;
        server.answer(&mut client).status(200).body(content).because(why)?;
    }
    Ok(())
}

#[test]
fn refuses_chunks_that_can_be_read_in_two_ways() -> Check {
    let server = Server::start_with_args("stage13", &["--max-body", "1000"])?;
    let size = "A size is hexadecimal digits and nothing else: 400.";
    let end = "A chunk ends where its size says, with \\r\\n: 400.";
    let long = format!("2;{}\r\nhi\r\n0\r\n\r\n", "x".repeat(40_000));
    let trailers = format!("2\r\nhi\r\n0\r\nX: {}\r\n\r\n", "x".repeat(40_000));
    let bad = &[400][..];
    for (body, statuses, why) in [
        ("x\r\n", bad, size),
        ("-1\r\n", bad, size),
        ("+2\r\nhi\r\n0\r\n\r\n", bad, size),
        ("0x2\r\nhi\r\n0\r\n\r\n", bad, size),
        ("\r\nhi\r\n0\r\n\r\n", bad, size),
        (
            "10000000000000002\r\nhi\r\n0\r\n\r\n",
            &[400, 413],
            "This size has 17 digits, and does not fit into 64 bits. It is not 2.",
        ),
        ("2\r\nhiya\r\n0\r\n\r\n", bad, end),
        ("3\r\nhi\r\n0\r\n\r\n", bad, end),
        (
            "2\r\nhiXY0\r\n\r\n",
            bad,
            "After the content of a chunk comes \\r\\n, and here it is XY: 400.",
        ),
        ("2\nhi\r\n0\r\n\r\n", bad, "A line ends with \\r\\n, also between chunks: 400."),
        ("2\r\nhi\n0\r\n\r\n", bad, end),
        ("2\r\nhi\r\n0\r\nno colon\r\n\r\n", bad, "Trailers are headers: 400."),
        ("2\r\nhi\r\n0\r\nno name: x\r\n\r\n", bad, "Trailers are headers: no space in a name."),
        ("2\r\nhi\r\n0\r\nX(: x\r\n\r\n", bad, "Trailers are headers: no bracket in a name."),
        (
            "3e9\r\n",
            &[413, 400],
            "The server was started with --max-body 1000, and this chunk has 1,001 bytes: 413.",
        ),
        (
            &format!("258\r\n{0}\r\n258\r\n{0}\r\n0\r\n\r\n", "x".repeat(600)),
            &[413, 400],
            "The server was started with --max-body 1000. These are two chunks of 600 bytes, 1,200 together: \
             413.",
        ),
        (
            &long,
            &[431, 400],
            "This chunk has 40,000 bytes of extensions. Take 16,384 at most: 431.",
        ),
        (&trailers, &[431, 400], "These trailers have 40,000 bytes. Take 16,384 at most: 431."),
    ] {
        let answer = server.send(format!("{POST}{body}").as_bytes());
        answer.status_in(statuses).closing().because(why)?;
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
    let unknown = "chunked is the one transfer coding that everybody knows: 501 for others (RFC 9112, section \
                   6.1).";
    let bad = "This can be read in two ways: 400 (RFC 9112, sections 6.1 and 6.3).";
    for (version, coding, statuses, why) in [
        ("1.1", "gzip", &[501, 400][..], unknown),
        ("1.1", "gzip, chunked", &[501, 400], unknown),
        ("1.1", "gzip\r\nTransfer-Encoding: chunked", &[501, 400], unknown),
        ("1.1", "chunked, chunked", &[400, 501], bad),
        ("1.1", "chunked\r\nTransfer-Encoding: chunked", &[400, 501], bad),
        ("1.1", "chunked\r\nContent-Length: 5", &[400], bad),
        ("1.0", "chunked", &[400], "HTTP/1.0 has no chunks: 400."),
    ] {
        let request = format!(
            "POST /files/a HTTP/{version}\r\nHost: a\r\nTransfer-Encoding: {coding}\r\n\r\n0\r\n\r\n"
        );
        let answer = server.send(request.as_bytes()).status_in(statuses).closing();
        answer.because(&format!(
            "{why} Close the connection, since nobody knows where the body ends."
        ))?;
    }
    let request = POST.replace("chunked", "Chunked") + "2\r\nhi\r\n0\r\n\r\n";
    let answer = server.send(request.as_bytes()).status(201);
    answer.because("Names of codings have no case: Chunked is chunked (RFC 9112, section 7).")
}

#[test]
fn chunks_that_nobody_reads_are_not_the_next_request() -> Check {
    let server = Server::start("stage13")?;
    let smuggled = "GET /echo/smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let body = format!("{:x}\r\n{smuggled}\r\n0\r\n\r\n", smuggled.len());
    let mut client = server.connect()?;
    client.expect_answers(3); // there should be two, and the third is that to the body
    client.send(format!("{}{body}", POST.replace("/files/a", "/nowhere")).as_bytes())?;
    let answer = server.answer(&mut client).refused();
    let is_last = answer.is_last();
    answer.because("There is nothing at /nowhere to POST to.")?;
    if is_last {
        return Ok(()); // the other way to be rid of a body
    }
    client.send(b"GET /echo/next HTTP/1.1\r\nHost: a\r\n\r\n")?;
    server.answer(&mut client).status(200).body("next").because(
        "The request before this one had a body in chunks that nobody wanted. Skip it to its last chunk, or \
         close the connection: otherwise its content is taken for a request.",
    )
}

#[test]
fn tells_a_client_that_waits_with_its_chunks() -> Check {
    let server = Server::start_with_directory("stage13")?;
    let mut client = server.connect()?;
    client.send(POST.replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n").as_bytes())?;
    let why = "A client that sends Expect: 100-continue holds its body back until the server answers \
               \"HTTP/1.1 100 Continue\\r\\n\\r\\n\". That is the same for a body in chunks.";
    client.expect_interim(100).map_err(|failure| server.finish(failure.why(why)))?;
    client.send(b"2\r\nhi\r\n0\r\n\r\n")?;
    server.answer(&mut client).status(201).because("Then the body came.")?;
    expect_stored(&server, "hi", why)
}

/// What a server says that has no countdown.
const NO_COUNTDOWN: &str = "There is no countdown yet. GET /countdown/3 answers with the lines 3, 2 and 1, a second \
                            apart.";

#[test]
fn sends_what_there_is_as_it_comes() -> Check {
    let server = Server::start("stage13")?;
    let mut client = server.connect()?;
    client.send(b"GET /countdown/3 HTTP/1.1\r\nHost: a\r\n\r\n")?;
    let why = "The lines of a countdown come a second apart. Send each of them as soon as it is there: \
               a client that watches does not want to see all of them at the end.";
    let start = Instant::now();
    while !client.has_received(b"\n3") && !client.has_received(b"3\n") {
        let is_refused = client.has_received(b"\r\n\r\n") && !client.has_received(b" 200 ");
        if is_refused || start.elapsed() > TIMEOUT {
            let answer = server.answer(&mut client).if_status(&[404], NO_COUNTDOWN);
            return answer.status(200).expect("the line 3, at once", |_| late()).because(why);
        }
        let _ = client.wait_for_more(Duration::from_millis(20));
    }
    if client.has_received(b"1\n") {
        let problem = "the first line of the countdown came together with the last";
        let failure = client.failure_with_all(problem);
        return Err(failure.why(why).read(server.chapter()));
    }
    let first = Instant::now();
    server.answer(&mut client).status(200).body("3\n2\n1\n").framed().because(why)?;
    if first.elapsed() < Duration::from_secs(1) {
        let problem = format!("the whole countdown from 3 took {} ms", first.elapsed().as_millis());
        return Err(Failure::new(problem).why(why).read(server.chapter()));
    }
    let answer = server.request("HEAD", "/countdown/3").send().status(200);
    answer.because("The answer to HEAD has no body, not even the last chunk of one.")
}

fn late() -> Check {
    Err(Failure::new("the first line of the countdown has not come within 5 seconds"))
}

#[test]
fn sends_no_chunks_to_http_1_0() -> Check {
    let server = Server::start("stage13")?;
    let answer = server.send(b"GET /countdown/1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let answer = answer.if_status(&[404], NO_COUNTDOWN).status(200).no_header("Transfer-Encoding");
    answer.body("1\n").because(
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
    request.send().status(200).gzip_body(&content).because(
        "The client accepts gzip. A file may be larger than memory, so compress it block by block, and \
         send it in chunks.",
    )?;
    let request = server.request("GET", "/files/numbers").header("Accept-Encoding: gzip");
    request.send().header("Vary", "Accept-Encoding").because(
        "The answer depends on Accept-Encoding, and caches have to know that, as in stage 9.",
    )?;
    let answer = server.get("/files/numbers").status(200).header("Content-Length", "1600000");
    answer.body(&content).because("Without gzip nothing changes, and the length is known.")
}

#[test]
fn an_upload_that_breaks_off_leaves_nothing() -> Check {
    let server = Server::start_with_directory("stage13")?;
    let whole = format!("{POST}5\r\nhello\r\n0\r\n\r\n");
    server.send(whole.as_bytes()).status(201).because("This upload is whole.")?;
    for beginning in
        ["5\r\nhel", "5\r\nhello\r\n", "5\r\nhello\r\n0\r\n", "5\r\nhello\r\n0\r\nX: y\r\n"]
    {
        let mut client = server.connect()?;
        let other = POST.replace("/files/a", "/files/b");
        client.send(format!("{other}{beginning}").as_bytes())?;
        client.leave().map_err(|failure| server.finish(failure))?;
    }
    let start = Instant::now();
    loop {
        let entries = fs::read_dir(server.directory()).map_err(cannot)?.flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let left: Vec<_> = names.filter(|name| name != "a").collect();
        if left.is_empty() {
            return Ok(());
        }
        if start.elapsed() > TIMEOUT {
            let left = left.join(", ");
            return Err(Failure::new(format!("a file is left of an upload that broke off: {left}"))
                .why(
                    "Four clients began to store the file b and left: in the middle of a chunk, after a chunk, \
                     after the last one, and in the trailers. A body is whole when the empty line at its end \
                     has come. Until then nothing may appear, and nothing may be left.",
                )
                .read(server.chapter()));
        }
        thread::sleep(Duration::from_millis(10));
    }
}
