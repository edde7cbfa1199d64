//! Stage 15 · Do not send what the client has already.
//!
//! A file gets an entity tag and the date of its last change. A client that has a copy asks with these, and gets
//! 304 Not Modified if nothing has changed. A client that wants to change a file can ask for the opposite.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use harness::{Answer, Check, Exchange, Failure, Server};

const TEXT: &str = "a text, to be kept by a cache; ";

/// When the files were last changed, in milliseconds since the beginning of 1970.
const TIME: u64 = 1_700_000_000_500;

/// The same for `Last-Modified`, which counts in seconds; and one second before it, and one after.
const MODIFIED: &str = "Tue, 14 Nov 2023 22:13:20 GMT";
const EARLIER: &str = "Tue, 14 Nov 2023 22:13:19 GMT";
const LATER: &str = "Tue, 14 Nov 2023 22:13:21 GMT";

fn cannot(error: io::Error) -> Failure {
    Failure::new(format!("this check cannot prepare its files: {error}"))
}

/// A server with a page, and the same page as `/` and below `/files/`, all of them last changed at [`TIME`].
fn start(args: &[&str]) -> Result<Server, Failure> {
    let text = TEXT.repeat(20);
    let files = [
        ("page.html", text.as_bytes()),
        ("index.html", text.as_bytes()),
        ("app-3f2a9c1b.js", b"alert(1)"),
        ("photo-20240131.jpg", b"jpg"),
        ("app-deadbeef.js", b"alert(1)"),
        ("3f2a9c1b-notes.html", b"notes"),
        ("packed.js", b"alert(1)"),
        ("packed.js.gz", b"only sent, never unpacked"),
        ("chapter-1a.html", b"1a"),
    ];
    let server = Server::start_with_site("stage15", args, &files)?;
    fs::write(server.directory().join("note"), &text).map_err(cannot)?;
    for name in ["page.html", "index.html", "packed.js", "packed.js.gz"] {
        set_time(&server.site().join(name), TIME)?;
    }
    set_time(&server.directory().join("note"), TIME)?;
    Ok(server)
}

/// Sets the time at which a file was last changed, in milliseconds since the beginning of 1970.
fn set_time(path: &Path, time: u64) -> Check {
    let file = fs::File::options().append(true).open(path);
    file.and_then(|file| file.set_modified(UNIX_EPOCH + Duration::from_millis(time)))
        .map_err(cannot)
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
    for path in ["/page.html", "/", "/files/note"] {
        let answer = ask(&server, path, &[])
            .status(200)
            .with("ETag")
            .expect("a strong tag in quotes", is_strong_tag);
        answer.header("Last-Modified", MODIFIED).because(why)?;
    }
    let answer = server.request("HEAD", "/page.html").send().status(200).with("ETag");
    answer.with("Last-Modified").because("HEAD gets the headers that GET gets.")?;
    let path = server.site().join("page.html");
    let other = TEXT.to_uppercase().repeat(20);
    for (content, time, why) in [
        (
            other.clone(),
            TIME + 1,
            "The file has changed since the client got this ETag. The length is the same, and the new time is a \
             millisecond later: make the ETag from both, and from the time as exactly as the system knows it.",
        ),
        (
            other + ".",
            TIME + 1,
            "The file has changed since the client got this ETag. Its time is the same, and its length is not: \
             make the ETag from both.",
        ),
    ] {
        let before = header(&server, "/page.html", &[], "ETag")?;
        fs::write(&path, &content).map_err(cannot)?;
        set_time(&path, time)?;
        let answer = ask(&server, "/page.html", &[&format!("If-None-Match: {before}")]);
        answer.status(200).body(content).because(why)?;
    }
    set_time(&path, 4_102_444_800_000)?; // the year 2100
    let answer = ask(&server, "/page.html", &[]).status(200).with("Date").with("Last-Modified");
    let answer = answer.expect("a Last-Modified that is not later than Date", |answer| {
        let found = answer.header("Last-Modified").unwrap_or_default();
        match found.contains("2100") {
            true => Err(Failure::new(format!("Last-Modified is {found}, which is in the future"))),
            false => Ok(()),
        }
    });
    answer.because(
        "The clock says that this file was changed in 2100. Send the date of the answer instead (RFC 9110, section \
         8.8.2.1).",
    )
}

#[test]
fn a_coding_has_a_tag_of_its_own() -> Check {
    let server = start(&[])?;
    let why = "The ETag in this request names the plain file. Compressed, it has other bytes, and needs another \
               ETag: otherwise a cache mixes up the two (RFC 9110, section 8.8.3.3).";
    for path in ["/page.html", "/files/note"] {
        let plain = header(&server, path, &[], "ETag")?;
        let lines = ["Accept-Encoding: gzip", &format!("If-None-Match: {plain}")];
        ask(&server, path, &lines).status(200).gzip_body(TEXT.repeat(20)).because(why)?;
        let packed = header(&server, path, &["Accept-Encoding: gzip"], "ETag")?;
        let lines = ["Accept-Encoding: gzip", &format!("If-None-Match: {packed}")];
        ask(&server, path, &lines)
            .status(304)
            .header("Vary", "Accept-Encoding")
            .because("The client has the compressed file already.")?;
        let line = format!("If-None-Match: {packed}");
        ask(&server, path, &[&line]).status(200).body(TEXT.repeat(20)).because(
            "The ETag in this request names the compressed file, and this client wants the plain one.",
        )?;
    }
    let plain = header(&server, "/packed.js", &[], "ETag")?;
    let lines = ["Accept-Encoding: gzip", &format!("If-None-Match: {plain}")];
    ask(&server, "/packed.js", &lines).status(200).header("Content-Encoding", "gzip").because(
        "The ETag in this request names packed.js, and this client gets packed.js.gz, which is beside it. That has \
         other bytes, and needs another ETag.",
    )
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
            (format!("W/{tag}"), "If-None-Match compares weakly: the W/ does not count."),
            ("*".to_owned(), "The star stands for any version."),
        ] {
            let answer = ask(&server, path, &[&format!("If-None-Match: {value}")]).status(304);
            answer.because(&format!("{why} Answer 304 Not Modified, without a body."))?;
        }
        let inner = tag.trim_matches('"');
        for (value, why) in [
            ("\"other\"".to_owned(), "Compare whole tags."),
            (tag.replacen('"', "\"x", 1), "Compare whole tags."),
            (tag.replace('"', ""), "The quotes are a part of a tag."),
            (
                format!("\"a,{inner},b\""),
                "A comma in quotes is a part of a tag, and separates nothing.",
            ),
            ("\"*\"".to_owned(), "A star in quotes is a tag like any other."),
        ] {
            let answer = ask(&server, path, &[&format!("If-None-Match: {value}")]).status(200);
            answer.because(&format!("The client has another version: send the file. {why}"))?;
        }
    }
    let tag = header(&server, "/page.html", &[], "ETag")?;
    let lines = ["If-None-Match: \"a\"", &format!("If-None-Match: {tag}")];
    ask(&server, "/page.html", &lines)
        .status(304)
        .because("A header that is a list may be written in several lines.")?;
    ask(&server, "/missing.html", &["If-None-Match: *"])
        .status(404)
        .because("There is no version of what is not there.")?;
    let request = server.request("HEAD", "/page.html").header(format!("If-None-Match: {tag}"));
    request.send().status(304).because("HEAD is answered like GET.")
}

#[test]
fn compares_dates() -> Check {
    let server = start(&[])?;
    let fraction =
        "The time of this file has half a second more than its date: compare whole seconds.";
    for (date, is_modified, is_unmodified) in
        [(MODIFIED, 304, 200), (LATER, 304, 200), (EARLIER, 200, 412)]
    {
        let answer = ask(&server, "/page.html", &[&format!("If-Modified-Since: {date}")]);
        let why = format!(
            "The file was last changed at {MODIFIED}. Only if that is later than the date in the request, it has \
             changed. {fraction}"
        );
        answer.status(is_modified).because(&why)?;
        let answer = ask(&server, "/page.html", &[&format!("If-Unmodified-Since: {date}")]);
        answer.status(is_unmodified).because(&why)?;
    }
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
fn a_304_has_what_a_cache_needs() -> Check {
    let server = start(&["--max-age", "60"])?;
    let whole = ask(&server, "/page.html", &[]).status(200).with("ETag").answer()?;
    let value = |name: &str| whole.header(name).unwrap_or_default().to_owned();
    let (tag, length) = (value("ETag"), whole.body.len().to_string());
    let mut client = server.connect()?;
    let request = format!("GET /page.html HTTP/1.1\r\nHost: a\r\nIf-None-Match: {tag}\r\n\r\n");
    client.send(request.as_bytes())?;
    let answer = server.answer(&mut client).status(304).body("").header("ETag", &tag);
    let answer = answer.header("Vary", "Accept-Encoding").dated();
    let answer = answer.header("Cache-Control", &value("Cache-Control"));
    let answer = answer.expect("no Content-Length, or that of the file", |answer| {
        match answer.header("Content-Length") {
            Some(found) if found != length => Err(Failure::new(format!(
                "Content-Length is {found}, and the file has {length} bytes"
            ))),
            _ => Ok(()),
        }
    });
    answer.because(
        "A cache updates its copy with the headers of the 304: ETag, Vary, Cache-Control and Date are those that \
         the 200 would have (RFC 9110, section 15.4.5). There is no body; a Content-Length would be that of the file.",
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
    conditions_have_an_order(&server)
}

/// Asks with two conditions at a time.
fn conditions_have_an_order(server: &Server) -> Check {
    let tag = header(server, "/page.html", &[], "ETag")?;
    let none_match = format!("If-None-Match: {tag}");
    let with_match = format!("If-Match: {tag}");
    let modified = format!("If-Modified-Since: {MODIFIED}");
    let old = |name: &str| format!("{name}: Sun, 06 Nov 1994 08:49:37 GMT");
    let a_tag_is_better = "If there is an If-None-Match, If-Modified-Since is ignored: a tag is more exact than a date \
                           (RFC 9110, section 13.1.3).";
    for (lines, status, why) in [
        (["If-None-Match: \"other\"", &modified], 200, a_tag_is_better),
        ([&none_match, &old("If-Modified-Since")], 304, a_tag_is_better),
        (
            [&with_match, &old("If-Unmodified-Since")],
            200,
            "If there is an If-Match, If-Unmodified-Since is ignored (RFC 9110, section 13.1.4).",
        ),
        (
            ["If-Match: \"other\"", &none_match],
            412,
            "If-Match comes first, and fails (RFC 9110, section 13.2.2).",
        ),
        (
            [&old("If-Unmodified-Since"), &none_match],
            412,
            "If-Unmodified-Since comes before If-None-Match, and fails (RFC 9110, section 13.2.2).",
        ),
        ([&with_match, &none_match], 304, "If-Match holds. Then comes If-None-Match."),
    ] {
        ask(server, "/page.html", &lines).status(status).because(why)?;
    }
    Ok(())
}

#[test]
fn changes_only_what_the_client_has_seen() -> Check {
    let server = start(&[])?;
    let post = |path: &str, lines: &[&str]| {
        let request = server.request("POST", path);
        lines.iter().fold(request, |request, line| request.header(line)).body("new").send()
    };
    let tag = header(&server, "/files/note", &[], "ETag")?;
    let not_this = format!("If-None-Match: {tag}");
    let another_was_quicker = "The client wants to replace a version that is no longer there. Another client has been \
                               quicker: with 412, nothing is lost.";
    for (line, why) in [
        ("If-Match: \"other\"", another_was_quicker),
        ("If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT", another_was_quicker),
        (
            "If-None-Match: *",
            "If-None-Match: * asks to store the file only if there is none, and there is one: 412.",
        ),
        (
            &not_this,
            "If-None-Match asks to replace any version but this one, and this one is there: 412.",
        ),
    ] {
        post("/files/note", &[line]).status(412).because(why)?;
        ask(&server, "/files/note", &[])
            .status(200)
            .body(TEXT.repeat(20))
            .because("The answer was 412, so nothing has been stored.")?;
    }
    post("/files/fresh", &["If-Match: *"]).status(412).because("There is no such file: 412.")?;
    let answer = ask(&server, "/files/fresh", &[]).status(404);
    answer.because("The answer was 412, so nothing has been stored.")?;
    post("/files/fresh", &["If-None-Match: *"])
        .successful()
        .because("There is no such file yet: store it.")?;
    let packed = header(&server, "/files/note", &["Accept-Encoding: gzip"], "ETag")?;
    post("/files/note", &["Accept-Encoding: gzip", &format!("If-Match: {packed}")])
        .successful()
        .because(
            "This client accepts gzip, as browsers do, and this is the ETag that it got. So it has seen the current \
             version, and may replace it.",
        )?;
    let tag = header(&server, "/files/note", &[], "ETag")?;
    post("/files/note", &[&format!("If-Match: {tag}")])
        .successful()
        .because("This is the current version: replace it.")?;
    let modified = header(&server, "/files/note", &[], "Last-Modified")?;
    post("/files/note", &[&format!("If-Modified-Since: {modified}")])
        .successful()
        .because("If-Modified-Since is for GET and HEAD, and is ignored here.")?;
    a_refused_body_is_no_request(&server)
}

/// A body that looks like a request follows a head that is answered with 412.
fn a_refused_body_is_no_request(server: &Server) -> Check {
    let body = "GET /files/fresh HTTP/1.1\r\nHost: a\r\n\r\n";
    let head = "POST /files/note HTTP/1.1\r\nHost: a\r\nIf-Match: \"other\"\r\n";
    let mut client = server.connect()?;
    client.send(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes())?;
    client.send(b"GET /page.html HTTP/1.1\r\nHost: a\r\n\r\n")?;
    client.expect_answers(2);
    let first = server.answer(&mut client).status(412);
    let is_last = first.is_last();
    first.because("The body was not needed. It still belongs to this request.")?;
    if is_last {
        return Ok(());
    }
    server.answer(&mut client).status(200).body(TEXT.repeat(20)).because(
        "After 412, the body of the request is still to come. Read it and throw it away, or close the connection: \
         it must not be taken for the next request.",
    )
}

#[test]
fn says_how_long_a_copy_may_be_used() -> Check {
    let server = start(&[])?;
    let directive = |name: &'static str| {
        move |answer: &Answer| {
            let Some(found) = answer.header("Cache-Control") else {
                return Err(Failure::new("the answer has no Cache-Control"));
            };
            match found.split(',').any(|it| it.trim().eq_ignore_ascii_case(name)) {
                true => Ok(()),
                false => Err(Failure::new(format!("Cache-Control is \"{found}\", without {name}"))),
            }
        }
    };
    for path in ["/page.html", "/files/note"] {
        let answer = ask(&server, path, &[]).status(200).expect("no-cache", directive("no-cache"));
        answer.because(
            "no-cache allows a copy, and asks the client to check it each time. Without it, a browser guesses how \
             long a copy is good.",
        )?;
    }
    drop(server); // there may be one port for all
    let server = start(&["--max-age", "60"])?;
    for path in [
        "/page.html",
        "/photo-20240131.jpg",
        "/app-deadbeef.js",
        "/chapter-1a.html",
        "/3f2a9c1b-notes.html",
    ] {
        let answer =
            ask(&server, path, &[]).status(200).expect("max-age=60", directive("max-age=60"));
        let answer = answer.expect("no immutable", |answer| match directive("immutable")(answer) {
            Ok(()) => Err(Failure::new("Cache-Control says immutable, and this file may change")),
            Err(_) => Ok(()),
        });
        answer.because(
            "The server was started with --max-age 60. (A hash stands before the extension, and has eight characters \
             or more, digits and letters among them: digits alone are a date, and letters alone a word.)",
        )?;
    }
    let answer = ask(&server, "/app-3f2a9c1b.js", &[]).status(200);
    let answer = answer.expect("immutable", directive("immutable"));
    let answer = answer.expect("max-age=… of a day or more", |answer| {
        let found = answer.header("Cache-Control").unwrap_or_default();
        let ages = found.split(',').filter_map(|it| it.trim().strip_prefix("max-age="));
        match ages.filter_map(|age| age.parse::<u64>().ok()).any(|age| age >= 86_400) {
            true => Ok(()),
            false => {
                Err(Failure::new(format!("Cache-Control is \"{found}\", without a long max-age")))
            }
        }
    });
    answer.because(
        "The name has a hash of the content: eight or more hexadecimal digits, numbers and letters among them, after \
         a dash or a dot and before the extension. Other content would have another name, so the client need not ask \
         again: max-age says for how long, and immutable, not even on a reload.",
    )
}
