//! The endpoints that `cargo bench` measures, written with may_minihttp, which was made for benchmarks: it sends no date, and
//! does not know `Connection: close`.

use std::path::PathBuf;
use std::{env, fs, io};

use may_minihttp::{HttpService, HttpServiceFactory, Request, Response};

struct Answers {
    directory: PathBuf,
}

impl HttpService for Answers {
    fn call(&mut self, request: Request, response: &mut Response) -> io::Result<()> {
        if let Some(text) = request.path().strip_prefix("/echo/") {
            response.header("Content-Type: text/plain");
            response.body_mut().extend_from_slice(text.as_bytes());
        } else if let Some(name) = request.path().strip_prefix("/files/") {
            response.header("Content-Type: application/octet-stream");
            response.body_vec(fs::read(self.directory.join(name))?);
        } else {
            response.status_code(404, "Not Found");
        }
        Ok(())
    }
}

impl HttpServiceFactory for Answers {
    type Service = Answers;

    fn new_service(&self, _: usize) -> Answers {
        Answers { directory: self.directory.clone() }
    }
}

fn main() -> io::Result<()> {
    let port = env::var("PORT").unwrap_or("4221".to_owned());
    let directory = env::args().skip_while(|arg| arg != "--directory").nth(1).unwrap_or_default();
    let server = Answers { directory: directory.into() }.start(format!("127.0.0.1:{port}"))?;
    server.join().map_err(|_| io::Error::other("the server has failed"))
}
