//! Stage 19: a JSON API. Chapter: docs/19-json.md

mod api;
mod body;
mod form_files;
mod multipart;
mod patch;
mod problem;
mod records;

use std::process::ExitCode;
use std::sync::Arc;

use api::{add, change, found, list, shown};
use common::{App, Response};
use problem::answer;
use records::{Change, Records};
use serde_json::Value;

fn main() -> ExitCode {
    common::run_api(|args| {
        let files = args.files();
        let mut app = args.app(&files);
        let served = files.clone();
        app.post("/files/", move |request| answer(form_files::store(request, &served)));
        add_records(&mut app, args.max_json, args.require_if_match);
        args.run(app)?;
        files.abandon_uploads();
        Ok(())
    })
}

fn add_records(app: &mut App, limit: u64, strict: bool) {
    let records = Arc::new(Records::default());
    let all = Arc::clone(&records);
    app.get("/data", move |request| answer(list(request, &all)));
    let all = Arc::clone(&records);
    app.post("/data", move |request| answer(add(request, &all, limit)));
    let all = Arc::clone(&records);
    app.get("/data/:id", move |request| {
        answer(found(request, &all).map(|record| shown(request, &record)))
    });
    let all = Arc::clone(&records);
    app.put("/data/:id", move |request| {
        let body = || body::read(request, "application/json", limit);
        let changed = change(request, &all, strict, body, |_, data| Change::Replace(data));
        answer(changed.map(|record| shown(request, &record)))
    });
    let all = Arc::clone(&records);
    app.patch("/data/:id", move |request| {
        let body = || body::read(request, body::PATCH_TYPES, limit);
        let changed = change(request, &all, strict, body, |data, patch| {
            Change::Replace(patch::merged(data.clone(), patch))
        });
        answer(changed.map(|record| shown(request, &record)))
    });
    app.delete("/data/:id", move |request| {
        let changed = change(request, &records, strict, || Ok(Value::Null), |_, _| Change::Delete);
        answer(changed.map(|_| Response::new(204)))
    });
}
