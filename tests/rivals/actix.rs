//! The endpoints that `cargo bench` measures, written with actix-web in the usual way.

use std::env;

use actix_files::Files;
use actix_web::{App, HttpResponse, HttpServer, web};
use serde_json::json;

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let port: u16 = env::var("PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(4221);
    let directory = env::args().skip_while(|arg| arg != "--directory").nth(1).unwrap_or_default();
    HttpServer::new(move || {
        App::new()
            .route("/echo/{text}", web::get().to(echo))
            .route("/user/{id}", web::get().to(user))
            .service(Files::new("/files", &directory))
    })
    .keep_alive(std::time::Duration::from_secs(600))
    .tcp_nodelay(true)
    .bind(("127.0.0.1", port))?
    .run()
    .await
}

async fn echo(text: web::Path<String>) -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain").body(text.into_inner())
}

async fn user(id: web::Path<String>) -> HttpResponse {
    HttpResponse::Ok().json(json!({ "user_id": id.into_inner() }))
}
