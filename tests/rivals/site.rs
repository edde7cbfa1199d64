//! Shows the same site with stage 16 and with nginx, sends each request of site-requests.txt to both, and prints what
//! they answer where that differs.
//!
//! docs/strict.md has a table with these differences, and the reason for each. Fails if it does not match the answers.

mod raw;

use std::env;
use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, UNIX_EPOCH};

use flate2::write::{GzDecoder, GzEncoder};
use harness::{Answer, Background, Connection, cargo, free_port, repository};
use raw::Request;
use tempfile::TempDir;

const REQUESTS: &str = include_str!("site-requests.txt");

/// Types by extension, as Debian's nginx has them.
const TYPES: &str = "/etc/nginx/mime.types";

fn main() -> ExitCode {
    if !Path::new(TYPES).exists() {
        println!("skipped: there is no nginx with {TYPES} here");
        return ExitCode::SUCCESS;
    }
    let outer = TempDir::new().expect("a temporary directory");
    let site = outer.path().join("site");
    create(&site).expect("a site can be created");
    let (ours, nginx) = (start_ours(&site), start_nginx(outer.path()));
    let requests = Request::all(REQUESTS);
    let mut rows = Vec::new();
    for request in &requests {
        let (ours, theirs) = (ours.summary(request), nginx.summary(request));
        if ours != theirs {
            rows.push(format!("| {} | {ours} | {theirs} |", request.title));
        }
    }
    println!("{} of {} answers differ:\n\n{}", rows.len(), requests.len(), rows.join("\n"));
    let complaints = complaints(&rows);
    eprint!("{complaints}");
    if complaints.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The table in the chapter must have each of these rows, with a reason, and no others.
fn complaints(rows: &[String]) -> String {
    let chapter = fs::read_to_string(repository().join("docs/strict.md")).unwrap_or_default();
    let table = chapter.lines().skip_while(|line| !line.starts_with("| request | stage 16 |"));
    let shown: Vec<_> = table.skip(2).take_while(|line| line.starts_with('|')).collect();
    let is_shown = |row: &String| shown.iter().any(|line| line.starts_with(row.as_str()));
    let is_true = |line: &str| rows.iter().any(|row| line.starts_with(row.as_str()));
    let missing = rows.iter().filter(|row| !is_shown(row));
    let outdated = shown.iter().filter(|line| !is_true(line));
    let missing = missing.map(|row| format!("docs/strict.md has no reason for: {row}\n"));
    let outdated = outdated.map(|line| format!("docs/strict.md is out of date: {line}\n"));
    missing.chain(outdated).collect()
}

struct Server {
    port: u16,
    /// Its entity tag of `/data.txt`.
    etag: String,
    _running: Background,
}

impl Server {
    fn run(command: &mut Command, port: u16) -> Server {
        let running = Background::start(command.env("PORT", port.to_string()), port);
        let running = running.unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let mut server = Server { port, etag: String::new(), _running: running };
        let answer = server.answer("GET", b"GET /data.txt HTTP/1.1\r\n");
        server.etag = answer.header("ETag").expect("it has a tag").to_owned();
        server
    }

    /// What is worth knowing of the answer to a request.
    fn summary(&self, request: &Request) -> String {
        let text = &request.bytes;
        let bytes = match text.windows(6).position(|window| window == b"{etag}") {
            Some(at) => [&text[..at], self.etag.as_bytes(), &text[at + 6..]].concat(),
            None => text.clone(),
        };
        let method = String::from_utf8_lossy(&bytes);
        summary(&self.answer(method.split(' ').next().unwrap_or_default(), &bytes))
    }

    fn answer(&self, method: &str, bytes: &[u8]) -> Answer {
        let stream =
            TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).expect("the server listens");
        let rest = b"Host: localhost\r\nConnection: close\r\n\r\n";
        let answer = Connection::new(stream).and_then(|mut connection| {
            connection.send(&[bytes, rest].concat())?;
            connection.answer_to(method)
        });
        answer.unwrap_or_else(|failure| panic!("{}\n{failure:?}", bytes.escape_ascii()))
    }
}

fn summary(answer: &Answer) -> String {
    let mut parts = vec![answer.status.to_string()];
    let is_success = matches!(answer.status, 200 | 206);
    let shown = match answer.status {
        200 | 206 => &["Content-Type", "Content-Encoding", "Content-Range"][..],
        301 | 308 => &["Location"],
        405 => &["Allow"],
        416 => &["Content-Range"],
        _ => &[],
    };
    let shown = shown.iter().filter_map(|name| answer.header(name));
    parts.extend(shown.map(str::to_owned));
    if is_success {
        parts.push(format!("{} bytes", decoded(answer).len()));
        let modified = answer.header("Last-Modified").unwrap_or("no date");
        match modified.split(' ').nth(3) {
            Some("2024") => {}
            Some("1960" | "1970" | "2023" | "2100") | None => parts.push(modified.to_owned()),
            Some(_) => parts.push("modified now".to_owned()),
        }
    }
    if answer.status == 404 && decoded(answer) == NOT_FOUND.as_bytes() {
        parts.push("the site's page".to_owned());
    }
    parts.join(", ")
}

/// The body, decompressed if need be.
fn decoded(answer: &Answer) -> Vec<u8> {
    if answer.header("Content-Encoding") != Some("gzip") || answer.body.is_empty() {
        return answer.body.clone();
    }
    let mut decoder = GzDecoder::new(Vec::new());
    decoder.write_all(&answer.body).and_then(|()| decoder.finish()).expect("gzip")
}

const NOT_FOUND: &str = "<!doctype html><title>nothing</title><p>There is nothing here.\n";

/// Creates the site, and a file beside it.
fn create(site: &Path) -> std::io::Result<()> {
    for folder in ["sub", "empty", ".well-known"] {
        fs::create_dir_all(site.join(folder))?;
    }
    let long = "a { color: black }\n".repeat(500);
    let files = [
        "index.html",
        "page.html",
        "UPPER.HTML",
        "style.css",
        "script.js",
        "module.mjs",
        "data.json",
        "feed.xml",
        "notes.md",
        "drawing.svg",
        "photo.png",
        "photo.avif",
        "favicon.ico",
        "font.woff2",
        "sound.mp3",
        "film.mp4",
        "module.wasm",
        "paper.pdf",
        "all.zip",
        "thing.xyz",
        "LICENSE",
        "sub/index.html",
        "sub/below.txt",
        "sub/.git",
        ".env",
        "a b.txt",
        "a+b.txt",
        "photo[1].txt",
        "café.txt",
        "100%.txt",
        "a#b.txt",
        "a&b.txt",
        "a?b.txt",
        "future.txt",
        "ancient.txt",
        ".well-known/security.txt",
        "packed.js",
        "stale.js",
        "../outside.txt",
    ];
    for name in files {
        write(&site.join(name), long.as_bytes(), NEW_YEAR)?;
    }
    for (name, content) in [("data.txt", "0123456789"), ("empty.txt", ""), ("404.html", NOT_FOUND)]
    {
        write(&site.join(name), content.as_bytes(), NEW_YEAR)?;
    }
    write(&site.join("future.txt"), b"later", 4_102_444_800)?;
    write(&site.join("ancient.txt"), b"earlier", -315_619_200)?;
    let packed = packed(long.as_bytes())?;
    write(&site.join("packed.js.gz"), &packed, NEW_YEAR)?;
    write(&site.join("stale.js.gz"), &packed, NEW_YEAR - 86_400)?;
    create_strange_names(site)
}

#[cfg(unix)]
fn create_strange_names(site: &Path) -> std::io::Result<()> {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    write(&site.join(OsStr::from_bytes(b"\xff.txt")), b"bytes", NEW_YEAR)?;
    symlink("data.txt", site.join("inside.txt"))?;
    symlink("../outside.txt", site.join("leads-out.txt"))?;
    let pipe = Command::new("mkfifo").arg(site.join("pipe.txt")).status()?;
    assert!(pipe.success(), "mkfifo: {pipe}");
    Ok(())
}

#[cfg(not(unix))]
fn create_strange_names(_: &Path) -> std::io::Result<()> {
    Ok(())
}

/// Monday, 1 January 2024, in seconds since the beginning of 1970.
const NEW_YEAR: i64 = 1_704_067_200;

fn write(path: &Path, content: &[u8], changed: i64) -> std::io::Result<()> {
    fs::write(path, content)?;
    let distance = Duration::from_secs(changed.unsigned_abs());
    let changed = if changed < 0 { UNIX_EPOCH - distance } else { UNIX_EPOCH + distance };
    let file = fs::File::options().append(true).open(path)?;
    file.set_modified(changed)
}

fn packed(content: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(content)?;
    encoder.finish()
}

fn start_ours(site: &Path) -> Server {
    let built = cargo(&["build", "--workspace", "--bin", "stage16"]);
    built.unwrap_or_else(|said| panic!("{said}"));
    let this = env::current_exe().expect("the path of this program is known");
    let program = this.with_file_name("stage16").with_extension(env::consts::EXE_EXTENSION);
    Server::run(Command::new(program).arg("--site").arg(site), free_port())
}

fn start_nginx(outer: &Path) -> Server {
    let port = free_port();
    let configuration = NGINX.replace("PORT", &port.to_string()).replace("TYPES", TYPES);
    fs::write(outer.join("nginx.conf"), configuration).expect("the file can be written");
    let mut nginx = Command::new("nginx");
    nginx.arg("-e").arg("stderr").arg("-p").arg(outer).arg("-c").arg("nginx.conf");
    Server::run(&mut nginx, port)
}

/// nginx with what stage 16 has: UTF-8, gzip, files that are compressed beforehand, a page for 404, no dot names, and
/// redirects that keep the host.
const NGINX: &str = "
daemon off;
master_process off;
pid nginx.pid;
events {}
http {
    include TYPES;
    default_type application/octet-stream;
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    charset utf-8;
    charset_types text/css text/plain text/xml application/javascript;
    gzip on;
    gzip_vary on;
    gzip_static on;
    gzip_types text/css text/plain text/xml application/javascript application/json image/svg+xml;
    absolute_redirect off;
    server {
        listen 127.0.0.1:PORT;
        root site;
        error_page 404 /404.html;
        location ~ /\\.(?!well-known/) { return 404; }
    }
}
";
