//! Stage 13 · Receive and send bodies whose length is not known beforehand.
//!
//! A body with `Transfer-Encoding: chunked` is a series of chunks. Each chunk has its size in hexadecimal
//! before it, and a chunk of size 0 ends the body. `GET /countdown/{n}` sends n lines, n to 1, one second
//! apart. `GET /files/{name}` compresses the file while reading it, if the client accepts gzip.

use std::fs;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use harness::{Check, Failure, Server, TIMEOUT};

/// The head of an upload in chunks.
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
    let failure = Failure::new("the file \"a\" does not hold the content of the chunks");
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
            "Each chunk has its size before it. The chunk of size 0 is the last.",
        ),
        (
            "00a\r\n0123456789\r\nB\r\n0123456789a\r\n0\r\n\r\n",
            "Chunk sizes are hexadecimal, in upper or lower case.",
        ),
        (
            "4\r\n\r\n\r\n\r\n0\r\n\r\n",
            "A chunk may contain line ends. Its size says where it ends.",
        ),
        (
            "2;name=value\r\nhi\r\n0;x\r\n\r\n",
            "A chunk size may have extensions after a semicolon. Skip them.",
        ),
        (
            "2\r\nhi\r\n0\r\nX-Sum: 1\r\nX-Note: a\r\n\r\n",
            "Trailers are headers after the last chunk. Read them up to the empty line.",
        ),
        ("0\r\n\r\n", "A body may be empty. Then its first chunk is the last, of size 0."),
        (
            &format!("{:x}\r\n{content}\r\n0\r\n\r\n", content.len()),
            "A chunk may have any size. This one has more than 400 bytes.",
        ),
    ] {
        let request = format!("{POST}{body}");
        server.send(request.as_bytes()).successful().because(why)?; // 201; 200 or 204 if it replaces a file
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
    let why = "A chunk, its size and even its line end may arrive in several pieces. Read on until each of them \
               is complete.";
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
    let why = "Four requests arrived at once. After the last chunk come the trailers, if there are any, and an \
               empty line. The next request begins after that line.";
    for content in ["hello", "hi"] {
        server.answer(&mut client).successful().because(why)?;
        server.answer(&mut client).status(200).body(content).because(why)?;
    }
    Ok(())
}

#[test]
fn refuses_chunks_that_can_be_read_in_two_ways() -> Check {
    let server = Server::start_with_args("stage13", &["--max-body", "1000"])?;
    let size = "A chunk size must be hexadecimal digits and nothing else. Answer 400.";
    let end = "A chunk must end where its size says, with \\r\\n. Otherwise, answer 400.";
    let long = format!("2;{}\r\nhi\r\n0\r\n\r\n", "x".repeat(40_000));
    let trailers = format!("2\r\nhi\r\n0\r\nX: {}\r\n\r\n", "x".repeat(40_000));
    let many_extensions = format!("1;{}\r\na\r\n", "x".repeat(400)).repeat(100) + "0\r\n\r\n";
    let many_trailers =
        "0\r\n".to_owned() + &format!("X: {}\r\n", "x".repeat(995)).repeat(40) + "\r\n";
    let bad = &[400][..];
    for (body, statuses, why) in [
        ("x\r\n", bad, size),
        ("-1\r\n", bad, size),
        ("+2\r\nhi\r\n0\r\n\r\n", bad, size),
        (" 2\r\nhi\r\n0\r\n\r\n", bad, size),
        ("\t2\r\nhi\r\n0\r\n\r\n", bad, size),
        ("2;\x01\r\nhi\r\n0\r\n\r\n", bad, "An extension has no control characters: 400."),
        ("0x2\r\nhi\r\n0\r\n\r\n", bad, size),
        ("\r\nhi\r\n0\r\n\r\n", bad, size),
        (
            "10000000000000002\r\nhi\r\n0\r\n\r\n",
            &[400, 413],
            "This size has 17 digits, which do not fit into 64 bits. Answer 400. If the number overflows, your \
             server reads it as 2.",
        ),
        ("2\r\nhiya\r\n0\r\n\r\n", bad, end),
        ("3\r\nhi\r\n0\r\n\r\n", bad, end),
        (
            "2\r\nhiXY0\r\n\r\n",
            bad,
            "The content of a chunk must be followed by \\r\\n. Here, XY follows. Answer 400.",
        ),
        (
            "2\nhi\r\n0\r\n\r\n",
            bad,
            "The line with the size must end with \\r\\n. Here, it ends with \\n alone. Answer 400.",
        ),
        ("2\r\nhi\n0\r\n\r\n", bad, end),
        (
            "2\r\nhi\r\n0\r\nno colon\r\n\r\n",
            bad,
            "A trailer is a header, so it must have a colon. Answer 400.",
        ),
        (
            "2\r\nhi\r\n0\r\nno name: x\r\n\r\n",
            bad,
            "A trailer is a header, so its name must not contain a space. Answer 400.",
        ),
        (
            "2\r\nhi\r\n0\r\nX(: x\r\n\r\n",
            bad,
            "A trailer is a header, so its name must not contain a bracket. Answer 400.",
        ),
        (
            "3e9\r\n",
            &[413, 400],
            "Your server was started with --max-body 1000, and this chunk has 1,001 bytes. Answer 413 when you \
             have read its size: do not wait for its content.",
        ),
        (
            &format!("258\r\n{0}\r\n258\r\n{0}\r\n0\r\n\r\n", "x".repeat(600)),
            &[413, 400],
            "Your server was started with --max-body 1000, and this body has two chunks of 600 bytes: 1,200 in \
             all. Answer 413.",
        ),
        (
            &long,
            &[431, 400],
            "This chunk has 40,000 bytes of extensions. Accept 16,384 at most. Answer 431.",
        ),
        (
            &many_extensions,
            &[431, 400],
            "These 100 chunks have 400 bytes of extensions each, 40,000 together, and 100 bytes of content. \
             Accept at most 16,384 bytes more than the content. Answer 431.",
        ),
        (
            &many_trailers,
            &[431, 400],
            "These 40 trailers have 1,000 bytes each, 40,000 together. Accept 16,384 at most. Answer 431.",
        ),
        (
            &trailers,
            &[431, 400],
            "These trailers have 40,000 bytes. Accept 16,384 at most. Answer 431.",
        ),
    ] {
        let answer = server.send(format!("{POST}{body}").as_bytes());
        answer.status_in(statuses).closing().because(why)?;
    }
    if server.directory().join("a").exists() {
        return Err(Failure::new("your server refused a body, but stored it")
            .why("A file must appear whole or not at all.")
            .read(server.chapter()));
    }
    Ok(())
}

#[test]
fn knows_no_other_transfer_coding() -> Check {
    let server = Server::start_with_directory("stage13")?;
    let unknown = "chunked is the only transfer coding that every server must know. Answer 501 to any other \
                   (RFC 9112, section 6.1).";
    let bad = "Two programs could find different ends of this body. Answer 400 (RFC 9112, sections 6.1 and \
               6.3).";
    for (version, coding, statuses, why) in [
        ("1.1", "gzip", &[501, 400][..], unknown),
        ("1.1", "gzip, chunked", &[501, 400], unknown),
        ("1.1", "gzip\r\nTransfer-Encoding: chunked", &[501, 400], unknown),
        ("1.1", "chunked, chunked", &[400, 501], bad),
        ("1.1", "chunked\r\nTransfer-Encoding: chunked", &[400, 501], bad),
        ("1.1", "chunked\r\nContent-Length: 5", &[400], bad),
        ("1.0", "chunked", &[400], "HTTP/1.0 has no chunks. Answer 400."),
    ] {
        let request = format!(
            "POST /files/a HTTP/{version}\r\nHost: a\r\nTransfer-Encoding: {coding}\r\n\r\n0\r\n\r\n"
        );
        let answer = server.send(request.as_bytes()).status_in(statuses).closing();
        answer.because(&format!(
            "{why} Close the connection, because your server cannot know where the body ends."
        ))?;
    }
    let request = POST.replace("chunked", "Chunked") + "2\r\nhi\r\n0\r\n\r\n";
    let answer = server.send(request.as_bytes()).status(201);
    answer.because(
        "Case does not matter in names of codings: Chunked is chunked (RFC 9112, section 7).",
    )
}

#[test]
fn unread_chunks_are_not_the_next_request() -> Check {
    let server = Server::start("stage13")?;
    let smuggled = "GET /echo/smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let body = format!("{:x}\r\n{smuggled}\r\n0\r\n\r\n", smuggled.len());
    let mut client = server.connect()?;
    client.expect_answers(3); // two are right; a third would be the answer to the body
    client.send(format!("{}{body}", POST.replace("/files/a", "/nowhere")).as_bytes())?;
    let answer = server.answer(&mut client).refused();
    let is_last = answer.is_last();
    answer.because("There is no resource /nowhere, so refuse the request.")?;
    if is_last {
        return Ok(()); // to close the connection is also right
    }
    client.send(b"GET /echo/next HTTP/1.1\r\nHost: a\r\n\r\n")?;
    server.answer(&mut client).status(200).body("next").because(
        "The request before this one had a body in chunks that your server did not need. Skip it up to the \
         empty line after its last chunk, or close the connection. Otherwise, your server reads the content of \
         the chunks as a request.",
    )
}

#[test]
fn tells_a_client_that_waits_with_its_chunks() -> Check {
    let server = Server::start_with_directory("stage13")?;
    let mut client = server.connect()?;
    client.send(POST.replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n").as_bytes())?;
    let why = "A client that sends Expect: 100-continue does not send its body until your server answers \
               \"HTTP/1.1 100 Continue\\r\\n\\r\\n\". That is the same for a body in chunks.";
    client.expect_interim(100).map_err(|failure| server.finish(failure.why(why)))?;
    client.send(b"2\r\nhi\r\n0\r\n\r\n")?;
    server.answer(&mut client).status(201).because(
        "After 100 Continue, the client has sent its body. Store it and answer 201 Created.",
    )?;
    expect_stored(&server, "hi", why)
}

/// The cause if a server has no countdown.
const NO_COUNTDOWN: &str = "Your server has no countdown yet. Answer GET /countdown/3 with the lines 3, 2 and \
                            1, one second apart.";

#[test]
fn sends_what_there_is_as_it_comes() -> Check {
    let server = Server::start("stage13")?;
    let mut client = server.connect()?;
    client.send(b"GET /countdown/3 HTTP/1.1\r\nHost: a\r\n\r\n")?;
    let why = "The lines of a countdown come one second apart. Send each line as soon as its time has come. Do \
               not collect the lines and send them all at the end.";
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
        let problem = "the first line of the countdown arrived together with the last";
        let failure = client.failure_with_all(problem);
        return Err(failure.why(why).read(server.chapter()));
    }
    let first = Instant::now();
    server.answer(&mut client).status(200).body("3\n2\n1\n").framed().because(why)?;
    if first.elapsed() < Duration::from_secs(1) {
        let problem = format!("the countdown from 3 took only {} ms", first.elapsed().as_millis());
        return Err(Failure::new(problem).why(why).read(server.chapter()));
    }
    for number in ["0", "61", "+5", "x", ""] {
        server.get(&format!("/countdown/{number}")).refused().because(
            "There are countdowns from 1 to 60, written in digits and nothing else. Answer 404.",
        )?;
    }
    let answer = server.request("HEAD", "/countdown/3").send().status(200);
    answer.because("The answer to HEAD must have no body, not even a last chunk.")
}

fn late() -> Check {
    Err(Failure::new("the first line of the countdown did not arrive within 5 seconds"))
}

#[test]
fn sends_no_chunks_to_http_1_0() -> Check {
    let server = Server::start("stage13")?;
    let answer = server.send(b"GET /countdown/1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let answer = answer.if_status(&[404], NO_COUNTDOWN).status(200).no_header("Transfer-Encoding");
    answer.body("1\n").because(
        "HTTP/1.0 has no chunks: an old client would read the sizes as a part of the body. Send the body \
         without chunks, and close the connection at its end, although this client asked to keep it open.",
    )
}

#[test]
fn compresses_files_while_it_reads_them() -> Check {
    let server = Server::start_with_directory("stage13")?;
    let content: Vec<u8> = (0..400_000u32).flat_map(|number| number.to_le_bytes()).collect();
    fs::write(server.directory().join("numbers"), &content).map_err(cannot)?;
    let request = server.request("GET", "/files/numbers").header("Accept-Encoding: gzip");
    request.send().status(200).gzip_body(&content).because(
        "The client accepts gzip. A file may be larger than memory, so compress it block by block and send it \
         in chunks.",
    )?;
    let request = server.request("GET", "/files/numbers").header("Accept-Encoding: gzip");
    request.send().header("Vary", "Accept-Encoding").because(
        "The answer depends on Accept-Encoding. Tell caches so with Vary, as in stage 9.",
    )?;
    let answer = server.get("/files/numbers").status(200).framed().body(&content);
    answer.because("This client did not ask for gzip. Send the file as before.")
}

#[test]
fn an_upload_that_breaks_off_leaves_nothing() -> Check {
    let server = Server::start_with_directory("stage13")?;
    let whole = format!("{POST}5\r\nhello\r\n0\r\n\r\n");
    server
        .send(whole.as_bytes())
        .status(201)
        .because("This upload is complete. Store it and answer 201 Created.")?;
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
            return Err(Failure::new(format!("an interrupted upload left a file behind: {left}"))
                .why(
                    "Four clients began to upload a file b and left: in the middle of a chunk, after a chunk, \
                     after the last chunk, and in the trailers. A body is complete when the empty line at its \
                     end has arrived. If it does not arrive, no file may appear, and no temporary file may stay \
                     behind.",
                )
                .read(server.chapter()));
        }
        thread::sleep(Duration::from_millis(10));
    }
}
