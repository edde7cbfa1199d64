//! A folder as a web site (stage 14's lasting form).

use std::io;
use std::path::{Component, Path, PathBuf};

use crate::content::directory::{Directory, Found};
use crate::content::folder::not_found;
use crate::content::listing;
use crate::content::ranges::wants_part;
use crate::content::types::MediaType;
use crate::message::coding::accepts_gzip;
use crate::message::file::OpenFile;
use crate::message::response::Response;
use crate::message::target::{Rest, location};
use crate::protocol::request::Request;

/// The methods that a page allows.
const ALLOWED: &str = "GET, HEAD, OPTIONS";

/// The files below a directory as the pages of a web site.
///
/// - `/a.css` is the file `a.css`, with a type that follows from its name. Text is compressed for clients
///   that accept gzip; if there is an `a.css.gz` that is not older, that file is sent.
/// - `/sub/` is the file `sub/index.html`, or else a list of the folder, if that is wanted. `/sub` is
///   redirected to it.
/// - `404.html` is the body of every 404.
/// - Names that begin with a dot are not there, except below `/.well-known/` (RFC 8615).
///
/// ```no_run
/// use common::{Directory, Request, Response, Site};
///
/// fn route(request: &Request, site: &Site) -> std::io::Result<Response> {
///     match request.path() {
///         ("echo", Some(text)) => Ok(Response::text(text.decode()?)),
///         _ => site.answer(request),
///     }
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Site {
    files: Directory,
    lists_folders: bool,
    /// Of which time all files are, in seconds since the beginning of 1970.
    date: Option<u64>,
}

impl Site {
    /// The site with these files.
    pub fn new(files: Directory) -> Site {
        Site { files, lists_folders: false, date: None }
    }

    /// Chooses whether a folder without an `index.html` is listed. At first, it is not.
    #[must_use]
    pub fn list_folders(self, lists_folders: bool) -> Site {
        Site { lists_folders, ..self }
    }

    /// Lets all files be of this time, in seconds since the beginning of 1970: that of their release, so that a file has
    /// the same tag and date on all machines, whenever it was copied there. From stage 23.
    #[must_use]
    pub fn dated(self, date: Option<u64>) -> Site {
        Site { date, ..self }
    }

    /// Answers a request for any path: 200 with a file or a list, 301 for a folder without its slash, 404, or
    /// 405. `/` is an empty 200 if there is nothing to show.
    ///
    /// # Errors
    ///
    /// What the system says when a file is there and cannot be read.
    pub fn answer(&self, request: &Request) -> io::Result<Response> {
        self.answer_below(request, request.full_path())
    }

    /// Answers as [`Site::answer`] does, when `path` is the path of the request inside of the site. From stage 21.
    ///
    /// # Errors
    ///
    /// As [`Site::answer`].
    pub(crate) fn answer_below(&self, request: &Request, path: Rest) -> io::Result<Response> {
        let response = match self.find(request, path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.missing(request)?,
            found => {
                let found = found?;
                match request.method() {
                    "GET" | "HEAD" => found,
                    "OPTIONS" => Response::ok().header("Allow", ALLOWED),
                    _ => Response::new(405).header("Allow", ALLOWED),
                }
            }
        };
        let response = match self.date {
            Some(date) => response.changed_at(date),
            None => response,
        };
        Ok(response.header("X-Content-Type-Options", "nosniff"))
    }

    fn find(&self, request: &Request, path: Rest) -> io::Result<Response> {
        let folder = path.folder();
        let name = folder.unwrap_or(path).file_name()?;
        if is_hidden(&name) {
            return Err(not_found());
        }
        if folder.is_some() {
            return self.folder(request, &name);
        }
        match self.files.find(&name)? {
            Found::File(file) => self.file(request, &name, file),
            Found::Folder => Ok(to_the_folder(request.full_path().raw(), request.query_string())),
        }
    }

    fn folder(&self, request: &Request, name: &Path) -> io::Result<Response> {
        let index = name.join("index.html");
        match self.files.find(&index) {
            Ok(Found::File(file)) => return self.file(request, &index, file),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let is_root = name == Path::new("");
        if !self.lists_folders {
            return if is_root { Ok(Response::ok()) } else { Err(not_found()) };
        }
        let names = self.files.list(name)?;
        let slash = if is_root { "" } else { "/" };
        Ok(Response::html(listing::page(&format!("/{}{slash}", name.display()), &names)))
    }

    fn file(&self, request: &Request, name: &Path, file: OpenFile) -> io::Result<Response> {
        let media_type = MediaType::of(name);
        if !media_type.is_compressible {
            return Response::file_of_type(media_type.name, file);
        }
        let is_packed = accepts_gzip(request.headers()) && !wants_part(request);
        if !is_packed {
            let response = Response::file_of_type(media_type.name, file)?;
            return Ok(response.header("Vary", "Accept-Encoding"));
        }
        match self.packed(name).filter(|packed| packed.modified() >= file.modified()) {
            Some(packed) => Ok(Response::file_of_type(media_type.name, packed)?
                .header("Content-Encoding", "gzip")
                .header("Vary", "Accept-Encoding")),
            None => {
                Response::file_of_type(media_type.name, file)?.compressed_for(request.headers())
            }
        }
    }

    /// The same file, compressed beforehand: with `.gz` after its name.
    fn packed(&self, name: &Path) -> Option<OpenFile> {
        let mut packed = name.as_os_str().to_owned();
        packed.push(".gz");
        match self.files.find(&PathBuf::from(packed)) {
            Ok(Found::File(file)) => Some(file),
            _ => None,
        }
    }

    fn missing(&self, request: &Request) -> io::Result<Response> {
        let name = Path::new("404.html");
        match self.files.find(name) {
            Ok(Found::File(file)) => Ok(self.file(request, name, file)?.with_status(404)),
            _ => Ok(Response::not_found()),
        }
    }
}

/// Whether a part of a name begins with a dot, and it is not the first part `.well-known`.
fn is_hidden(name: &Path) -> bool {
    name.components().enumerate().any(|(index, part)| match part {
        Component::Normal(part) if index == 0 && part == ".well-known" => false,
        part => part.as_os_str().as_encoded_bytes().starts_with(b"."),
    })
}

/// 301 to the same path with a slash at its end (RFC 9110, section 15.4.2).
fn to_the_folder(path: &str, query: Option<&str>) -> Response {
    Response::new(301).header("Location", location(&format!("{path}/"), query))
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn a_dot_hides_a_name_wherever_it_begins_one() {
        for (name, expected) in [
            ("a.b", false),
            (".env", true),
            ("a/.git/config", true),
            (".well-known", false),
            (".well-known/acme", false),
            (".well-known/.env", true),
            ("a/.well-known", true),
            (".well-known-not", true),
            ("", false),
        ] {
            assert_eq!(is_hidden(Path::new(name)), expected, "{name}");
        }
    }
}
