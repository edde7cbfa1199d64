//! Stage 19 · A JSON API: records that can be added, listed, changed and removed.
//!
//! A record is a JSON object below `/data`. The server gives it an id, and each version of it an ETag. So a client can
//! say which version it has seen, and two clients who change the same record do not undo each other's work.

use std::fs;
use std::io::{self, Write};
use std::thread;

use flate2::Compression;
use flate2::write::GzEncoder;
use harness::{Answer, Check, Exchange, Failure, Server, Value, json};

fn cannot(error: io::Error) -> Failure {
    Failure::new(format!("this check cannot prepare its files: {error}"))
}

/// Sends a body of JSON.
fn send(server: &Server, method: &str, path: &str, body: &str, lines: &[&str]) -> Exchange {
    let request = server.request(method, path).header("Content-Type: application/json");
    lines.iter().fold(request, |request, line| request.header(line)).body(body).send()
}

/// Adds a record, and returns its path.
fn add(server: &Server, data: &str) -> Result<String, Failure> {
    let answer = send(server, "POST", "/data", data, &[]).status(201).with("Location");
    let why = "POST /data with JSON adds a record. The answer is 201, with the path of the record in Location.";
    let answer = answer.answer_because(why)?;
    Ok(path_of(&answer))
}

/// The path in `Location`, which may be a URL.
fn path_of(answer: &Answer) -> String {
    let location = answer.header("Location").unwrap_or_default();
    location.find("/data").map_or("", |at| &location[at..]).to_owned()
}

/// Expects an object with these members, among others.
fn has_members(exchange: Exchange, expected: &Value) -> Exchange {
    let exchange = exchange.header("Content-Type", "application/json");
    exchange.expect(&format!("a JSON object with {expected}"), |answer| {
        let found: Value = serde_json::from_slice(&answer.body)
            .map_err(|error| Failure::new(format!("the body is no JSON: {error}")))?;
        let differs = |(name, value): &(&String, &Value)| found.get(*name) != Some(*value);
        match expected.as_object().and_then(|members| members.iter().find(differs)) {
            None => Ok(()),
            Some((name, value)) => {
                let found = found.get(name).map_or("missing".to_owned(), ToString::to_string);
                Err(Failure::new(format!("\"{name}\" is {found}, not {value}")))
            }
        }
    })
}

/// Expects an error that a program can read.
fn is_problem(exchange: Exchange, status: u16) -> Exchange {
    let exchange = exchange.status(status).header("Content-Type", "application/problem+json");
    exchange.expect("an object with status and title", |answer| {
        let found: Value = serde_json::from_slice(&answer.body)
            .map_err(|error| Failure::new(format!("the body is no JSON: {error}")))?;
        match (found["status"] == status, found["title"].is_string()) {
            (true, true) => Ok(()),
            _ => Err(Failure::new(format!(
                "the body is {found}, without a title, or with another status"
            ))),
        }
    })
}

/// The id in a path such as /data/7.
fn id_of(path: &str) -> u64 {
    path.rsplit('/').next().and_then(|id| id.parse().ok()).unwrap_or_default()
}

#[test]
fn keeps_what_it_is_given() -> Check {
    let server = Server::start("stage19")?;
    let mut last = 0;
    for text in [
        r#"{"title":"milk","done":false}"#,
        "{}",
        r#"{"text":"café \u0000 \ud83d\ude00 \"quoted\" \\ \n"}"#,
        r#"{"numbers":[0,-1,9007199254740993,18446744073709551615,0.1,1e300,-2.5e-7]}"#,
        r#"{"deep":{"a":[{"b":[null,true,[]]}]},"":"no name","a/b":1}"#,
        " \r\n\t{ \"spaces\" : 1 } \n",
    ] {
        let data: Value = serde_json::from_str(text).expect("this check sends JSON");
        let path = add(&server, text)?;
        let id = id_of(&path);
        if id <= last {
            let problem = format!("the id is {id}, after {last}");
            let why = "Each record gets an id of its own, larger than all before.";
            return Err(Failure::new(problem).why(why).read(server.chapter()));
        }
        last = id;
        let answer = has_members(server.get(&path).status(200), &json!({ "id": id, "data": data }));
        answer.with("ETag").because(
            "GET of the record's path gives it back: the same numbers, and the same texts, character by character. \
             ETag names this version of it.",
        )?;
    }
    let answer = send(&server, "POST", "/data", r#"{"a":1}"#, &[]).status(201);
    has_members(answer, &json!({ "id": last + 1 }))
        .because("The body of the answer has the id as well.")?;
    for path in [
        "/data/0",
        "/data/999",
        "/data/x",
        "/data/-1",
        "/data/1.0",
        "/data/99999999999999999999999",
    ] {
        is_problem(server.get(path), 404).because("There is no such record.")?;
    }
    server
        .request("DELETE", "/data")
        .send()
        .status(405)
        .allows("POST")
        .because("The list as a whole can be read, and added to. It cannot be deleted.")
}

#[test]
fn takes_the_fields_of_a_form() -> Check {
    let server = Server::start("stage19")?;
    let form = |content_type: &str, body: &[u8]| {
        server.request("POST", "/data").header(format!("Content-Type: {content_type}")).body(body)
    };
    let check = |answer: Exchange, data: Value, why: &str| {
        let answer = answer.status(201).with("Location").answer_because(why)?;
        let record = server.get(&path_of(&answer)).status(200);
        has_members(record, &json!({ "data": data })).because(why)
    };
    let encoded = "application/x-www-form-urlencoded";
    for (body, data) in [
        ("title=two+words&done=", json!({ "title": "two words", "done": "" })),
        ("a=1&b=x&a=2&a=3", json!({ "a": ["1", "2", "3"], "b": "x" })),
        ("caf%C3%A9=1%2B1%3D2%26&n=7", json!({ "café": "1+1=2&", "n": "7" })),
    ] {
        let why = "A form sends its fields like a query. They become texts, and a name that comes several times \
                   becomes a list.";
        check(form(encoded, body.as_bytes()).send(), data, why)?;
    }
    let multipart = "multipart/form-data; boundary=\"--a b\"";
    let body = b"this is to be skipped\r\n----a b\r\nContent-Disposition: form-data; name=\"title\"\r\n\r\nmilk\r\n\
        ----a b\r\ncontent-disposition: form-data; name=\"note\"\r\nContent-Type: text/plain\r\n\r\n\r\n--a\r\n----a \r\n\
        \r\n----a b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a;b.txt\"\r\n\
        Content-Type: text/css\r\n\r\np {}\r\n----a b\r\n\
        Content-Disposition: form-data; name=\"bytes\"; filename=\"x.bin\"\r\nContent-Type: image/png\r\n\r\n\xff\x00\xfe\r\n\
        ----a b--\r\nand so is this";
    let data = json!({
        "title": "milk",
        "note": "\r\n--a\r\n----a \r\n",
        "file": { "filename": "a;b.txt", "type": "text/css", "content": "p {}" },
        "bytes": { "filename": "x.bin", "type": "image/png", "base64": "/wD+" },
    });
    let why = "A form with files sends its fields in parts, with a boundary between them. The boundary belongs to the \
               line before it, with its line end. What looks nearly like it is content.";
    check(form(multipart, body).send(), data.clone(), why)?;
    for size in [7, 64] {
        let why = format!(
            "{why} Here the body arrives in pieces of {size} bytes: a boundary may be split anywhere."
        );
        check(form(multipart, body).send_body_in_pieces(size), data.clone(), &why)?;
    }
    let body = b"--a\r\nContent-Disposition: form-data; name=x\r\n\r\n\r\n--\r\n--a--\r\n";
    let answer = form("multipart/form-data; boundary=a", body).send_body_in_pieces(1);
    check(answer, json!({ "x": "\r\n--" }), "Here the body arrives byte by byte.")?;
    for (content_type, body) in [
        ("multipart/form-data", &b"--a\r\n\r\n--a--"[..]),
        (
            "multipart/form-data; boundary=a",
            b"--a\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nb",
        ),
        (
            "multipart/form-data; boundary=a",
            b"--a\r\nContent-Disposition: form-data\r\n\r\nb\r\n--a--\r\n",
        ),
        ("multipart/form-data; boundary=a", b"no boundary at all"),
        (encoded, b"a=%ff"),
    ] {
        is_problem(form(content_type, body).send(), 400).because(
            "This form is broken: no boundary, no end, no name, or no text. Nothing of it is kept.",
        )?;
    }
    Ok(())
}

#[test]
fn lists_page_by_page() -> Check {
    let server = Server::start("stage19")?;
    server
        .get("/data")
        .status(200)
        .json(&json!([]))
        .because("There are no records yet: an empty list.")?;
    let paths: Result<Vec<_>, _> =
        (1..=5).map(|n| add(&server, &format!(r#"{{"n":{n}}}"#))).collect();
    let ids: Vec<_> = paths?.iter().map(|path| id_of(path)).collect();
    let expected = |range: std::ops::Range<usize>| -> Value {
        range.map(|index| json!({ "id": ids[index], "data": { "n": index + 1 } })).collect()
    };
    let answer = server.get("/data").status(200).json(&expected(0..5));
    answer.no_header("Link").because("GET /data lists the records, the oldest first.")?;
    let why = "?limit=2 wants two records, and ?after=N those after the one with the id N. If there are more, Link names \
               the next page.";
    let mut path = "/data?limit=2".to_owned();
    for range in [0..2, 2..4, 4..5] {
        let is_last = range.end == 5;
        let answer = server.get(&path).status(200).json(&expected(range));
        if is_last {
            answer.no_header("Link").because("This is the last page, so there is no next one.")?;
            break;
        }
        let answer = answer.with("Link").answer_because(why)?;
        let link = answer.header("Link").unwrap_or_default();
        let target = link.split_once('<').and_then(|(_, rest)| rest.split_once('>'));
        path = match target {
            Some((target, rest)) if rest.replace(['"', ' '], "").contains("rel=next") => {
                target.find("/data").map_or("", |at| &target[at..]).to_owned()
            }
            _ => {
                let problem = format!("Link is \"{link}\", not like <…>; rel=\"next\"");
                return Err(Failure::new(problem).why(why).read(server.chapter()));
            }
        };
    }
    for query in ["limit=0", "limit=x", "limit=-1", "after=x", "limit="] {
        is_problem(server.get(&format!("/data?{query}")), 400)
            .because("This is no number of records.")?;
    }
    let answer = server.get(&format!("/data?after={}", ids[4])).status(200).json(&json!([]));
    answer.because("Nothing comes after the last record.")?;
    send(&server, "DELETE", &format!("/data/{}", ids[0]), "", &[])
        .successful()
        .because("It is deleted.")?;
    let answer = server.get(&format!("/data?limit=1&after={}", ids[1])).status(200);
    answer.json(&expected(2..3)).because(
        "The first record is gone. A page begins after an id, and not at a place in the list, so that no record is \
         skipped.",
    )
}

#[test]
fn changes_a_record() -> Check {
    let server = Server::start("stage19")?;
    let path = add(&server, r#"{"title":"milk","tags":["a"],"more":{"x":1,"y":2}}"#)?;
    let id = id_of(&path);
    for (method, body, data, why) in [
        (
            "PATCH",
            r#"{"title":"bread","more":{"x":null,"z":3}}"#,
            json!({ "title": "bread", "tags": ["a"], "more": { "y": 2, "z": 3 } }),
            "PATCH changes the members that it names, at all levels; null removes one (RFC 7396).",
        ),
        (
            "PATCH",
            r#"{"tags":["b","c"],"more":"none","new":{"a":{"b":null,"c":1}}}"#,
            json!({ "title": "bread", "tags": ["b", "c"], "more": "none", "new": { "a": { "c": 1 } } }),
            "A list is replaced as a whole, and so is what is no object. In what is new, null removes nothing, and is \
             left out.",
        ),
        (
            "PATCH",
            "{}",
            json!({ "title": "bread", "tags": ["b", "c"], "more": "none", "new": { "a": { "c": 1 } } }),
            "An \
          empty patch changes nothing.",
        ),
        (
            "PUT",
            r#"{"only":null}"#,
            json!({ "only": null }),
            "PUT replaces the whole. null is a value there.",
        ),
    ] {
        let answer = send(&server, method, &path, body, &[]).status(200).with("ETag");
        has_members(answer, &json!({ "id": id, "data": data })).because(why)?;
        has_members(server.get(&path).status(200), &json!({ "id": id, "data": data }))
            .because(why)?;
    }
    let merge = server.request("PATCH", &path).header("Content-Type: application/merge-patch+json");
    let answer = merge.body(r#"{"a":1}"#).send().status(200);
    answer.because(
        "application/merge-patch+json is the type that RFC 7396 has given to such a patch.",
    )?;
    send(&server, "DELETE", &path, "", &[])
        .status_in(&[204, 200])
        .because("DELETE removes the record.")?;
    for method in ["GET", "PUT", "PATCH", "DELETE"] {
        let body = if method == "GET" { "" } else { "{}" };
        let answer = send(&server, method, &path, body, &["If-Match: \"x\""]);
        is_problem(answer, 404).because("The record is gone. That counts before any condition.")?;
    }
    let next = id_of(&add(&server, "{}")?);
    if next <= id {
        let problem =
            format!("the new record has the id {next}, and an earlier one had the id {id}");
        let why = "An id is never used again: somebody may still have the old one, and would get a stranger's record.";
        return Err(Failure::new(problem).why(why).read(server.chapter()));
    }
    Ok(())
}

#[test]
fn only_who_knows_the_version_changes_it() -> Check {
    let server = Server::start("stage19")?;
    let path = add(&server, r#"{"n":0}"#)?;
    let etag = |server: &Server, path: &str| -> Result<String, Failure> {
        let answer = server.get(path).status(200).with("ETag");
        let answer =
            answer.answer_because("A record has an ETag, which names this version of it.")?;
        Ok(answer.header("ETag").unwrap_or_default().to_owned())
    };
    let first = etag(&server, &path)?;
    let unchanged = server.request("GET", &path).header(format!("If-None-Match: {first}")).send();
    unchanged.status(304).because("The client has this version already.")?;
    let matches = format!("If-Match: {first}");
    let answer = send(&server, "PUT", &path, r#"{"n":1}"#, &[&matches]).status(200).with("ETag");
    answer.because("The client has seen the current version, so it may replace it.")?;
    let why = "The client names a version that is no longer there: somebody else was quicker. With 412, that change is \
               not lost.";
    for method in ["PUT", "PATCH", "DELETE"] {
        let answer = send(&server, method, &path, r#"{"n":2}"#, &[&matches]);
        is_problem(answer, 412).because(why)?;
    }
    let record = server.get(&path).status(200);
    has_members(record, &json!({ "data": { "n": 1 } })).because(why)?;
    let changed = server.request("GET", &path).header(format!("If-None-Match: {first}")).send();
    changed.status(200).because("The client has an older version.")?;
    let same = send(&server, "PUT", &path, r#"{"n":0}"#, &[]).status(200);
    let same = same.expect("an ETag that the record has never had", |answer| {
        match answer.header("ETag") {
            Some(found) if *found != *first => Ok(()),
            found => Err(Failure::new(format!(
                "ETag is {}, as at the beginning",
                found.unwrap_or("missing")
            ))),
        }
    });
    same.because("The content is as at the beginning, and yet it has changed twice. Each change has an ETag of its own.")?;

    let current = format!("If-Match: {}", etag(&server, &path)?);
    let statuses: Vec<u16> = thread::scope(|scope| {
        let race = |number: usize| {
            let (server, path, current) = (&server, &path, &current);
            let body = format!(r#"{{"winner":{number}}}"#);
            move || {
                send(server, "PUT", path, &body, &[current])
                    .answer()
                    .map_or(0, |answer| answer.status)
            }
        };
        let clients: Vec<_> = (0..50).map(|number| scope.spawn(race(number))).collect();
        clients.into_iter().map(|client| client.join().unwrap_or(0)).collect()
    });
    let winners = statuses.iter().filter(|status| **status == 200).count();
    let losers = statuses.iter().filter(|status| **status == 412).count();
    if (winners, losers) != (1, 49) {
        let problem = match winners {
            0 => "none of fifty clients got 200",
            1 => "one of fifty clients got 200, and not all others got 412",
            _ => "more than one of fifty clients got 200",
        };
        let why = "Fifty clients replace the same version at the same time. Exactly one of them can be right: compare \
                   and replace while nobody else can.";
        return Err(server.finish(Failure::new(problem).why(why).read(server.chapter())));
    }
    drop(server); // there may be one port for all
    let strict = Server::start_with_args("stage19", &["--require-if-match"])?;
    let path = add(&strict, "{}")?;
    for method in ["PUT", "PATCH", "DELETE"] {
        is_problem(send(&strict, method, &path, "{}", &[]), 428).because(
            "With --require-if-match, nobody changes a record without saying which version they have seen: 428 \
             Precondition Required (RFC 6585).",
        )?;
    }
    let tag = etag(&strict, &path)?;
    let answer = send(&strict, "PUT", &path, "{}", &[&format!("If-Match: {tag}")]);
    answer.status(200).because("This client says it.")
}

#[test]
fn refuses_what_it_cannot_keep() -> Check {
    let server = Server::start_with_args("stage19", &["--max-json", "100000"])?;
    let path = add(&server, r#"{"n":0}"#)?;
    let untyped = server.request("POST", "/data").body("{}").send();
    is_problem(untyped, 415).with("Accept").because(
        "Without a Content-Type, nobody knows what the bytes are. 415 says in Accept what is understood (RFC 9110, \
         section 15.5.16).",
    )?;
    for content_type in ["text/plain", "application/xml", "text/json", "application/jsonx"] {
        let request =
            server.request("POST", "/data").header(format!("Content-Type: {content_type}"));
        is_problem(request.body("{}").send(), 415)
            .with("Accept")
            .because("This type is not understood here.")?;
    }
    let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    for text in [
        "",
        "{",
        "{\"a\":1,}",
        "{\"a\":01}",
        "{'a':1}",
        "{\"a\":NaN}",
        "{\"a\":1} x",
        "{\"a\":\"\t\"}",
        "{\"a\":\"\\x\"}",
        "{\"a\":\"\\ud83d\"}",
        "{\"a\":1,\"a\":2}",
        "{\"a\":1e400}",
        &format!("{{\"a\":{deep}}}"),
    ] {
        is_problem(send(&server, "POST", "/data", text, &[]), 400).because(
            "This is no JSON, or it would come back changed: a name that comes twice, half a character, a number that is \
             too large. 20,000 levels are no reason to crash, either.",
        )?;
    }
    let request = server.request("POST", "/data").header("Content-Type: application/json");
    is_problem(request.body(b"{\"a\":\"\xff\"}").send(), 400)
        .because("JSON is UTF-8, and this is not.")?;
    let answer = send(&server, "POST", "/data", "{\n  \"a\": 1,\n  \"b\": ?\n}", &[]);
    let answer = is_problem(answer, 400).expect("a detail that names line 3", |answer| {
        let found: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        match found["detail"].as_str().is_some_and(|detail| detail.contains('3')) {
            true => Ok(()),
            false => {
                Err(Failure::new(format!("\"detail\" is {}, without the line", found["detail"])))
            }
        }
    });
    answer
        .because("Whoever has made a mistake wants to know where. Say the line, and the column.")?;
    for text in ["[]", "\"text\"", "1", "null", "true"] {
        for (method, path) in [("POST", "/data"), ("PUT", &*path), ("PATCH", &*path)] {
            is_problem(send(&server, method, path, text, &[]), 422).because(
                "This is JSON, but no object. The syntax is right, and the content cannot be used: 422.",
            )?;
        }
    }
    let large = format!(r#"{{"a":"{}"}}"#, "x".repeat(100_000));
    is_problem(send(&server, "POST", "/data", &large, &[]), 413)
        .because("With --max-json 100000, a body of JSON may have that many bytes.")?;
    let record = server.get(&path).status(200);
    has_members(record, &json!({ "data": { "n": 0 } }))
        .because("What was refused has changed nothing.")
}

#[test]
fn stores_the_files_of_a_form() -> Check {
    let server = Server::start_with_directory("stage19")?;
    let large = "0123456789".repeat(30_000);
    let part = |name: &str, filename: &str, content: &str| {
        format!(
            "--x\r\nContent-Disposition: form-data; name=\"{name}\"{filename}\r\n\r\n{content}\r\n"
        )
    };
    let body = [
        part("note", "", "not a file"),
        part("files", "; filename=\"a b.txt\"", "first"),
        part("files", "; filename=\"C:\\\\docs\\\\b.txt\"", &large),
        part("other", "; filename=\"/etc/../c.txt\"", "third"),
        "--x--\r\n".to_owned(),
    ]
    .concat();
    let request = |body: &str| {
        let request = server.request("POST", "/files/");
        request.header("Content-Type: multipart/form-data; boundary=x").body(body)
    };
    let answer = request(&body).send_body_in_pieces(10_000).status(201);
    let places = json!(["/files/a%20b.txt", "/files/b.txt", "/files/c.txt"]);
    answer.json(&places).because(
        "POST /files/ takes a form, and stores its files, each under the last part of its name. The answer is the list \
         of their paths.",
    )?;
    for (path, content) in
        [("/files/a%20b.txt", "first"), ("/files/b.txt", &large), ("/files/c.txt", "third")]
    {
        server
            .get(path)
            .status(200)
            .body(content)
            .because("The file has been stored, byte by byte.")?;
    }
    for name in ["", ".", ".."] {
        let body = part("f", &format!("; filename=\"x/{name}\""), "bad") + "--x--\r\n";
        let answer = request(&body).send().refused();
        answer.because("This is no name of a file.")?;
    }
    let names: Result<Vec<_>, _> = fs::read_dir(server.directory()).map_err(cannot)?.collect();
    let count = names.map_err(cannot)?.len();
    if count != 3 {
        let problem = format!("there are {count} files in the directory, not 3");
        return Err(Failure::new(problem).why("The form has three files.").read(server.chapter()));
    }
    Ok(())
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).map_err(cannot)
}

#[test]
fn unpacks_compressed_bodies() -> Check {
    let server = Server::start_with_args("stage19", &["--max-body", "1000000"])?;
    let upload = |coding: &str, body: &[u8]| {
        let request =
            server.request("POST", "/files/a").header(format!("Content-Encoding: {coding}"));
        request.body(body).send()
    };
    let text = "to be compressed ".repeat(1_000);
    let why = "Content-Encoding: gzip says that the body has been compressed for the way. Unpack it before you use it.";
    for coding in ["gzip", "GZIP"] {
        upload(coding, &gzip(text.as_bytes())?).successful().because(why)?;
        server.get("/files/a").status(200).body(&text).because(why)?;
    }
    let request = server.request("POST", "/data").header("Content-Type: application/json");
    let answer =
        request.header("Content-Encoding: gzip").body(gzip(br#"{"a":1}"#)?).send().status(201);
    let answer = answer.with("Location").answer_because(why)?;
    let record = server.get(&path_of(&answer)).status(200);
    has_members(record, &json!({ "data": { "a": 1 } })).because(why)?;
    let zeros = gzip(&vec![0; 5_000_000])?;
    upload("gzip", &zeros).status(413).because(
        "These 5 kB are 5 MB of zeros, and --max-body is 1 MB. What counts is the length after unpacking, and the \
         unpacking stops there.",
    )?;
    let packed = gzip(text.as_bytes())?;
    for broken in [&b"no gzip"[..], &packed[..packed.len() / 2], &[&packed[..], b"more"].concat()] {
        upload("gzip", broken)
            .status(400)
            .because("This is not what its Content-Encoding says.")?;
    }
    for coding in ["br", "gzip, br", "gzip, gzip"] {
        let answer = upload(coding, &packed).status(415);
        answer.because("Only gzip is unpacked here, and only once. 415 for the rest.")?;
    }
    server.get("/files/a").status(200).body(&text).because("What was refused has not been stored.")
}
