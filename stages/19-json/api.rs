//! What can be done with records: add, list, show, change.

use common::{Outcome, Request, Response, Validators, evaluate};
use serde_json::{Value, json};

use crate::body;
use crate::problem::Problem;
use crate::records::{Change, Record, Records};

pub fn add(request: &Request, records: &Records, limit: u64) -> Result<Response, Problem> {
    let id = records.add(body::read(request, body::TYPES, limit)?)?.id;
    let response = Response::json(json!({ "id": id }).to_string()).with_status(201);
    Ok(response.header("Location", format!("/data/{id}")))
}

/// A page of the records, and where the next one begins.
pub fn list(request: &Request, records: &Records) -> Result<Response, Problem> {
    let number = |name, otherwise| match request.query(name) {
        None => Ok(otherwise),
        Some(text) => text.parse().map_err(|_| Problem::new(400, format!("{name} is no number"))),
    };
    let (limit, after): (usize, u64) = (number("limit", 100)? as usize, number("after", 0)?);
    if limit == 0 {
        return Err(Problem::new(400, "limit is 0"));
    }
    let limit = limit.min(1_000);
    let mut found = records.after(after, limit + 1);
    let has_more = found.len() > limit;
    found.truncate(limit);
    let list: Vec<Value> = found.iter().map(object).collect();
    let response = Response::json(Value::from(list).to_string());
    match found.last().filter(|_| has_more) {
        None => Ok(response),
        Some(last) => {
            let next = format!("</data?limit={limit}&after={}>; rel=\"next\"", last.id);
            Ok(response.header("Link", next))
        }
    }
}

/// Changes a record, if it is the one that the client expects. What the client sends may take long to arrive, so it is
/// read before anybody has to wait.
pub fn change(
    request: &Request,
    records: &Records,
    strict: bool,
    body: impl FnOnce() -> Result<Value, Problem>,
    apply: impl FnOnce(&Value, Value) -> Change,
) -> Result<Record, Problem> {
    let known = found(request, records)?;
    expected(request, &known, strict)?;
    let body = body()?;
    let changed = records.change(known.id, |current| {
        expected(request, current, strict)?;
        Ok(apply(&current.data, body))
    });
    changed.unwrap_or_else(|| Err(missing()))
}

/// The record that the path names.
pub fn found(request: &Request, records: &Records) -> Result<Record, Problem> {
    let id = request.param("id")?;
    let is_number = id.bytes().all(|byte| byte.is_ascii_digit()) && !id.starts_with('0');
    let id = id.parse().ok().filter(|_| is_number).ok_or_else(missing)?;
    records.get(id).ok_or_else(missing)
}

fn missing() -> Problem {
    Problem::new(404, "there is no such record")
}

/// Whether the conditions of a request hold for a record: 412 if they do not, and 428 if there must be some.
fn expected(request: &Request, record: &Record, strict: bool) -> Result<(), Problem> {
    if strict && request.header("If-Match").is_none() {
        return Err(Problem::new(
            428,
            "send If-Match, with the ETag of the version that you have seen",
        ));
    }
    match evaluate(request, Some(&validators(record)), common::now()) {
        Outcome::Perform => Ok(()),
        _ => Err(Problem::new(412, "the record is not the version that you expect")),
    }
}

fn validators(record: &Record) -> Validators {
    Validators { etag: format!("\"{}\"", record.revision), modified: 0 }
}

fn object(record: &Record) -> Value {
    json!({ "id": record.id, "data": record.data })
}

/// A record, or 304 if the client has it.
pub fn shown(request: &Request, record: &Record) -> Response {
    let etag = validators(record).etag;
    let response = match evaluate(request, Some(&validators(record)), common::now()) {
        Outcome::NotModified => Response::new(304),
        _ => Response::json(object(record).to_string()),
    };
    response.header("ETag", etag).header("Cache-Control", "no-cache")
}
