//! Stage 19 with one mistake, chosen by `MISTAKE`; tests/wrong_servers.rs says which check must catch it. Look for
//! `is("…")`: that is where the mistake is.

mod mistake;

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use common::{Directory, Outcome, Request, Response, Validators, evaluate, form_pairs};
use mistake::is;
use serde_json::{Map, Value, json};

const TYPES: &str = "application/json, application/x-www-form-urlencoded, multipart/form-data";

fn main() -> ExitCode {
    common::run_api(|args| {
        let files = args.files();
        let mut app = args.app(&files);
        if !is("takes-no-forms-with-files") {
            let files = files.clone();
            app.post("/files/", move |request| answer(store_form(request, &files)));
        }
        let server = Arc::new(Server {
            records: Mutex::default(),
            limit: args.max_json,
            strict: args.require_if_match,
        });
        for (method, pattern) in [
            ("GET", "/data"),
            ("POST", "/data"),
            ("GET", "/data/:id"),
            ("PUT", "/data/:id"),
            ("PATCH", "/data/:id"),
            ("DELETE", "/data/:id"),
        ] {
            let server = Arc::clone(&server);
            app.route(method, pattern, move |request| {
                answer(match pattern {
                    "/data" => server.list_or_add(request),
                    _ => server.show_or_change(request),
                })
            });
        }
        app.wrap(|request, next| match request.header("Content-Encoding") {
            Some(_) if is("does-not-unpack") => Response::new(415),
            _ => next(request),
        });
        args.run(app)
    })
}

/// A status, a sentence, and a header.
struct Problem(u16, String, Option<(&'static str, &'static str)>);

fn problem(status: u16, detail: impl Into<String>) -> Problem {
    Problem(status, detail.into(), None)
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Problem {
        let refused = common::Refused::inside(&error);
        problem(
            refused.map_or(if error.kind() == io::ErrorKind::NotFound { 404 } else { 500 }, |it| {
                it.status
            }),
            "",
        )
    }
}

impl From<common::Refused> for Problem {
    fn from(refused: common::Refused) -> Problem {
        problem(refused.status, refused.why)
    }
}

fn answer(result: Result<Response, Problem>) -> io::Result<Response> {
    let Problem(status, detail, header) = match result {
        Ok(response) => return Ok(response),
        Err(problem) => problem,
    };
    let title = common::reason(status);
    let shown = if is("problems-with-another-status") { 200 } else { status };
    let text = json!({ "title": title, "status": shown, "detail": detail }).to_string();
    let response = match () {
        () if is("problems-as-text") => Response::text(detail),
        () if is("problems-as-plain-json") => Response::json(text),
        () => Response::of_type("application/problem+json", text),
    };
    let response = response.with_status(status);
    Ok(match header {
        Some((name, value)) if !is("does-not-say-what-it-takes") => response.header(name, value),
        _ => response,
    })
}

struct Server {
    records: Mutex<Records>,
    limit: u64,
    strict: bool,
}

#[derive(Default)]
struct Records {
    last_id: u64,
    revision: u64,
    by_id: BTreeMap<u64, (u64, Value)>,
}

impl Server {
    fn lock(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn list_or_add(&self, request: &Request) -> Result<Response, Problem> {
        if request.method() != "POST" {
            return self.list(request);
        }
        let data = read(request, TYPES, self.limit)?;
        let mut records = self.lock();
        let used = records.by_id.keys().next_back().copied().unwrap_or_default();
        let id = 1 + match () {
            () if is("uses-ids-again") => used,
            () if is("one-id-for-all") => 0,
            () => records.last_id,
        };
        records.last_id = id;
        records.revision += 1;
        let revision = records.revision;
        records.by_id.insert(id, (revision, data));
        let status = if is("adds-with-200") { 200 } else { 201 };
        let text = if is("answers-without-the-id") { json!({}) } else { json!({ "id": id }) };
        let response = Response::json(text.to_string()).with_status(status);
        Ok(match is("does-not-say-where") {
            true => response,
            false => response.header("Location", format!("/data/{id}")),
        })
    }

    fn list(&self, request: &Request) -> Result<Response, Problem> {
        let number = |name: &str, otherwise: u64| match request.query(name) {
            Some(_) if is("ignores-the-page") => Ok(otherwise),
            Some(text) => match text.parse() {
                Ok(number) => Ok(number),
                Err(_) if is("bad-limits-are-ignored") => Ok(otherwise),
                Err(_) => Err(problem(400, "no number")),
            },
            None => Ok(otherwise),
        };
        let (limit, after) = (number("limit", 100)?, number("after", 0)?);
        if limit == 0 && !is("bad-limits-are-ignored") {
            return Err(problem(400, "limit is 0"));
        }
        let records = self.lock();
        let list: Vec<_> = match is("pages-begin-at-a-place") {
            true => records.by_id.iter().skip(after as usize).collect(),
            false => records.by_id.range(after + 1..).collect(),
        };
        let shown: Vec<_> = list.iter().take(limit as usize).collect();
        let last = shown.last().map_or(0, |(id, _)| **id);
        let place = after + shown.len() as u64;
        let next = if is("pages-begin-at-a-place") { place } else { last };
        let has_more = match is("always-has-a-next-page") {
            true => !shown.is_empty(),
            false => list.len() > shown.len(),
        };
        let data: Vec<Value> = shown
            .iter()
            .map(|(id, (_, data))| match is("lists-without-ids") {
                true => data.clone(),
                false => json!({ "id": id, "data": data }),
            })
            .collect();
        let response = Response::json(Value::from(data).to_string());
        Ok(match has_more && !is("never-has-a-next-page") {
            true => {
                response.header("Link", format!("</data?limit={limit}&after={next}>; rel=\"next\""))
            }
            false => response,
        })
    }

    fn show_or_change(&self, request: &Request) -> Result<Response, Problem> {
        let missing = || problem(404, "there is no such record");
        let id: u64 = match request.param("id")?.parse() {
            Ok(id) => id,
            Err(_) if is("bad-ids-are-errors") => return Err(problem(500, "invalid digit")),
            Err(_) => return Err(missing()),
        };
        let current = self.lock().by_id.get(&id).cloned();
        if current.is_none()
            && is("conditions-before-existence")
            && request.header("If-Match").is_some()
        {
            return Err(problem(412, "there is no such version"));
        }
        let (revision, data) = current.ok_or_else(missing)?;
        if request.method() == "GET" || request.method() == "HEAD" {
            return Ok(show(request, id, revision, &data));
        }
        self.expected(request, revision, &data)?;
        let patched = match request.method() {
            "DELETE" => None,
            "PATCH" => {
                let types = match is("patches-have-one-type") {
                    true => "application/json",
                    false => "application/merge-patch+json, application/json",
                };
                Some(read(request, types, self.limit)?)
            }
            _ => Some(read(request, "application/json", self.limit)?),
        };
        if is("compares-before-it-replaces") {
            thread::sleep(Duration::from_millis(5));
        }
        let mut records = self.lock();
        let (revision, mut data) = records.by_id.get(&id).cloned().ok_or_else(missing)?;
        if !is("compares-before-it-replaces") {
            self.expected(request, revision, &data)?;
        }
        records.revision += 1;
        let revision = records.revision;
        match patched {
            None => {
                records.by_id.remove(&id);
                return Ok(Response::new(204));
            }
            Some(body) if request.method() == "PATCH" && !is("patch-replaces") => {
                merge(&mut data, body, 0)
            }
            Some(body) if is("put-merges") => merge(&mut data, body, 0),
            Some(body) => data = body,
        }
        records.by_id.insert(id, (revision, data.clone()));
        Ok(show(request, id, revision, &data))
    }

    fn expected(&self, request: &Request, revision: u64, data: &Value) -> Result<(), Problem> {
        if self.strict && request.header("If-Match").is_none() && !is("never-requires-a-version") {
            return Err(problem(428, "send If-Match"));
        }
        match evaluate(request, Some(&validators(revision, data)), common::now()) {
            Outcome::Failed if !is("ignores-if-match") => Err(problem(412, "another version")),
            _ => Ok(()),
        }
    }
}

fn validators(revision: u64, data: &Value) -> Validators {
    let etag = match is("tags-of-the-content") {
        true => format!("\"{data}\"").replace('"', "").replace(['{', '}', ':'], ""),
        false => revision.to_string(),
    };
    Validators { etag: format!("\"{etag}\""), modified: 0 }
}

fn show(request: &Request, id: u64, revision: u64, data: &Value) -> Response {
    let validators = validators(revision, data);
    let is_same = evaluate(request, Some(&validators), common::now()) == Outcome::NotModified;
    let response = match is_same && !is("sends-what-the-client-has") {
        true => Response::new(304),
        false if is("shows-the-data-alone") => Response::json(data.to_string()),
        false => Response::json(json!({ "id": id, "data": data }).to_string()),
    };
    if is("has-no-tags") { response } else { response.header("ETag", validators.etag) }
}

fn merge(target: &mut Value, patch: Value, level: usize) {
    let Value::Object(patch) = patch else { return *target = patch };
    if level > 0 && is("merges-the-top-only") {
        return *target = Value::Object(patch);
    }
    if !target.is_object() {
        *target = Value::Object(Map::new());
        if is("keeps-null-in-what-is-new") {
            return *target = Value::Object(patch);
        }
    }
    let Value::Object(members) = target else { return };
    for (name, value) in patch {
        match (value, members.get_mut(&name)) {
            (Value::Null, _) if !is("null-is-a-value") => drop(members.remove(&name)),
            (Value::Array(new), Some(Value::Array(old))) if is("joins-lists") => old.extend(new),
            (value, _) => merge(members.entry(name).or_insert(Value::Null), value, level + 1),
        }
    }
}

fn read(request: &Request, types: &'static str, limit: u64) -> Result<Value, Problem> {
    let content_type =
        String::from_utf8_lossy(request.header("Content-Type").unwrap_or_default()).into_owned();
    let name = content_type.split(';').next().unwrap_or_default().to_ascii_lowercase();
    let is_known = match () {
        () if is("any-type-will-do") => true,
        () if is("json-somewhere-will-do") => {
            name.contains("json") || types.contains(&name) && !name.is_empty()
        }
        () if is("no-type-is-json") && name.is_empty() => true,
        () => types.split(", ").any(|it| it == name),
    };
    if !is_known {
        return Err(Problem(415, "send JSON".into(), Some(("Accept", types))));
    }
    let mut body = Vec::new();
    request.body()?.read_to_end(&mut body)?;
    if body.len() as u64 > limit && !is("takes-any-size") {
        return Err(problem(413, "too large"));
    }
    let value = match &*name {
        "application/x-www-form-urlencoded" => encoded(&body)?,
        "multipart/form-data" => multipart(&content_type, &body)?.1,
        _ if is("parses-by-hand") => lenient(&body)?,
        _ => strict(&body)?,
    };
    match value {
        Value::Object(_) => Ok(value),
        value if is("takes-any-json") => Ok(value),
        _ if is("says-400-to-lists") => Err(problem(400, "no object")),
        _ => Err(problem(422, "no object")),
    }
}

fn strict(body: &[u8]) -> Result<Value, Problem> {
    let checked = || match is("takes-names-twice") || is("takes-infinity") {
        true => serde_json::from_slice(body).map_err(|error| error.to_string()),
        false => json::parse(body),
    };
    let text = String::from_utf8_lossy(body);
    if is("takes-infinity") && text.contains("1e400") {
        return Ok(json!({ "a": null }));
    }
    let mut value = checked().map_err(|error| match is("does-not-say-where-json-is-wrong") {
        true => problem(400, "this is no JSON"),
        false => problem(400, error),
    })?;
    if is("numbers-are-doubles") {
        round(&mut value);
    }
    Ok(value)
}

/// JSON as a program takes it that looks for braces.
fn lenient(body: &[u8]) -> Result<Value, Problem> {
    let text = String::from_utf8_lossy(body).replace('\'', "\"").replace(",}", "}");
    serde_json::from_str(&text).map_err(|error| problem(400, error.to_string()))
}

fn round(value: &mut Value) {
    match value {
        Value::Number(number) => {
            *value = number.as_f64().map_or(Value::Null, |it| json!(it as i64))
        }
        Value::Array(list) => list.iter_mut().for_each(round),
        Value::Object(members) => members.values_mut().for_each(round),
        _ => {}
    }
}

fn put(object: &mut Map<String, Value>, name: String, value: Value) {
    match object.get_mut(&name) {
        Some(_) if is("takes-the-last-field") => drop(object.insert(name, value)),
        None => drop(object.insert(name, value)),
        Some(Value::Array(list)) => list.push(value),
        Some(first) => *first = json!([first.take(), value]),
    }
}

fn encoded(body: &[u8]) -> Result<Value, Problem> {
    let mut object = Map::new();
    for (name, value) in form_pairs(body)? {
        let value = match value.parse::<u32>() {
            Ok(number) if is("fields-become-numbers") => json!(number),
            _ => json!(value),
        };
        put(&mut object, name, value);
    }
    Ok(Value::Object(object))
}

/// The names and contents of files.
type Files = Vec<(String, Vec<u8>)>;

/// The files of a form, and all fields as an object.
fn multipart(content_type: &str, body: &[u8]) -> Result<(Files, Value), Problem> {
    let wrong = || problem(400, "a broken form");
    let (_, boundary) = content_type.split_once("boundary=").ok_or_else(wrong)?;
    let boundary = boundary.trim_matches('"');
    let marker = match () {
        () if is("boundaries-need-no-line-end") => format!("--{boundary}"),
        () => format!("\r\n--{boundary}"),
    };
    let body = [b"\r\n", body].concat();
    let mut parts = split(&body, marker.as_bytes()).into_iter().skip(1);
    let (mut files, mut object, mut is_closed) = (Vec::new(), Map::new(), false);
    for part in parts.by_ref() {
        if part.starts_with(b"--") {
            is_closed = true;
            break;
        }
        let text = String::from_utf8_lossy(part);
        let (head, _) = text.split_once("\r\n\r\n").ok_or_else(wrong)?;
        let content = &part[head.len() + 4..];
        let content = if is("trims-fields") { content.trim_ascii() } else { content };
        let parameter = |name: &str| {
            let (_, rest) = head.split_once(&format!("{name}="))?;
            match rest.strip_prefix('"') {
                Some(quoted) => Some(quoted.split('"').next()?.to_owned()),
                None => Some(rest.split([';', '\r']).next()?.to_owned()),
            }
        };
        let name = parameter(" name").ok_or_else(wrong)?;
        let lines: Vec<_> = head.lines().filter_map(|line| line.split_once(": ")).collect();
        let is_type = |(name, _): &&(&str, &str)| name.eq_ignore_ascii_case("Content-Type");
        let of_part = lines.iter().find(is_type).map_or("text/plain", |(_, value)| value);
        let value = match (parameter("filename"), std::str::from_utf8(content)) {
            (None, Ok(text)) => json!(text),
            (Some(filename), text) => {
                files.push((filename.clone(), content.to_owned()));
                match text {
                    Ok(text) => json!({ "filename": filename, "type": of_part, "content": text }),
                    Err(_) if is("bytes-become-text") => {
                        json!({ "filename": filename, "type": of_part, "content": String::from_utf8_lossy(content) })
                    }
                    Err(_) => {
                        json!({ "filename": filename, "type": of_part, "base64": base64(content) })
                    }
                }
            }
            (None, Err(_)) => return Err(wrong()),
        };
        put(&mut object, name, value);
    }
    match is_closed || is("forms-need-no-end") {
        true => Ok((files, Value::Object(object))),
        false => Err(wrong()),
    }
}

fn split<'b>(bytes: &'b [u8], marker: &[u8]) -> Vec<&'b [u8]> {
    let (mut parts, mut rest) = (Vec::new(), bytes);
    while let Some(at) = rest.windows(marker.len()).position(|window| window == marker) {
        parts.push(&rest[..at]);
        rest = &rest[at + marker.len()..];
    }
    parts.push(rest);
    parts
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let encode = |three: &[u8]| -> String {
        let bits = three.iter().fold(0, |bits, byte| bits << 8 | usize::from(*byte))
            << (8 * (3 - three.len()));
        let digit = |index: usize| match index <= three.len() {
            true => char::from(DIGITS[bits >> (18 - 6 * index) & 63]),
            false => '=',
        };
        (0..4).map(digit).collect()
    };
    bytes.chunks(3).map(encode).collect()
}

fn store_form(request: &Request, files: &Directory) -> Result<Response, Problem> {
    let content_type =
        String::from_utf8_lossy(request.header("Content-Type").unwrap_or_default()).into_owned();
    let mut body = Vec::new();
    request.body()?.read_to_end(&mut body)?;
    let mut places = Vec::new();
    for (filename, content) in multipart(&content_type, &body)?.0 {
        let name = match is("takes-paths-for-names") {
            true => filename.trim_start_matches('/').to_owned(),
            false => filename.rsplit(['/', '\\']).next().unwrap_or_default().to_owned(),
        };
        let name = if name.is_empty() && is("invents-names") { "unnamed".to_owned() } else { name };
        files.store_as(Path::new(&name), &content[..])?;
        places.push(match is("places-without-escapes") {
            true => format!("/files/{name}"),
            false => common::path_of("/files/", &name),
        });
        if is("stores-the-first-file-only") {
            break;
        }
    }
    Ok(Response::json(json!(places).to_string()).with_status(201))
}
