//! The routes that `cargo bench` measures, written with axum in the usual way.

use std::env;

use axum::extract::Path;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let port: u16 = env::var("PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(4221);
    let app = Router::new()
        .route("/", get(|| async { "" }))
        .route("/echo/{*text}", get(|Path(text): Path<String>| async { text }))
        .route("/user-agent", get(|| async { "" }))
        .route("/user/me", get(|| async { "that is you" }))
        .route("/user/me/settings", get(|| async { "your settings" }))
        .route("/user/{id}", get(user))
        .route("/user/{id}/posts/{post}", get(|| async { "a post" }))
        .route("/countdown/{*from}", get(|| async { "3" }))
        .route("/files/{*name}", get(|| async { "a file" }).post(|| async { "stored" }))
        .route("/healthz", get(|| async { "ok" }));
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    axum::serve(listener, app).await
}

async fn user(Path(id): Path<String>) -> Json<Value> {
    Json(json!({ "user_id": id }))
}
