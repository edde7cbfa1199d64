//! What a client wants to be kept: JSON, or the fields of a form, as one object (stage 19's lasting form).

use std::io::Read;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use common::{Request, form_pairs};
use serde_json::{Map, Value, json};

use crate::multipart::Multipart;
use crate::problem::Problem;
use crate::strict::parse;

/// JSON.
pub(crate) const JSON: &str = "application/json";

/// What a new record can be made of.
pub(crate) const TYPES: &str =
    "application/json, application/x-www-form-urlencoded, multipart/form-data";

/// What a change can be made of.
pub(crate) const PATCH_TYPES: &str = "application/merge-patch+json, application/json";

/// Reads a body that is an object, of one of these types, up to this many bytes.
pub(crate) fn read(request: &Request, types: &'static str, limit: u64) -> Result<Value, Problem> {
    let content_type = request.headers().only("Content-Type").unwrap_or_default();
    let content_type = String::from_utf8_lossy(content_type);
    let name = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if !types.split(", ").any(|known| known == name) {
        let header = if request.method() == "PATCH" { "Accept-Patch" } else { "Accept" };
        let detail = format!("the Content-Type is \"{name}\"; send {types}");
        return Err(Problem::new(415, detail).with(header, types));
    }
    let mut body = Vec::new();
    request.body()?.take(limit + 1).read_to_end(&mut body)?;
    if body.len() as u64 > limit {
        return Err(Problem::new(413, format!("the body has more than {limit} bytes")));
    }
    let value = match &*name {
        "application/x-www-form-urlencoded" => object(form_pairs(&body)?),
        "multipart/form-data" => object(fields(&content_type, &body)?),
        _ => parse(&body).map_err(|error| Problem::new(400, error))?,
    };
    match value {
        Value::Object(_) => Ok(value),
        _ => Err(Problem::new(422, "the JSON is no object")),
    }
}

/// An object with the fields of a form. A name that comes several times has a list.
fn object(fields: Vec<(String, impl Into<Value>)>) -> Value {
    let mut object = Map::new();
    for (name, value) in fields {
        let value = value.into();
        match object.get_mut(&name) {
            None => drop(object.insert(name, value)),
            Some(Value::Array(list)) => list.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
    Value::Object(object)
}

fn fields(content_type: &str, body: &[u8]) -> Result<Vec<(String, Value)>, Problem> {
    let mut parts = Multipart::new(content_type, body)?;
    let mut fields = Vec::new();
    while let Some(mut part) = parts.next_part()? {
        let mut content = Vec::new();
        part.read_to_end(&mut content)?;
        let value = match (&part.filename, String::from_utf8(content)) {
            (None, Ok(text)) => text.into(),
            (None, Err(_)) => return Err(Problem::new(400, "a field is not UTF-8")),
            (Some(filename), Ok(text)) => {
                json!({ "filename": filename, "type": part.content_type, "content": text })
            }
            (Some(filename), Err(bytes)) => {
                let bytes = BASE64_STANDARD.encode(bytes.as_bytes());
                json!({ "filename": filename, "type": part.content_type, "base64": bytes })
            }
        };
        fields.push((part.name.clone(), value));
    }
    Ok(fields)
}
