//! The files of a form, stored below `/files/`.

use std::path::Path;

use common::{Directory, Request, Response};
use serde_json::Value;

use crate::multipart::Multipart;
use crate::problem::Problem;

/// Stores each file of a form under the last part of its name, and answers with the list of their paths.
pub fn store(request: &Request, files: &Directory) -> Result<Response, Problem> {
    let content_type = request.headers().only("Content-Type").unwrap_or_default();
    let content_type = String::from_utf8_lossy(content_type);
    if !content_type.to_ascii_lowercase().starts_with("multipart/form-data") {
        return Err(Problem::new(404, "a file has a name; /files/ alone takes forms"));
    }
    let mut form = Multipart::new(&content_type, request.body()?)?;
    let mut places: Vec<Value> = Vec::new();
    while let Some(mut part) = form.next()? {
        let Some(filename) = part.filename.take() else { continue };
        let name = filename.rsplit(['/', '\\']).next().unwrap_or_default();
        files.store_as(Path::new(name), &mut part)?;
        places.push(common::path_of("/files/", name).into());
    }
    Ok(Response::json(Value::from(places).to_string()).with_status(201))
}
