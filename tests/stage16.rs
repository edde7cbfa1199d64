//! Stage 16 · Send a part of a file.
//!
//! A client that has the beginning of a file asks for the rest with `Range: bytes=1000-`. The answer is 206 Partial
//! Content. So downloads are resumed, and a film can be watched from the middle.

use std::fs;
use std::io;
use std::time::{Duration, UNIX_EPOCH};

use harness::{Answer, Check, Exchange, Failure, Server};

const DIGITS: &str = "0123456789";

fn cannot(error: io::Error) -> Failure {
    Failure::new(format!("this check cannot prepare its files: {error}"))
}

/// A server with a file of ten digits, on the site and below `/files/`. The files are older than a second, so that
/// their dates are exact.
fn start() -> Result<Server, Failure> {
    let text = DIGITS.repeat(100);
    let files = [
        ("ten.txt", DIGITS.as_bytes()),
        ("ten.bin", DIGITS.as_bytes()),
        ("empty.bin", b""),
        ("thousand.txt", text.as_bytes()),
        ("404.html", b"nothing here"),
    ];
    let server = Server::start_with_site("stage16", &[], &files)?;
    fs::write(server.directory().join("ten"), DIGITS).map_err(cannot)?;
    fs::write(server.directory().join("thousand"), &text).map_err(cannot)?;
    let time = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    for path in [server.site().join("ten.txt"), server.directory().join("ten")] {
        let file = fs::File::options().write(true).open(path);
        file.and_then(|file| file.set_modified(time)).map_err(cannot)?;
    }
    Ok(server)
}

/// Asks for a part of a file, with one more header line.
fn ask(server: &Server, path: &str, range: &str, line: &str) -> Exchange {
    let request = server.request("GET", path).header(format!("Range: {range}"));
    if line.is_empty() { request.send() } else { request.header(line).send() }
}

#[test]
fn sends_a_part_of_a_file() -> Check {
    let server = start()?;
    for path in ["/ten.bin", "/ten.txt", "/files/ten"] {
        for (range, part, content_range) in [
            ("bytes=2-4", "234", "bytes 2-4/10"),
            ("bytes=0-0", "0", "bytes 0-0/10"),
            ("bytes=5-5", "5", "bytes 5-5/10"),
            ("bytes=0-9", DIGITS, "bytes 0-9/10"),
            ("bytes=7-", "789", "bytes 7-9/10"),
            ("bytes=9-", "9", "bytes 9-9/10"),
            ("bytes=-3", "789", "bytes 7-9/10"),
            ("bytes=-99", DIGITS, "bytes 0-9/10"),
            ("bytes=8-99", "89", "bytes 8-9/10"),
        ] {
            let answer = ask(&server, path, range, "").status(206);
            let answer = answer.header("Content-Range", content_range).framed().body(part);
            let answer = answer.with("ETag").with("Content-Type");
            answer.because(
                "Positions are counted from 0, and both ends belong to the range. 5- is the rest from position \
                 5, and -3 the last 3 bytes. Content-Range says what is sent, and how long the whole file is. The \
                 other headers are those of the file.",
            )?;
        }
        let answer = server.get(path).status(200).header("Accept-Ranges", "bytes").body(DIGITS);
        answer.because(
            "Without a Range, send the whole file. Accept-Ranges says that parts can be had.",
        )?;
    }
    Ok(())
}

#[test]
fn refuses_what_is_beyond_the_end() -> Check {
    let server = start()?;
    for range in ["bytes=10-", "bytes=10-12", "bytes=-0", "bytes=99999999999999999999-"] {
        let answer = ask(&server, "/ten.bin", range, "").status(416);
        answer.header("Content-Range", "bytes */10").because(
            "Nothing of this range exists: 416 Range Not Satisfiable. The star stands for no bytes, and 10 is \
             the length.",
        )?;
    }
    for range in ["bytes=0-", "bytes=-1"] {
        ask(&server, "/empty.bin", range, "").status_in(&[416, 200]).because(
            "The file is empty, so there is no byte to send: 416, or 200 with an empty body.",
        )?;
    }
    let answer = server.request("HEAD", "/ten.bin").header("Range: bytes=10-").send();
    answer.status(200).because("A Range is for GET.")?;
    ask(&server, "/missing", "bytes=10-", "")
        .status(404)
        .because("There is no file, so there is no question of its parts.")?;
    server
        .get("/ten.bin")
        .status(200)
        .body(DIGITS)
        .because("The next request is answered as before.")
}

#[test]
fn ignores_what_it_does_not_understand() -> Check {
    let server = start()?;
    let many = format!("bytes={}", "0-0,".repeat(1000) + "1-1");
    for range in [
        "bytes=4-2",
        "bytes=a-b",
        "bytes=",
        "bytes=-",
        "bytes=1",
        "bytes=+1-2",
        "bytes=1--2",
        "bytes=2-4x",
        "bytes=20-x",
        "bytes=0_1-2",
        "bytes=²-4",
        "1-2",
    ] {
        let answer = ask(&server, "/ten.bin", range, "").status_in(&[200, 416]);
        answer.because(
            "This is no range: a range is digits, a dash, digits, and nothing else. Ignore it, and send the whole file. \
             (416 is allowed, too: RFC 9110, section 14.2.)",
        )?;
    }
    let digits = format!("bytes=0-{}", "9".repeat(4000));
    ask(&server, "/ten.bin", &digits, "").no_server_error().because(
        "A number may be larger than any number of your language. It is beyond the end of every file.",
    )?;
    for range in ["lines=1-2", "xbytes=1-2"] {
        ask(&server, "/ten.bin", range, "").status(200).body(DIGITS).because(
            "The unit is not bytes. Ignore it, and send the whole file (RFC 9110, section 14.2).",
        )?;
    }
    for range in ["bytes=0-1,8-9", &many] {
        ask(&server, "/ten.bin", range, "").status(200).body(DIGITS).because(
            "These are several ranges. The whole file is a right answer, too, and the cheapest to give.",
        )?;
    }
    let request = server.request("HEAD", "/ten.bin").header("Range: bytes=0-1");
    let answer = request.send().status(200).header("Content-Length", "10");
    answer.because("A Range is for GET. HEAD gets the length of the whole file.")?;
    let head = |line: &str| {
        let request = server.request("HEAD", "/thousand.txt").header("Accept-Encoding: gzip");
        request.header(line).send().status(200)
    };
    let usual = head("X-Nothing: 1").with("ETag").answer()?;
    let tag = usual.header("ETag").unwrap_or_default();
    head("Range: bytes=0-1").header("ETag", tag).because(
        "A Range is for GET. HEAD gets the same headers as without it, so those of the compressed file if it accepts \
         gzip.",
    )?;
    let answer = ask(&server, "/missing", "bytes=0-1", "").status(404).body("nothing here");
    answer.because("The page for 404 is no file that the client asked for, and is never cut.")
}

#[test]
fn a_part_is_never_compressed() -> Check {
    let server = start()?;
    for path in ["/thousand.txt", "/files/thousand"] {
        let answer = ask(&server, path, "bytes=990-994", "Accept-Encoding: gzip").status(206);
        let answer = answer.no_header("Content-Encoding");
        let answer = answer.header("Content-Range", "bytes 990-994/1000").body("01234");
        answer.header("Vary", "Accept-Encoding").because(
            "A range counts the bytes of the file as it is. Compressed on the fly, the same positions would mean \
             other bytes.",
        )?;
    }
    Ok(())
}

/// The value of a header in the answer to a plain request.
fn header(server: &Server, path: &str, name: &str) -> Result<String, Failure> {
    let answer: Answer = server.get(path).status(200).with(name).answer()?;
    Ok(answer.header(name).unwrap_or_default().to_owned())
}

#[test]
fn a_part_must_fit_to_what_the_client_has() -> Check {
    let server = start()?;
    for path in ["/ten.txt", "/files/ten"] {
        let (tag, date) = (header(&server, path, "ETag")?, header(&server, path, "Last-Modified")?);
        for line in [format!("If-Range: {tag}"), format!("If-Range: {date}")] {
            let answer = ask(&server, path, "bytes=5-", &line).status(206).body("56789");
            answer.because("The client has the beginning of this very version: send the rest.")?;
        }
        let gzip = server.request("GET", path).header("Accept-Encoding: gzip").send();
        let packed = gzip.status(200).with("ETag").answer()?;
        let packed = packed.header("ETag").unwrap_or_default().to_owned();
        for line in [
            "If-Range: \"other\"".to_owned(),
            format!("If-Range: W/{tag}"),
            format!("If-Range: {}", tag.replace('"', "")),
            format!("If-Range: \"other\", {tag}"),
            format!("If-Range: {packed}"),
            "If-Range: Sun, 06 Nov 1994 08:49:37 GMT".to_owned(),
            "If-Range: Fri, 01 Jan 2100 00:00:00 GMT".to_owned(),
        ] {
            ask(&server, path, "bytes=5-", &line).status(200).body(DIGITS).because(
                "The client has the beginning of another version, so the rest of this one does not fit: send all \
                 of it, with 200. A weak tag never fits, nor does that of the compressed file, and a date only if \
                 it is exactly the same (RFC 9110, section 13.1.5).",
            )?;
        }
        ask(&server, path, "bytes=10-", "If-Range: \"other\"").status(200).body(DIGITS).because(
            "The client has 10 bytes of another version, which was longer: send all of this one. Look at If-Range \
             before you look for the end.",
        )?;
        for range in ["bytes=5-", "bytes=10-"] {
            let answer = ask(&server, path, range, &format!("If-None-Match: {tag}")).status(304);
            answer.because("Conditions come before ranges.")?;
            let answer = ask(&server, path, range, "If-Match: \"other\"").status(412);
            answer.because("Conditions come before ranges.")?;
        }
    }
    Ok(())
}

#[test]
fn finds_the_end_of_a_large_file() -> Check {
    const LENGTH: u64 = 5 << 30;
    let server = start()?;
    let path = server.directory().join("large");
    let file = fs::File::create(&path).map_err(cannot)?;
    file.set_len(LENGTH).map_err(cannot)?; // all of it is zeros, and takes no room on the disk
    for range in [format!("bytes={}-", LENGTH - 3), "bytes=-3".to_owned()] {
        let answer = ask(&server, "/files/large", &range, "").status(206).body([0; 3]);
        let content_range = format!("bytes {}-{}/{LENGTH}", LENGTH - 3, LENGTH - 1);
        answer.header("Content-Range", &content_range).because(
            "The file has 5 GiB: its positions need more than 32 bits, and its last bytes can be sent without \
             reading the others.",
        )?;
    }
    Ok(())
}
