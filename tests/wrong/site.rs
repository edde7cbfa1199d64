//! Stage 14 with one mistake, chosen by `MISTAKE`; tests/wrong_servers.rs says which check must catch it. Look for
//! `is("…")`: that is where the mistake is.

mod mistake;

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use common::{Directory, Found, OpenFile, Request, Response};
use mistake::is;

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
        (_, "OPTIONS") if is("options-for-everything") => {
            Response::ok().header("Allow", "GET, HEAD, OPTIONS")
        }
        (Ok(_), "DELETE") if is("deletes-nothing") => Response::ok(),
        (Err(error), _) if error.kind() == ErrorKind::NotFound => missing(request, files)?,
        (found, "GET" | "HEAD") => found?,
        (Ok(_), "OPTIONS") => Response::ok().header("Allow", "GET, HEAD, OPTIONS"),
        (Ok(found), _) if is("redirects-posts") && found.status() == 301 => found,
        (Ok(found), _) if is("answers-posts") => found,
        (found, _) => found.map(|_| Response::new(405).header("Allow", "GET, HEAD, OPTIONS"))?,
    };
    let is_text = response.get("Content-Type").is_some_and(|it| it.starts_with("text/"));
    Ok(match () {
        () if is("lets-browsers-guess") || is("nosniff-for-some") && is_text => response,
        () => response.header("X-Content-Type-Options", "nosniff"),
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
    if is("zero-bytes-are-errors") && path.raw().contains("%00") {
        return Err(io::Error::other("embedded null byte"));
    }
    let text = path.decode().unwrap_or_default();
    if is("decodes-before-it-splits") && path.raw().contains("%2F") {
        return send(request, files, Path::new(&text), fs::File::open(root().join(&text))?.into());
    }
    if is("plus-is-a-space") && path.raw().contains('+') {
        return Err(ErrorKind::NotFound.into());
    }
    let name = path.folder().unwrap_or(path).file_name()?;
    let is_hidden = name.components().enumerate().any(|(index, part)| {
        let part = part.as_os_str().to_string_lossy();
        part.starts_with('.')
            && match () {
                () if is("any-well-known") => part != ".well-known",
                () if is("well-known-hides-nothing") => !name.starts_with(".well-known"),
                () if is("well-known-by-its-beginning") => {
                    index > 0 || !part.starts_with(".well-known")
                }
                () => index > 0 || part != ".well-known" || is("hides-well-known"),
            }
    });
    let is_folder = root().join(&name).is_dir() && path.folder().is_none();
    if is_folder && (is("redirects-to-hidden-folders") && is_hidden || is("redirects-outside")) {
        return Ok(moved(format!("/{}/", path.raw())));
    }
    if is_hidden && !is("shows-hidden-names") {
        return Err(ErrorKind::NotFound.into());
    }
    if is("waits-for-pipes") && text == "pipe" {
        return fs::read(root().join("pipe")).map(Response::text);
    }
    if path.folder().is_some() {
        if let (true, Ok(Found::File(file))) = (is("files-are-folders"), files.find(&name)) {
            return send(request, files, &name, file);
        }
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
            let query = request.query_string().filter(|_| !is("loses-the-query"));
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
        _ if name == Path::new("") && is("never-lists-the-root") => Ok(Response::ok()),
        _ if is("lists-outside") => {
            let entries = fs::read_dir(root().join(name))?.flatten();
            let names = entries.map(|it| (it.file_name(), it.path().is_dir()));
            Ok(Response::html(names.map(link).collect()))
        }
        _ if lists || is("lists-everything") => {
            let listed = files.list(name)?;
            if is("lists-utf-8-only") && listed.iter().any(|it| it.name.to_str().is_none()) {
                return Err(io::Error::other("surrogates not allowed"));
            }
            let names = listed.into_iter().map(|it| (it.name, it.is_folder));
            let hidden = is("lists-hidden-names").then(|| link((".hidden".into(), false)));
            let title = if is("title-without-escapes") {
                name.display().to_string()
            } else {
                String::new()
            };
            Ok(Response::html(
                title + &hidden.unwrap_or_default() + &names.map(link).collect::<String>(),
            ))
        }
        _ if name == Path::new("") && !is("needs-an-index") => Ok(Response::ok()),
        _ => Err(ErrorKind::NotFound.into()),
    }
}

/// A line of a list of files.
fn link((name, is_folder): (OsString, bool)) -> String {
    let slash = if is_folder { "/" } else { "" };
    let bytes = [name.as_encoded_bytes(), slash.as_bytes()].concat();
    let name = name.to_string_lossy().into_owned() + slash;
    let escape = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'/' => {
            char::from(byte).to_string()
        }
        _ => format!("%{byte:02X}"),
    };
    let url: String = bytes.into_iter().map(escape).collect();
    let html = name.replace('&', "&amp;").replace('<', "&lt;");
    let url = if is("links-without-escapes") { &html } else { &url };
    let html = if is("lists-without-escapes") { &name } else { &html };
    format!("<a href=\"./{url}\">{html}</a><br>\n")
}

fn send(request: &Request, files: &Directory, name: &Path, file: OpenFile) -> io::Result<Response> {
    let shown = name.file_name().unwrap_or_default().to_string_lossy();
    let extension = match () {
        () if is("counts-the-first-dot") => shown.split_once('.').unwrap_or_default().1,
        () if is("takes-names-for-extensions") => shown.rsplit('.').next().unwrap_or_default(),
        () => shown.rsplit_once('.').unwrap_or_default().1,
    };
    let extension = extension.to_owned();
    let extension = if is("types-with-case") { extension } else { extension.to_lowercase() };
    let (kind, is_text) = match &*extension {
        "css" if is("types-at-the-top-only") && name.components().count() > 1 => {
            ("application/octet-stream", true)
        }
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
    if is("head-is-never-compressed") && request.method() == "HEAD" {
        return Response::file_of_type(kind, file);
    }
    let is_text = is_text || is("compresses-films") && kind == "video/mp4";
    if !is_text && !is("compresses-everything") {
        return Response::file_of_type(kind, file);
    }
    if is("ignores-weights") && request.header("Accept-Encoding").is_some() {
        let packed = common::gzip_stream(file.into_whole()?);
        let response = Response::stream(kind, packed).header("Content-Encoding", "gzip");
        return Ok(response.header("Vary", "Accept-Encoding"));
    }
    let packed = Path::new(&format!("{}.gz", name.display())).to_owned();
    if let (true, Ok(packed)) = (is("packs-from-anywhere"), fs::read(root().join(&packed))) {
        let response = Response::stream(kind, io::Cursor::new(packed));
        return Ok(response.header("Content-Encoding", "gzip").header("Vary", "Accept-Encoding"));
    }
    if let (true, Ok(Found::File(packed))) =
        (common::accepts_gzip(request.headers()), files.find(&packed))
    {
        let seconds = |file: &OpenFile| file.modified().unwrap_or(0) / 1_000_000_000;
        let is_fresh = match () {
            () if is("sends-stale-packed-files") => true,
            () if is("compares-whole-seconds") => seconds(&packed) >= seconds(&file),
            () if is("wants-newer-packed-files") => packed.modified() > file.modified(),
            () => packed.modified() >= file.modified(),
        };
        if is_fresh && !is("ignores-packed-files") {
            let kind = if is("packed-files-are-gzip") { "application/gzip" } else { kind };
            let response = Response::file_of_type(kind, packed)?;
            let response = response.header("Content-Encoding", "gzip");
            return Ok(response.header("Vary", "Accept-Encoding"));
        }
    }
    let has_packed = files.find(&packed).is_ok();
    let response = Response::file_of_type(kind, file)?;
    if has_packed && is("packed-files-do-not-vary") {
        return Ok(response);
    }
    if !common::accepts_gzip(request.headers()) && is("varies-when-compressed-only") {
        return Ok(response);
    }
    response.compressed_for(request.headers())
}

fn missing(request: &Request, files: &Directory) -> io::Result<Response> {
    let name = Path::new("404.html");
    match files.find(name) {
        _ if is("has-no-page-for-posts") && request.method() == "POST" => Ok(Response::not_found()),
        Ok(Found::File(file)) if !is("has-no-page-for-404") => {
            let status = if is("missing-is-200") { 200 } else { 404 };
            Ok(send(request, files, name, file)?.with_status(status))
        }
        _ => Ok(Response::not_found()),
    }
}
