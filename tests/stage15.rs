//! Stage 15 · Do not send what the client has already.
//!
//! A file gets an entity tag and the date of its last change. A client that has a copy asks with these, and gets
//! 304 Not Modified if nothing has changed. A client that wants to change a file can ask for the opposite.

use std::fs;
use std::io;
use std::time::{Duration, SystemTime};

use harness::{Answer, Check, Exchange, Failure, Server};

const TEXT: &str = "a text, to be kept by a cache; ";

fn cannot(error: io::Error) -> Failure {
    Failure::new(format!("this check cannot prepare its files: {error}"))
}

/// A server with a page, a style, and the same page below `/files/`. The page is a day old.
fn start(args: &[&str]) -> Result<Server, Failure> {
    let text = TEXT.repeat(20);
    let files = [
        ("page.html", text.as_bytes()),
        ("app-3f2a9c1b.js", b"alert(1)"),
        ("photo-20240131.jpg", b"jpg"),
    ];
    let server = Server::start_with_site("stage15", args, &files)?;
    fs::write(server.directory().join("note"), &text).map_err(cannot)?;
    for path in [server.site().join("page.html"), server.directory().join("note")] {
        set_age(&path, Duration::from_secs(86_400))?;
    }
    Ok(server)
}

/// Sets the time at which a file was last changed.
fn set_age(path: &std::path::Path, age: Duration) -> Check {
    let file = fs::File::options().write(true).open(path);
    file.and_then(|file| file.set_modified(SystemTime::now() - age)).map_err(cannot)
}

/// Asks for a path with these header lines.
fn ask(server: &Server, path: &str, lines: &[&str]) -> Exchange {
    let request = server.request("GET", path);
    lines.iter().fold(request, |request, line| request.header(line)).send()
}

/// The value of a header in the answer to a plain request.
fn header(server: &Server, path: &str, lines: &[&str], name: &str) -> Result<String, Failure> {
    let answer = ask(server, path, lines).status(200).with(name).answer()?;
    Ok(answer.header(name).unwrap_or_default().to_owned())
}

fn is_strong_tag(answer: &Answer) -> Check {
    let tag = answer.header("ETag").unwrap_or_default();
    let inner = tag.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    match inner {
        Some(inner) if !inner.is_empty() && !inner.contains('"') => Ok(()),
        _ => Err(Failure::new(format!("ETag is {tag}, which is no strong entity tag in quotes"))),
    }
}

#[test]
fn gives_files_validators() -> Check {
    let server = start(&[])?;
    let why = "A file has an ETag, which names this version of it, and a Last-Modified. A client sends them back to \
               ask whether its copy is still good.";
    for path in ["/page.html", "/files/note"] {
        let answer = ask(&server, path, &[])
            .status(200)
            .with("ETag")
            .expect("a strong tag in quotes", is_strong_tag);
        answer.with("Last-Modified").because(why)?;
    }
    let before = header(&server, "/page.html", &[], "ETag")?;
    let path = server.site().join("page.html");
    fs::write(&path, TEXT.to_uppercase().repeat(20)).map_err(cannot)?;
    let answer = ask(&server, "/page.html", &[&format!("If-None-Match: {before}")]);
    answer.status(200).body(TEXT.to_uppercase().repeat(20)).because(
        "The file has changed since the client got this ETag; only its length is the same. Make the ETag from more \
         than the length, such as the time of the change.",
    )?;
    let future = SystemTime::now() + Duration::from_secs(86_400);
    let file = fs::File::options().write(true).open(&path);
    file.and_then(|file| file.set_modified(future)).map_err(cannot)?;
    let answer = ask(&server, "/page.html", &[]).status(200).with("Date").with("Last-Modified");
    let answer = answer.expect("a Last-Modified that is not later than Date", |answer| {
        let day = |name| answer.header(name).unwrap_or_default().get(5..16).map(str::to_owned);
        if day("Date") == day("Last-Modified") {
            return Ok(());
        }
        let found = answer.header("Last-Modified").unwrap_or_default();
        Err(Failure::new(format!("Last-Modified is {found}, which is in the future")))
    });
    answer.because(
        "The clock says that this file was changed tomorrow. Send the date of the answer instead (RFC 9110, section \
         8.8.2.1).",
    )
}

#[test]
fn a_coding_has_a_tag_of_its_own() -> Check {
    let server = start(&[])?;
    let plain = header(&server, "/page.html", &[], "ETag")?;
    let packed = header(&server, "/page.html", &["Accept-Encoding: gzip"], "ETag")?;
    let lines = ["Accept-Encoding: gzip", &format!("If-None-Match: {plain}")];
    let why = "The ETag in this request names the plain file. Compressed, it has other bytes, and needs another \
               ETag: otherwise a cache mixes up the two (RFC 9110, section 8.8.3.3).";
    let answer = ask(&server, "/page.html", &lines).status(200).gzip_body(TEXT.repeat(20));
    answer.because(why)?;
    if plain == packed {
        return Err(Failure::new(format!(
            "the plain file and the compressed one have the ETag {plain}"
        ))
        .why(why)
        .read(server.chapter()));
    }
    let lines = ["Accept-Encoding: gzip", &format!("If-None-Match: {packed}")];
    ask(&server, "/page.html", &lines)
        .status(304)
        .because("The client has the compressed file already.")
}

#[test]
fn answers_304_for_what_the_client_has() -> Check {
    let server = start(&[])?;
    for path in ["/page.html", "/files/note"] {
        let tag = header(&server, path, &[], "ETag")?;
        for (value, why) in [
            (tag.clone(), "The client has this very version."),
            (
                format!("\"a\", {tag}, \"b\""),
                "If-None-Match is a list of the versions that the client has.",
            ),
            (
                format!("\"a,b\" ,{tag}"),
                "A comma in quotes is a part of a tag, and separates nothing.",
            ),
            (format!("W/{tag}"), "If-None-Match compares weakly: the W/ does not count."),
            ("*".to_owned(), "The star stands for any version."),
        ] {
            let answer = ask(&server, path, &[&format!("If-None-Match: {value}")]).status(304);
            answer.because(&format!("{why} Answer 304 Not Modified, without a body."))?;
        }
        for value in ["\"other\"".to_owned(), tag.replacen('"', "\"x", 1), tag.replace('"', "")] {
            let answer = ask(&server, path, &[&format!("If-None-Match: {value}")]).status(200);
            answer.because("The client has another version: send the file. Compare whole tags.")?;
        }
    }
    let tag = header(&server, "/page.html", &[], "ETag")?;
    let request = server.request("HEAD", "/page.html").header(format!("If-None-Match: {tag}"));
    request.send().status(304).because("HEAD is answered like GET.")
}

#[test]
fn compares_dates() -> Check {
    let server = start(&[])?;
    let modified = header(&server, "/page.html", &[], "Last-Modified")?;
    let why = "The file has not changed since this date: 304.";
    ask(&server, "/page.html", &[&format!("If-Modified-Since: {modified}")])
        .status(304)
        .because(why)?;
    for date in [
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-94 08:49:37 GMT",
        "Sun Nov  6 08:49:37 1994",
    ] {
        ask(&server, "/page.html", &[&format!("If-Modified-Since: {date}")]).status(200).because(
            "The file has changed since 1994. A server must read the date in each of the three forms of RFC 9110, \
             section 5.6.7.",
        )?;
        ask(&server, "/page.html", &[&format!("If-Unmodified-Since: {date}")])
            .status(412)
            .because(
                "The file has changed since 1994, in whatever form the date is written: 412.",
            )?;
    }
    for name in ["If-Modified-Since", "If-Unmodified-Since"] {
        ask(&server, "/page.html", &[&format!("{name}: yesterday")])
            .status(200)
            .because("This is no date. Ignore the header (RFC 9110, section 13.1.3).")?;
    }
    Ok(())
}

#[test]
fn a_tag_counts_for_more_than_a_date() -> Check {
    let server = start(&[])?;
    let tag = header(&server, "/page.html", &[], "ETag")?;
    let modified = header(&server, "/page.html", &[], "Last-Modified")?;
    let why = "If there is an If-None-Match, If-Modified-Since is ignored: a tag is more exact than a date (RFC \
               9110, section 13.1.3).";
    let other = ["If-None-Match: \"other\"", &format!("If-Modified-Since: {modified}")];
    ask(&server, "/page.html", &other).status(200).because(why)?;
    let same =
        [&format!("If-None-Match: {tag}"), "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT"];
    ask(&server, "/page.html", &same).status(304).because(why)
}

#[test]
fn a_304_has_what_a_cache_needs() -> Check {
    let server = start(&[])?;
    let tag = header(&server, "/page.html", &[], "ETag")?;
    let mut client = server.connect()?;
    let request = format!("GET /page.html HTTP/1.1\r\nHost: a\r\nIf-None-Match: {tag}\r\n\r\n");
    client.send(request.as_bytes())?;
    let answer = server.answer(&mut client).status(304).body("").header("ETag", &tag);
    let answer = answer.header("Vary", "Accept-Encoding").with("Cache-Control").dated();
    answer.because(
        "A cache updates its copy with the headers of the 304: ETag, Vary, Cache-Control and Date are those that \
         the 200 would have (RFC 9110, section 15.4.5). There is no body.",
    )?;
    client.send(b"GET /page.html HTTP/1.1\r\nHost: a\r\n\r\n")?;
    server
        .answer(&mut client)
        .status(200)
        .body(TEXT.repeat(20))
        .because("The 304 before had no body, so this is the next answer on the same connection.")
}

#[test]
fn refuses_when_a_precondition_fails() -> Check {
    let server = start(&[])?;
    let tag = header(&server, "/files/note", &[], "ETag")?;
    for (line, status, why) in [
        (format!("If-Match: {tag}"), 200, "This is the current version: go on."),
        (format!("If-Match: \"a\", {tag}"), 200, "One of these is the current version: go on."),
        ("If-Match: *".to_owned(), 200, "There is some version: go on."),
        (
            "If-Match: \"other\"".to_owned(),
            412,
            "The current version is another: 412 Precondition Failed.",
        ),
        (
            format!("If-Match: W/{tag}"),
            412,
            "If-Match compares strongly: a weak tag never matches, so 412.",
        ),
    ] {
        ask(&server, "/files/note", &[&line]).status(status).because(why)?;
    }
    let post =
        |path: &str, line: &str| server.request("POST", path).header(line).body("new").send();
    let why = "The client wants to replace a version that is no longer there. Another client has been quicker: with \
               412, nothing is lost.";
    post("/files/note", "If-Match: \"other\"").status(412).because(why)?;
    post("/files/note", "If-None-Match: *").status(412).because(
        "If-None-Match: * asks to store the file only if there is none, and there is one: 412.",
    )?;
    ask(&server, "/files/note", &[])
        .status(200)
        .body(TEXT.repeat(20))
        .because("Nothing has been stored.")?;
    post("/files/fresh", "If-None-Match: *")
        .successful()
        .because("There is no such file yet: store it.")?;
    post("/files/note", &format!("If-Match: {tag}"))
        .successful()
        .because("This is the current version: replace it.")
}

#[test]
fn says_how_long_a_copy_may_be_used() -> Check {
    let server = start(&[])?;
    ask(&server, "/page.html", &[]).status(200).header("Cache-Control", "no-cache").because(
        "no-cache allows a copy, and asks the client to check it each time. Without it, a browser guesses how long \
         a copy is good.",
    )?;
    drop(server); // there may be one port for all
    let server = start(&["--max-age", "60"])?;
    let directive = |name: &'static str| {
        move |answer: &Answer| {
            let found = answer.header("Cache-Control").unwrap_or_default().to_owned();
            match found.split(',').any(|it| it.trim().eq_ignore_ascii_case(name)) {
                true => Ok(()),
                false => Err(Failure::new(format!("Cache-Control is \"{found}\", without {name}"))),
            }
        }
    };
    for path in ["/page.html", "/photo-20240131.jpg"] {
        let answer =
            ask(&server, path, &[]).status(200).expect("max-age=60", directive("max-age=60"));
        let answer = answer.expect("no immutable", |answer| match directive("immutable")(answer) {
            Ok(()) => Err(Failure::new("Cache-Control says immutable, and this file may change")),
            Err(_) => Ok(()),
        });
        answer.because(
            "The server was started with --max-age 60. (Digits alone are a date, and no hash.)",
        )?;
    }
    let answer = ask(&server, "/app-3f2a9c1b.js", &[]).status(200);
    answer.expect("immutable", directive("immutable")).because(
        "The name has a hash of the content: eight or more hexadecimal digits, letters among them, before the \
         extension. Other content would have another name, so the client need never ask again.",
    )
}
