//! A program on the framework of part four. `cargo run --package json --example app` runs it.

use std::sync::Arc;

use common::{App, Response};
use json::{Memory, Rules, Store};
use serde_json::json;

fn main() -> std::io::Result<()> {
    let mut app = App::new();
    app.get("/hello/:name", |request| {
        Ok(Response::text(format!("Hello, {}.", request.param("name")?)))
    });
    app.get("/search", |request| {
        let words: Vec<_> = request.queries("word").collect();
        Ok(Response::json(json!({ "words": words }).to_string()))
    });
    app.post("/orders", |request| {
        let order = json::read(request, 10_000);
        json::answer(order.map(|it| Response::json(it["item"].to_string()).with_status(201)))
    });
    let store: Arc<dyn Store> = Arc::new(Memory::default());
    json::add_records(&mut app, &store, Rules::default());
    app.files("/book", "docs");
    app.allow_origin("http://localhost:3000");
    let port = std::env::var("PORT").ok().and_then(|port| port.parse().ok());
    app.listen(port.unwrap_or(4221))
}
