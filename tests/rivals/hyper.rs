//! The endpoints that `cargo bench` measures, written with hyper and tokio in the usual way.

use std::convert::Infallible;
use std::env;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::fs;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

type Answer = Response<Full<Bytes>>;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let port: u16 = env::var("PORT").ok().and_then(|port| port.parse().ok()).unwrap_or(4221);
    let directory = env::args().skip_while(|arg| arg != "--directory").nth(1).unwrap_or_default();
    let directory = Arc::new(PathBuf::from(directory));
    // An experimental option of hyper: it sends the answers to pipelined requests together. It loses the last
    // answers when the client ends the connection, so use it only for the benchmark, whose clients do not do
    // that.
    let flushes_together = env::args().any(|arg| arg == "--pipeline-flush");
    let listener = TcpListener::bind(("127.0.0.1", port)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let directory = Arc::clone(&directory);
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, Arc::clone(&directory)));
            let mut server = http1::Builder::new();
            let server = server.pipeline_flush(flushes_together);
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn answer(request: Request<Incoming>, directory: Arc<PathBuf>) -> Result<Answer, Infallible> {
    let path = request.uri().path().to_owned();
    Ok(if let Some(text) = path.strip_prefix("/echo/") {
        ok("text/plain", text.to_owned())
    } else if let Some(id) = path.strip_prefix("/user/") {
        ok("application/json", format!("{{\"user_id\": {id:?}}}"))
    } else if let Some(name) = path.strip_prefix("/files/") {
        let path = directory.join(name);
        let stored = match *request.method() {
            Method::POST => store(request, path).await,
            _ => fs::read(path).await.map(|content| ok("application/octet-stream", content)),
        };
        stored.unwrap_or_else(|error| match error.kind() {
            ErrorKind::NotFound => empty(StatusCode::NOT_FOUND),
            _ => empty(StatusCode::BAD_REQUEST), // the body is malformed
        })
    } else {
        empty(StatusCode::NOT_FOUND)
    })
}

/// Writes a temporary file beside the target and renames it, as the stages do: a file appears whole or not at
/// all.
async fn store(request: Request<Incoming>, path: PathBuf) -> std::io::Result<Answer> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let unfinished = path.with_file_name(format!(".unfinished-{count}"));
    let mut file = fs::File::create(&unfinished).await?;
    let mut body = request.into_body();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(std::io::Error::other)?;
        if let Some(data) = frame.data_ref() {
            file.write_all(data).await?;
        }
    }
    file.flush().await?;
    fs::rename(unfinished, path).await?;
    Ok(empty(StatusCode::CREATED))
}

fn ok(content_type: &'static str, content: impl Into<Bytes>) -> Answer {
    let mut response = Response::new(Full::new(content.into()));
    response.headers_mut().insert(CONTENT_TYPE, content_type.parse().expect("a valid value"));
    response
}

fn empty(status: StatusCode) -> Answer {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}
