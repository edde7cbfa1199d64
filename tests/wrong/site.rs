//! Stage 14 with one mistake, chosen by `MISTAKE`; tests/wrong_servers.rs says which check must catch it. Look for
//! `is("…")`: that is where the mistake is.

use std::env;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::OnceLock;

use common::{Directory, Found, OpenFile, Request, Response};

/// Whether this is the mistake that was chosen.
fn is(name: &str) -> bool {
    static CHOSEN: OnceLock<String> = OnceLock::new();
    CHOSEN.get_or_init(|| env::var("MISTAKE").unwrap_or_default()) == name
}

/// The directory that `--site` names, for those who look for files without care.
fn root() -> PathBuf {
    let mut args = env::args_os().skip_while(|arg| arg != "--site");
    args.nth(1).unwrap_or_default().into()
}

fn main() -> ExitCode {
    common::run_with_site(|args| {
        let (files, lists) = (args.site(), args.list);
        args.service()?.run(move |request| answer(request, &files, lists));
        Ok(())
    })
}

fn answer(request: &Request, files: &Directory, lists: bool) -> io::Result<Response> {
    if let ("echo", Some(text)) = request.path() {
        return Ok(Response::text(text.decode()?));
    }
    let response = match (find(request, files, lists), request.method()) {
        (Err(error), _) if error.kind() == ErrorKind::NotFound => missing(request, files)?,
        (found, "GET" | "HEAD") => found?,
        (Ok(_), "OPTIONS") => Response::ok().header("Allow", "GET, HEAD, OPTIONS"),
        (Ok(found), _) if is("redirects-posts") && found.status() == 301 => found,
        (Ok(found), _) if is("answers-posts") => found,
        (found, _) => found.map(|_| Response::new(405).header("Allow", "GET, HEAD, OPTIONS"))?,
    };
    Ok(match is("lets-browsers-guess") {
        true => response,
        false => response.header("X-Content-Type-Options", "nosniff"),
    })
}

fn find(request: &Request, files: &Directory, lists: bool) -> io::Result<Response> {
    let path = request.full_path();
    if is("joins-blindly") {
        let name = path.decode()?;
        if let Ok(content) = fs::read(root().join(name)) {
            return Ok(Response::text(content));
        }
    }
    let name = path.folder().unwrap_or(path).file_name()?;
    let is_hidden = name.components().any(|part| {
        let part = part.as_os_str().to_string_lossy();
        part.starts_with('.') && (part != ".well-known" || is("hides-well-known"))
    });
    if is_hidden && !is("shows-hidden-names") {
        return Err(ErrorKind::NotFound.into());
    }
    if path.folder().is_some() {
        return folder(request, files, &name, lists);
    }
    if is("merges-slashes") && path.raw().starts_with('/') {
        let name = path.raw().trim_start_matches('/');
        if let Ok(Found::Folder) = files.find(Path::new(name)) {
            return Ok(moved(format!("/{}/", path.raw())));
        }
    }
    match files.find(&name)? {
        Found::File(file) => send(request, files, &name, file),
        Found::Folder if is("never-redirects") => folder(request, files, &name, lists),
        Found::Folder => {
            let shown = if is("redirects-to-the-decoded-path") {
                path.decode()?
            } else {
                path.raw().into()
            };
            let query = request.query().filter(|_| !is("loses-the-query"));
            let query = query.map_or(String::new(), |query| format!("?{query}"));
            Ok(moved(format!("/{shown}/{query}")))
        }
    }
}

fn moved(location: String) -> Response {
    Response::new(301).header("Location", location)
}

fn folder(request: &Request, files: &Directory, name: &Path, lists: bool) -> io::Result<Response> {
    let index = name.join("index.html");
    match files.find(&index) {
        Ok(Found::File(file)) => send(request, files, &index, file),
        _ if lists || is("lists-everything") => {
            let listed = files.list(name)?;
            let names =
                listed.iter().map(|it| (it.name.to_string_lossy().into_owned(), it.is_folder));
            Ok(Response::html(names.map(link).collect()))
        }
        _ if name == Path::new("") && !is("needs-an-index") => Ok(Response::ok()),
        _ => Err(ErrorKind::NotFound.into()),
    }
}

/// A line of a list of files.
fn link((name, is_folder): (String, bool)) -> String {
    if name.starts_with('.') && !is("lists-hidden-names") {
        return String::new();
    }
    let name = if is_folder { name + "/" } else { name };
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'/' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    let url: String = name.bytes().map(escape).collect();
    let html = name.replace('&', "&amp;").replace('<', "&lt;");
    let url = if is("links-without-escapes") { &html } else { &url };
    let html = if is("lists-without-escapes") { &name } else { &html };
    format!("<a href=\"./{url}\">{html}</a><br>\n")
}

fn send(request: &Request, files: &Directory, name: &Path, file: OpenFile) -> io::Result<Response> {
    let extension = name.extension().unwrap_or_default().to_string_lossy().into_owned();
    let extension = if is("types-with-case") { extension } else { extension.to_lowercase() };
    let (kind, is_text) = match &*extension {
        "html" if is("says-no-charset") => ("text/html", true),
        "html" => ("text/html; charset=utf-8", true),
        "css" if is("everything-is-html") => ("text/html; charset=utf-8", true),
        "css" => ("text/css; charset=utf-8", true),
        "js" if is("scripts-as-application") => ("application/javascript; charset=utf-8", true),
        "js" => ("text/javascript; charset=utf-8", true),
        "txt" => ("text/plain; charset=utf-8", true),
        "json" => ("application/json", true),
        "svg" => ("image/svg+xml", true),
        "png" => ("image/png", false),
        "jpg" => ("image/jpeg", false),
        "woff2" => ("font/woff2", false),
        "mp4" => ("video/mp4", false),
        "pdf" => ("application/pdf", false),
        "wasm" => ("application/wasm", false),
        _ => ("application/octet-stream", false),
    };
    if !is_text && !is("compresses-everything") {
        return Response::file_of_type(kind, file);
    }
    let packed = Path::new(&format!("{}.gz", name.display())).to_owned();
    if let (true, Ok(Found::File(packed))) =
        (common::accepts_gzip(request.headers()), files.find(&packed))
    {
        let is_fresh = packed.modified() >= file.modified() || is("sends-stale-packed-files");
        if is_fresh && !is("ignores-packed-files") {
            let kind = if is("packed-files-are-gzip") { "application/gzip" } else { kind };
            let response = Response::file_of_type(kind, packed)?;
            let response = response.header("Content-Encoding", "gzip");
            return Ok(response.header("Vary", "Accept-Encoding"));
        }
    }
    let response = Response::file_of_type(kind, file)?;
    if !common::accepts_gzip(request.headers()) && is("varies-when-compressed-only") {
        return Ok(response);
    }
    response.compressed_for(request.headers())
}

fn missing(request: &Request, files: &Directory) -> io::Result<Response> {
    let name = Path::new("404.html");
    match files.find(name) {
        Ok(Found::File(file)) if !is("has-no-page-for-404") => {
            let status = if is("missing-is-200") { 200 } else { 404 };
            Ok(send(request, files, name, file)?.with_status(status))
        }
        _ => Ok(Response::not_found()),
    }
}
