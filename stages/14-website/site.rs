//! A web site: a folder of pages.

use std::io::{self, ErrorKind};
use std::path::{Component, Path};

use common::{Directory, Found, OpenFile, Request, Response};

use crate::listing;
use crate::types::{is_text, type_of};

const ALLOWED: &str = "GET, HEAD, OPTIONS";

pub struct Site {
    pub files: Directory,
    /// Whether a folder without an `index.html` is listed.
    pub list: bool,
}

impl Site {
    /// Answers a request for any path of the site.
    pub fn answer(&self, request: &Request) -> io::Result<Response> {
        let response = match (self.find(request), request.method()) {
            (Err(error), _) if error.kind() == ErrorKind::NotFound => self.missing(request)?,
            (found, "GET" | "HEAD") => found?,
            (Ok(_), "OPTIONS") => Response::ok().header("Allow", ALLOWED),
            (found, _) => found.map(|_| Response::new(405).header("Allow", ALLOWED))?,
        };
        Ok(response.header("X-Content-Type-Options", "nosniff"))
    }

    /// What the path of the request leads to: a file, the page of a folder, or another path.
    fn find(&self, request: &Request) -> io::Result<Response> {
        let path = request.full_path();
        let name = path.folder().unwrap_or(path).file_name()?;
        if is_hidden(&name) {
            return Err(ErrorKind::NotFound.into());
        }
        if path.folder().is_some() {
            return self.folder(request, &name);
        }
        match self.files.find(&name)? {
            Found::File(file) => self.send(request, &name, file),
            Found::Folder => {
                // The path as it came: decoded, it could lead to another host.
                let query =
                    request.query_string().map_or(String::new(), |query| format!("?{query}"));
                let location = format!("/{}/{query}", path.raw());
                Ok(Response::new(301).header("Location", location))
            }
        }
    }

    /// The page of a folder: its `index.html`, or a list of the files in it.
    fn folder(&self, request: &Request, name: &Path) -> io::Result<Response> {
        let index = name.join("index.html");
        match self.files.find(&index) {
            Ok(Found::File(file)) => self.send(request, &index, file),
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error), // it is there
            _ if self.list => {
                let names = self.files.list(name)?; // without those that begin with a dot
                Ok(Response::html(listing::page(&format!("/{}", name.display()), &names)))
            }
            _ if name == Path::new("") => Ok(Response::ok()), // as since stage 2
            _ => Err(ErrorKind::NotFound.into()),
        }
    }

    /// A file, in gzip if it is text and the client accepts that.
    fn send(&self, request: &Request, name: &Path, file: OpenFile) -> io::Result<Response> {
        let content_type = type_of(name);
        if !is_text(content_type) {
            return Response::file_of_type(content_type, file);
        }
        if common::accepts_gzip(request.headers()) {
            let mut packed_name = name.as_os_str().to_owned();
            packed_name.push(".gz");
            if let Ok(Found::File(packed)) = self.files.find(Path::new(&packed_name)) {
                if packed.modified() >= file.modified() {
                    let response = Response::file_of_type(content_type, packed)?;
                    let response = response.header("Content-Encoding", "gzip");
                    return Ok(response.header("Vary", "Accept-Encoding"));
                }
            }
        }
        Response::file_of_type(content_type, file)?.compressed_for(request.headers())
    }

    /// 404, with the site's own page for it if there is one.
    fn missing(&self, request: &Request) -> io::Result<Response> {
        let name = Path::new("404.html");
        match self.files.find(name) {
            Ok(Found::File(file)) => Ok(self.send(request, name, file)?.with_status(404)),
            _ => Ok(Response::not_found()),
        }
    }
}

/// Whether a name begins with a dot: such files are not for the world. The exception is `/.well-known/`.
fn is_hidden(name: &Path) -> bool {
    let parts = name.components().enumerate();
    let hidden = parts.filter(|(index, part)| match part {
        Component::Normal(part) if *index == 0 && *part == ".well-known" => false,
        part => part.as_os_str().as_encoded_bytes().starts_with(b"."),
    });
    hidden.count() > 0
}
