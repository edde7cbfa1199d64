//! Stage 18 · Middleware: what is true for all answers, said once.
//!
//! A middleware is a function around the others: it sees each request before them, and each answer after them. A log
//! is one, and so are the rules for other sites (CORS), and the limit on how often an address may ask.

use std::collections::HashSet;
use std::thread;
use std::time::{Duration, Instant};

use harness::{Answer, Check, Exchange, Failure, Server, TIMEOUT, Value};

/// Expects a header with these words in its list, in one line or in several.
fn lists(exchange: Exchange, name: &'static str, word: &str) -> Exchange {
    exchange.expect(&format!("{name}: {word}"), |answer| {
        let found = all(answer, name).join(", ");
        match found.split(',').any(|it| it.trim().eq_ignore_ascii_case(word)) {
            true => Ok(()),
            false => Err(Failure::new(format!("{name} is \"{found}\", without {word}"))),
        }
    })
}

/// The values of all headers with this name.
fn all(answer: &Answer, name: &str) -> Vec<String> {
    let headers = answer.headers.iter().filter(|(found, _)| found.eq_ignore_ascii_case(name));
    headers.map(|(_, value)| value.clone()).collect()
}

/// Expects the name of a request, which has not been seen before.
fn has_new_id(exchange: Exchange, seen: &mut HashSet<String>) -> Exchange {
    exchange.with("X-Request-Id").expect("an id of 1 to 64 letters, digits, or . _ -", |answer| {
        let id = answer.header("X-Request-Id").unwrap_or_default().to_owned();
        let is_right = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if !(1..=64).contains(&id.len()) || !id.bytes().all(is_right) {
            return Err(Failure::new(format!("X-Request-Id is \"{id}\"")));
        }
        match seen.insert(id.clone()) {
            true => Ok(()),
            false => Err(Failure::new(format!("X-Request-Id is {id}, as for an earlier request"))),
        }
    })
}

#[test]
fn every_answer_has_an_id() -> Check {
    let server = Server::start_with_directory("stage18")?;
    let mut seen = HashSet::new();
    for (method, path, status) in [
        ("GET", "/echo/a", 200),
        ("GET", "/echo/a", 200),
        ("HEAD", "/echo/a", 200),
        ("GET", "/healthz", 200),
        ("GET", "/missing", 404),
        ("GET", "/files/missing", 404),
        ("DELETE", "/echo/a", 405),
        ("GET", "/echo", 400),
        ("POST", "/files/a", 201),
        ("GET", "/fail", 500),
    ] {
        let answer = server.request(method, path).body(if method == "POST" { "x" } else { "" });
        has_new_id(answer.send().status(status), &mut seen).because(
            "A middleware runs for each request, also when no route fits, when the method is not allowed, and when \
             the handler fails. The id is new for each request.",
        )?;
    }
    let answer = server.request("GET", "/echo/a").header("X-Request-Id: mine").send().status(200);
    let answer = answer.expect("another id than \"mine\"", |answer| {
        match all(answer, "X-Request-Id").iter().any(|id| id == "mine") {
            true => Err(Failure::new("the answer has the id that the client sent")),
            false => Ok(()),
        }
    });
    answer.because(
        "Anyone can send an X-Request-Id. If your server took it over, a client could make its lines in your log look \
         like those of another one.",
    )
}

#[test]
fn a_handler_that_fails_gets_one_answer() -> Check {
    let server = Server::start("stage18")?;
    let mut other = server.connect()?;
    other.send(b"GET /echo/a HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let answer = server.answer(&mut other).status(200).body("a");
    answer.because("This client is connected before the other one asks for /fail.")?;
    for _ in 0..3 {
        server.get("/fail").status(500).because(
            "The handler of /fail fails, with an exception or a panic. That is an error of the server: answer 500, \
             and go on.",
        )?;
    }
    let answer = server.get("/fail").expect("no details of the program", |answer| {
        let body = String::from_utf8_lossy(&answer.body).to_lowercase();
        match ["traceback", "panicked", ".rs:", ".py\"", ".js:", ".java:", ".go:"]
            .iter()
            .find(|it| body.contains(**it))
        {
            Some(detail) => Err(Failure::new(format!("the body contains \"{detail}\""))),
            None => Ok(()),
        }
    });
    answer
        .because("What went wrong is for your log. To a stranger, it is a map of your program.")?;
    other.send(b"GET /echo/b HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let answer = server.answer(&mut other).status(200).body("b");
    answer.because("The failure of one request is nothing to another client.")?;
    server.get("/healthz").status(200).because("The server is alive.")
}

/// Waits until the log has as many lines about a marker as it should, and no more. Returns these lines.
fn lines_about(server: &Server, marker: &str, count: usize) -> Result<Vec<String>, Failure> {
    let lines = lines_with(server, marker, count)?;
    if lines.len() == count {
        return Ok(lines);
    }
    let problem = format!("your server wrote {} lines about {count} requests", lines.len());
    Err(log_failure(server, &lines.join("\n"), problem, "Write one line about each request."))
}

/// Waits until the log has at least so many lines with a text. Returns these lines.
fn lines_with(server: &Server, marker: &str, count: usize) -> Result<Vec<String>, Failure> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let output = server.output();
        let lines: Vec<_> =
            output.lines().filter(|it| it.contains(marker)).map(str::to_owned).collect();
        if lines.len() >= count {
            return Ok(lines);
        }
        if Instant::now() > deadline {
            let problem = format!(
                "your server wrote {} lines about {count} requests for {marker}",
                lines.len()
            );
            let failure = Failure::new(problem).why(
                "Write one line about each request to stderr, also if it is answered with an error. If your language \
                 keeps the output in a buffer, flush it after each line.",
            );
            return Err(failure.output(&output).read(server.chapter()));
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// The fields of a line in the combined format: those between spaces, in brackets, and in quotes.
fn combined_fields(line: &str) -> Option<Vec<String>> {
    let (mut fields, mut rest) = (Vec::new(), line.trim_end());
    while !rest.is_empty() {
        let (field, after) = match rest.as_bytes()[0] {
            b'[' => rest[1..].split_once(']')?,
            b'"' => {
                let mut is_escaped = false;
                let end = rest[1..].find(|character| {
                    let is_end = character == '"' && !is_escaped;
                    is_escaped = character == '\\' && !is_escaped;
                    is_end
                })?;
                (&rest[1..][..end], &rest[end + 2..])
            }
            _ => rest.split_at(rest.find(' ').unwrap_or(rest.len())),
        };
        fields.push(field.to_owned());
        rest = match after.strip_prefix(' ') {
            Some(rest) => rest,
            None if after.is_empty() => after,
            None => return None,
        };
    }
    Some(fields)
}

fn log_failure(server: &Server, line: &str, problem: impl Into<String>, why: &str) -> Failure {
    // What is not printable would do here what it must not do in the log.
    let is_plain = |it: &char| !it.is_control() && it.escape_debug().count() == 1;
    let show = |it: char| match it {
        '"' | '\'' | '\\' | '\n' => it.to_string(),
        it if is_plain(&it) => it.to_string(),
        it => it.escape_unicode().to_string(),
    };
    let line: String = line.chars().map(show).collect();
    Failure::new(problem).output(&line).why(why).read(server.chapter())
}

#[test]
fn writes_a_line_for_each_request() -> Check {
    let server = Server::start_with_args("stage18", &["--log", "combined"])?;
    let why = "The format \"combined\" is that of Apache and nginx, so that their tools can read your log: address - - \
               [day/month/year:time zone] \"request line\" status bytes \"Referer\" \"User-Agent\". What is not known is \
               a \"-\".";
    for (method, target, status, bytes) in [
        ("GET", "/echo/line-1", "200", "6"),
        ("GET", "/missing/line-2?a=b", "404", ""),
        ("DELETE", "/echo/line-3", "405", ""),
        ("HEAD", "/echo/line-4", "200", ""),
    ] {
        let request = server.request(method, target).header("User-Agent: checker/1.0");
        let answer = request.header("Referer: http://a.example/page").send();
        answer.no_server_error().because(why)?;
        let marker = &target[target.find("line").unwrap_or_default()..][..6];
        let line = &lines_about(&server, marker, 1)?[0];
        let fields = combined_fields(line).filter(|fields| fields.len() == 9);
        let Some(fields) = fields else {
            return Err(log_failure(&server, line, "this line does not have nine fields", why));
        };
        let request_line = format!("{method} {target} HTTP/1.1");
        for (index, name, expected) in [
            (0, "the address", "127.0.0.1"),
            (4, "the request line", &request_line),
            (5, "the status", status),
            (6, "the number of bytes", bytes),
            (7, "the Referer", "http://a.example/page"),
            (8, "the User-Agent", "checker/1.0"),
        ] {
            let found = &fields[index];
            if !expected.is_empty() && found != expected {
                let problem = format!("{name} in this line is \"{found}\", not \"{expected}\"");
                return Err(log_failure(&server, line, problem, why));
            }
        }
        let date = &fields[3];
        let shape: String =
            date.chars().map(|it| if it.is_ascii_digit() { '0' } else { it }).collect();
        if date.len() != 26
            || !shape.ends_with("0000:00:00:00 +0000") && !shape.ends_with("0000:00:00:00 -0000")
        {
            let problem = format!(
                "the time in this line is \"{date}\", not like \"28/Nov/2026:14:05:09 +0000\""
            );
            return Err(log_failure(&server, line, problem, why));
        }
    }
    Ok(())
}

#[test]
fn writes_objects_for_programs() -> Check {
    let server = Server::start_with_args("stage18", &["--log", "json"])?;
    let why = "With --log json each line is a JSON object with these names: time, request_id, peer, method, target, \
               status, bytes, duration_ms, referer, user_agent.";
    let agent = "a \"quoted\" \\ agent, caf\u{e9}";
    let request = server.request("GET", "/echo/line-1?a=b").header(format!("User-Agent: {agent}"));
    let id = request.send().status(200).with("X-Request-Id").answer_because(why)?;
    let id = id.header("X-Request-Id").unwrap_or_default().to_owned();
    let line = &lines_about(&server, "line-1", 1)?[0];
    let entry: Value = serde_json::from_str(line).map_err(|error| {
        log_failure(&server, line, format!("this line is no JSON: {error}"), why)
    })?;
    for (name, expected) in [
        ("method", "GET".into()),
        ("target", "/echo/line-1?a=b".into()),
        ("status", 200.into()),
        ("bytes", 6.into()),
        ("request_id", id.into()),
        ("user_agent", agent.into()),
    ] {
        let expected: Value = expected;
        if entry[name] != expected {
            let problem = format!("\"{name}\" is {}, not {expected}", entry[name]);
            return Err(log_failure(&server, line, problem, why));
        }
    }
    let is_address = entry["peer"].as_str().is_some_and(|peer| peer.starts_with("127.0.0.1"));
    let is_time = entry["time"].as_str().is_some_and(|time| time.as_bytes().get(10) == Some(&b'T'));
    let is_duration = entry["duration_ms"].as_f64().is_some_and(|it| (0.0..5_000.0).contains(&it));
    for (is_right, name, words) in [
        (is_address, "peer", "the address, as in \"127.0.0.1:4242\""),
        (is_time, "time", "a time as in \"2026-11-28T14:05:09Z\""),
        (is_duration, "duration_ms", "a number of milliseconds"),
    ] {
        if !is_right {
            let problem = format!("\"{name}\" is {}, not {words}", entry[name]);
            return Err(log_failure(&server, line, problem, why));
        }
    }
    Ok(())
}

#[test]
fn no_request_forges_a_line() -> Check {
    let why = "A client chooses the target and most of the headers. If they reach the log as they are, a client can \
               end a line, and write the next one itself. Escape quotes, backslashes, and all that is not printable: also \
               the control characters after ASCII, and U+2028, which ends a line.";
    let long = "x".repeat(3_000);
    for format in ["combined", "json"] {
        let server = Server::start_with_args("stage18", &["--log", format])?;
        let agents: [&[u8]; 7] = [
            b"a\" 200 5 \"-\" \"line-9",
            b"a\\",
            b"a\\\" 200 5 \"-\" \"line-9",
            b"a\",\"target\":\"/line-9\",\"x\":\"",
            b"caf\xe9 \xff\xfe",
            "a\u{85}b\u{2028}c\u{9b}31m".as_bytes(),
            long.as_bytes(),
        ];
        for (number, agent) in agents.iter().enumerate() {
            let target = format!("/echo/mark{number}?a='b");
            let request = server.request("GET", &target).header([b"User-Agent: ", *agent].concat());
            request.send().no_server_error().because(why)?;
            let marker = format!("mark{number}");
            let line = &lines_about(&server, &marker, 1)?[0];
            let seen = match format {
                "json" => serde_json::from_str(line)
                    .ok()
                    .and_then(|entry: Value| Some(entry["target"].as_str()?.to_owned())),
                _ => combined_fields(line).filter(|it| it.len() == 9).map(|it| it[4].clone()),
            };
            let ends_lines = ['\u{85}', '\u{2028}', '\u{9b}'];
            if let Some(found) = line.chars().find(|it| ends_lines.contains(it)) {
                let problem = format!("the log has U+{:04X} as it is", u32::from(found));
                return Err(log_failure(&server, line, problem, why));
            }
            if !seen.is_some_and(|seen| seen.contains(&marker)) {
                return Err(log_failure(&server, line, "this line can be read in two ways", why));
            }
        }
        for secret in ["Authorization: Bearer top-secret-1", "Cookie: session=top-secret-2"] {
            let answer = server.request("GET", "/echo/mark8").header(secret).send().status(200);
            answer.because("A request with a password or a cookie is a request like others.")?;
        }
        lines_about(&server, "mark8", 2)?;
        if server.output().contains("top-secret") {
            let problem = "the log has the value of Authorization or Cookie";
            let why = "Logs are read by many, and kept for long. Passwords do not belong there.";
            return Err(log_failure(&server, &server.output(), problem, why));
        }
    }
    Ok(())
}

const ONE: &str = "http://a.example";
const OTHER: &str = "https://b.example:8443";

/// Asks as the script of a page does.
fn from_page(server: &Server, method: &str, path: &str, origin: &str) -> Exchange {
    server.request(method, path).header(format!("Origin: {origin}")).send()
}

#[test]
fn other_sites_may_read_what_they_are_allowed_to() -> Check {
    let server =
        Server::start_with_args("stage18", &["--allow-origin", ONE, "--allow-origin", OTHER])?;
    for (path, status) in [("/echo/a", 200), ("/missing", 404), ("/fail", 500), ("/echo", 400)] {
        for origin in [ONE, OTHER] {
            let answer = from_page(&server, "GET", path, origin).status(status);
            let answer = answer.header("Access-Control-Allow-Origin", origin);
            lists(answer, "Vary", "Origin").because(
                "A script of this page asks, and its browser shows it the answer only if \
                 Access-Control-Allow-Origin names the page's origin. That holds for errors, too. Vary: Origin tells \
                 caches that other pages get another answer.",
            )?;
        }
    }
    for origin in [
        "http://b.example",
        "http://a.example.evil",
        "http://evil-a.example",
        "https://a.example",
        "http://a.example:81",
        "http://sub.a.example",
        "http://a.exampl",
        "null",
    ] {
        let answer = from_page(&server, "GET", "/echo/a", origin).status(200);
        let answer = answer.no_header("Access-Control-Allow-Origin");
        lists(answer, "Vary", "Origin").because(
            "Only the origins of --allow-origin are allowed, letter by letter. \"null\" is the origin of any local file \
             and of any frame that hides where it is from.",
        )?;
    }
    let answer = server.get("/echo/a").status(200).no_header("Access-Control-Allow-Origin");
    lists(answer, "Vary", "Origin").because(
        "This request is from no page, or from a page of this site. The answer depends on the origin all the same: a \
         cache that keeps it must not give it to a page of another site.",
    )?;
    drop(server); // there may be one port for all
    let open = Server::start_with_args("stage18", &["--allow-origin", "*"])?;
    let answer = from_page(&open, "GET", "/echo/a", "http://c.example").status(200);
    answer
        .header("Access-Control-Allow-Origin", "*")
        .because("--allow-origin '*' allows every page.")?;
    drop(open);
    let closed = Server::start("stage18")?;
    let answer = from_page(&closed, "GET", "/echo/a", ONE).status(200);
    answer
        .no_header("Access-Control-Allow-Origin")
        .because("Without --allow-origin, no page is allowed.")
}

#[test]
fn a_preflight_is_answered_first() -> Check {
    let server = Server::start_with_args("stage18", &["--allow-origin", ONE])?;
    let preflight = |origin: &str, path: &str, method: &str| {
        let request = server.request("OPTIONS", path).header(format!("Origin: {origin}"));
        let request = request.header(format!("Access-Control-Request-Method: {method}"));
        request.header("Access-Control-Request-Headers: content-type").send()
    };
    for (path, method) in [("/files/a", "POST"), ("/echo/a", "GET")] {
        let answer = preflight(ONE, path, method).successful();
        let answer = answer.header("Access-Control-Allow-Origin", ONE);
        let answer = lists(answer, "Access-Control-Allow-Methods", method);
        let answer = lists(answer, "Access-Control-Allow-Headers", "Content-Type");
        let answer = ["Origin", "Access-Control-Request-Method", "Access-Control-Request-Headers"]
            .iter()
            .fold(answer, |answer, name| lists(answer, "Vary", name));
        answer.because(
            "Before a script may send such a request, its browser asks with OPTIONS whether it may. The answer depends \
             on the three headers that Vary names.",
        )?;
    }
    let answer = preflight("http://evil.example", "/files/a", "POST").no_server_error();
    answer
        .no_header("Access-Control-Allow-Origin")
        .no_header("Access-Control-Allow-Methods")
        .because("This origin is not allowed, so nothing is.")?;
    let answer = server.request("OPTIONS", "/files/a").header(format!("Origin: {ONE}")).send();
    answer.successful().allows("POST").because(
        "Without Access-Control-Request-Method this is no preflight, but the OPTIONS of stage 17.",
    )
}

#[test]
fn whoever_asks_too_often_has_to_wait() -> Check {
    const RATE: usize = 5;
    let args = ["--rate", "5", "--allow-origin", ONE, "--log", "combined"];
    let server = Server::start_with_args("stage18", &args)?;
    let why = "With --rate 5, an address may ask five times a second. More requests get 429 Too Many Requests, and \
               Retry-After says after how many seconds it is worth to ask again.";
    let (start, mut passed, mut refused) = (Instant::now(), 0, 0);
    while refused < 10 && start.elapsed() < TIMEOUT {
        let answer = from_page(&server, "GET", "/echo/a", ONE).status_in(&[200, 429]);
        if answer.has_status(200) {
            answer.because(why)?;
            passed += 1;
            // Twice as many are right for a server that counts from one full second to the next.
            if passed > 2 * RATE + (start.elapsed().as_secs_f64() * RATE as f64) as usize {
                let problem = "your server answers more than five requests in a second";
                return Err(Failure::new(problem).why(why).read(server.chapter()));
            }
            continue;
        }
        refused += 1;
        let answer = answer.with("X-Request-Id").with("Retry-After");
        let answer = answer.header("Access-Control-Allow-Origin", ONE);
        let answer = answer.expect("Retry-After: a number of seconds", |answer| {
            let found = answer.header("Retry-After").unwrap_or_default();
            match found.parse() {
                Ok(1..=60_u32) => Ok(()),
                _ => Err(Failure::new(format!("Retry-After is \"{found}\""))),
            }
        });
        answer.because(&format!(
            "{why} The id and the rules for other sites are around this answer as around all others."
        ))?;
    }
    if passed < RATE {
        let problem = format!("your server answers {passed} requests in a second, not {RATE}");
        return Err(Failure::new(problem).why(why).read(server.chapter()));
    }
    lines_with(&server, "\" 429 ", 1)?;
    let answer = server.get("/healthz").status(200);
    answer.because("/healthz asks only whether the server is alive, and is answered always.")?;
    #[cfg(target_os = "linux")]
    {
        let mut other = server.connect_from([127, 0, 0, 2].into())?;
        other.send(b"GET /echo/a HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
        let answer = server.answer(&mut other).status(200);
        answer.because(
            "This request is from another address, 127.0.0.2. Each address is counted alone.",
        )?;
    }
    let wait = server.get("/echo/a").status_in(&[200, 429]).answer_because(why)?;
    let wait = wait.header("Retry-After").and_then(|seconds| seconds.parse().ok()).unwrap_or(1);
    thread::sleep(Duration::from_secs(wait).min(TIMEOUT)); // as the server has asked for
    server.get("/echo/a").status(200).because("The time of Retry-After is over.")
}
