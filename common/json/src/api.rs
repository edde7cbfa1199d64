//! Records behind a path (stage 19's lasting form).

use std::io;
use std::path::Path;
use std::sync::Arc;

use common::{
    App, Directory, Events, Outcome, Request, Response, Validators, evaluate, now, path_of,
};
use serde_json::{Value, json};

use crate::body::{self, JSON, PATCH_TYPES, TYPES};
use crate::multipart::Multipart;
use crate::patch::merged;
use crate::problem::{Problem, answer};
use crate::records::{Change, Event, EventKind, Observer, Record, Room, Store};

/// How many records a page has, if the client does not say, and at most.
const PAGE: usize = 100;
const MAX_PAGE: usize = 1_000;

/// How many bytes of JSON a page has at most, unless its first record has more.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// How many bytes a body of JSON may have, if nothing else is said.
const MAX_BODY: u64 = 1024 * 1024;

/// How records are offered. By default, a body may have a mebibyte, and no `If-Match` is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// How many bytes a body may have.
    pub max_body: u64,
    /// Whether a record can only be changed by who says which version it has seen.
    pub require_if_match: bool,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules { max_body: MAX_BODY, require_if_match: false }
    }
}

/// Reads a body of JSON, or the fields of a form, as one object. `limit` is in bytes.
///
/// # Errors
///
/// The problem that the client should hear of: 400, 413, 415 or 422.
pub fn read(request: &Request, limit: u64) -> Result<Value, Problem> {
    body::read(request, TYPES, limit)
}

/// Adds the routes for the records of a store: `GET` and `POST` for `/data`, and `GET`, `PUT`, `PATCH` and `DELETE` for
/// `/data/:id`.
pub fn add_records(app: &mut App, store: &Arc<dyn Store>, rules: Rules) {
    let api = Arc::new(Api { store: Arc::clone(store), rules });
    let handler = |handle: fn(&Api, &Request) -> Result<Response, Problem>| {
        let api = Arc::clone(&api);
        move |request: &Request| answer(handle(&api, request))
    };
    if store.is_far_away() {
        app.slow_route("GET", "/data", handler(Api::list));
        app.slow_route("GET", "/data/:id", handler(Api::show));
    } else {
        app.get("/data", handler(Api::list));
        app.get("/data/:id", handler(Api::show));
    }
    // A store may have to wait for its disk.
    app.slow_route("POST", "/data", handler(Api::add));
    app.slow_route("PUT", "/data/:id", handler(Api::replace));
    app.slow_route("PATCH", "/data/:id", handler(Api::patch));
    app.slow_route("DELETE", "/data/:id", handler(Api::delete));
}

/// Adds the route `GET /data/events`, which tells of each change of the records. The store must be observed by these
/// events. From stage 21.
pub fn add_events(app: &mut App, events: &Events) {
    let watched = events.clone();
    app.get("/data/events", move |request| {
        let watch = watched.watch(request.header("Last-Event-ID"));
        let full = || Response::new(503).header("Retry-After", "5");
        Ok(watch.map_or_else(full, Response::events))
    });
    let ended = events.clone();
    app.at_stop(move || ended.close());
}

impl Observer for Events {
    fn begin(&self, revision: u64) {
        Events::begin(self, revision);
    }

    fn kept(&self, event: Event) {
        let Event { id, revision, kind, data } = event;
        let record = format!("{{\"data\":{data},\"id\":{id}}}");
        match kind {
            EventKind::Created => self.send(revision, "created", &record),
            EventKind::Changed => self.send(revision, "changed", &record),
            EventKind::Deleted => self.send(revision, "deleted", &format!("{{\"id\":{id}}}")),
        }
    }
}

/// Adds the route `POST /files/`, which stores the files of a form.
pub fn add_form_files(app: &mut App, files: &Directory) {
    let files = files.clone();
    app.slow_route("POST", "/files/", move |request| answer(store_files(request, &files)));
}

struct Api {
    store: Arc<dyn Store>,
    rules: Rules,
}

impl Api {
    fn add(&self, request: &Request) -> Result<Response, Problem> {
        let id = self.store.add(body::read(request, TYPES, self.rules.max_body)?)?.id;
        let response = Response::json(json!({ "id": id }).to_string()).with_status(201);
        Ok(response.header("Location", format!("/data/{id}")))
    }

    /// A page of the records, and where the next one begins.
    fn list(&self, request: &Request) -> Result<Response, Problem> {
        let number = |name: &str, otherwise: u64| match request.query(name) {
            None => Ok(otherwise),
            Some(text) => {
                text.parse().map_err(|_| Problem::new(400, format!("{name} is no number")))
            }
        };
        let limit = match number("limit", PAGE as u64)? {
            0 => return Err(Problem::new(400, "limit is 0")),
            limit => usize::try_from(limit).unwrap_or(MAX_PAGE).min(MAX_PAGE),
        };
        let room = Room { records: limit, bytes: MAX_BYTES };
        let page = self.store.page(number("after", 0)?, room)?;
        let list: Vec<Value> = page.records.iter().map(object).collect();
        let response = Response::json(Value::from(list).to_string());
        let response = response.header("Cache-Control", "no-cache");
        Ok(match page.records.last().filter(|_| page.has_more) {
            None => response,
            Some(last) => response
                .header("Link", format!("</data?limit={limit}&after={}>; rel=\"next\"", last.id)),
        })
    }

    fn show(&self, request: &Request) -> Result<Response, Problem> {
        Ok(shown(request, &self.found(request)?))
    }

    fn replace(&self, request: &Request) -> Result<Response, Problem> {
        let body = || body::read(request, JSON, self.rules.max_body);
        let record = self.change(request, body, |_, data| Change::Replace(data))?;
        Ok(shown(request, &record))
    }

    fn patch(&self, request: &Request) -> Result<Response, Problem> {
        let body = || body::read(request, PATCH_TYPES, self.rules.max_body);
        let record =
            self.change(request, body, |data, patch| Change::Replace(merged(data.clone(), patch)))?;
        Ok(shown(request, &record))
    }

    fn delete(&self, request: &Request) -> Result<Response, Problem> {
        self.change(request, || Ok(Value::Null), |_, _| Change::Delete)?;
        Ok(Response::new(204))
    }

    /// The record that the path names.
    fn found(&self, request: &Request) -> Result<Record, Problem> {
        let id = request.param("id")?;
        let is_number = id.bytes().all(|byte| byte.is_ascii_digit()) && !id.starts_with('0');
        let id = id.parse().ok().filter(|_| is_number).ok_or_else(missing)?;
        self.store.get(id)?.ok_or_else(missing)
    }

    /// Changes a record, if it is the one that the client expects. What the client sends may take long to arrive, so it
    /// is read before anybody has to wait for the record.
    fn change(
        &self,
        request: &Request,
        body: impl FnOnce() -> Result<Value, Problem>,
        apply: impl Fn(&Value, Value) -> Change,
    ) -> Result<Record, Problem> {
        let known = self.found(request)?;
        self.check(request, &known)?;
        let body = body()?;
        let changed = self.store.change(known.id, &mut |current| {
            self.check(request, current)?;
            Ok(apply(&current.data, body.clone()))
        })?;
        changed.ok_or_else(missing)
    }

    /// Whether the conditions of a request hold for a record: 412 if they do not, and 428 if there must be some (RFC
    /// 6585, section 3).
    fn check(&self, request: &Request, record: &Record) -> Result<(), Problem> {
        if self.rules.require_if_match && request.header("If-Match").is_none() {
            let detail = "send If-Match, with the ETag of the version that you have seen";
            return Err(Problem::new(428, detail));
        }
        match evaluate(request, Some(&validators(record)), now()) {
            Outcome::Perform => Ok(()),
            _ => Err(Problem::new(412, "the record is not the version that you expect")),
        }
    }
}

fn missing() -> Problem {
    Problem::new(404, "there is no such record")
}

fn validators(record: &Record) -> Validators {
    Validators { etag: format!("\"{}\"", record.revision), modified: 0 }
}

/// A record as clients see it.
pub(crate) fn object(record: &Record) -> Value {
    json!({ "id": record.id, "data": record.data })
}

/// A record, or 304 if the client has it.
fn shown(request: &Request, record: &Record) -> Response {
    let validators = validators(record);
    let response = match evaluate(request, Some(&validators), now()) {
        Outcome::NotModified => Response::new(304),
        _ => Response::json(object(record).to_string()),
    };
    response.header("ETag", validators.etag).header("Cache-Control", "no-cache")
}

/// Stores each file of a form under the last part of its name.
fn store_files(request: &Request, files: &Directory) -> Result<Response, Problem> {
    let content_type = request.headers().only("Content-Type").unwrap_or_default();
    let content_type = String::from_utf8_lossy(content_type);
    if !content_type.to_ascii_lowercase().starts_with("multipart/form-data") {
        return Err(Problem::new(404, "a file has a name; /files/ alone takes forms"));
    }
    let mut form = Multipart::new(&content_type, request.body()?)?;
    let mut places: Vec<Value> = Vec::new();
    while let Some(mut part) = form.next_part()? {
        let Some(filename) = part.filename.take() else { continue };
        let name = filename.rsplit(['/', '\\']).next().unwrap_or_default();
        let stored: io::Result<()> = files.store_as(Path::new(name), &mut part);
        stored?;
        places.push(path_of("/files/", name).into());
    }
    Ok(Response::json(Value::from(places).to_string()).with_status(201))
}
