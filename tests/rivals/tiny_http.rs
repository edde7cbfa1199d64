//! The endpoints that `cargo bench` measures, written with tiny_http in the usual way.

use std::env;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use tiny_http::{Header, Method, Request, Response, Server};

fn main() {
    let port = env::var("PORT").unwrap_or("4221".into());
    let directory = env::args().skip_while(|arg| arg != "--directory").nth(1).unwrap_or_default();
    let directory = PathBuf::from(directory);
    let server = Arc::new(Server::http(format!("127.0.0.1:{port}")).expect("the port is free"));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let (server, directory) = (Arc::clone(&server), directory.clone());
            thread::spawn(move || {
                for request in server.incoming_requests() {
                    let _ = answer(request, &directory);
                }
            })
        })
        .collect();
    for thread in threads {
        let _ = thread.join();
    }
}

fn answer(mut request: Request, directory: &Path) -> io::Result<()> {
    let url = request.url().to_owned();
    if let Some(text) = url.strip_prefix("/echo/") {
        let header = Header::from_bytes("Content-Type", "text/plain").expect("a valid header");
        return request.respond(Response::from_string(text).with_header(header));
    }
    let Some(name) = url.strip_prefix("/files/") else {
        return request.respond(Response::empty(404));
    };
    let path = directory.join(name);
    if *request.method() == Method::Post {
        store(request.as_reader(), &path)?;
        return request.respond(Response::empty(201));
    }
    match File::open(path) {
        Ok(file) => {
            // With Content-Length and not in chunks, like the other servers.
            request.respond(Response::from_file(file).with_chunked_threshold(usize::MAX))
        }
        Err(_) => request.respond(Response::empty(404)),
    }
}

/// Writes a temporary file beside the target and renames it, as the stages do: a file appears whole or not at
/// all.
fn store(content: &mut dyn Read, path: &Path) -> io::Result<()> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let unfinished = path.with_file_name(format!(".unfinished-{count}"));
    io::copy(content, &mut File::create(&unfinished)?)?;
    fs::rename(unfinished, path)
}
