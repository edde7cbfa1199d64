//! A small server with one mistake, which the command line names, such as `wrong counts-characters`. Learners
//! really make these mistakes. tests/wrong_servers.rs says which check must catch each of them. Some names are not
//! mistakes but other styles, which must pass.
//!
//! Search for `is("…")` to find the mistake.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{env, mem, panic, process, thread};

use flate2::Compression;
use flate2::write::GzEncoder;

/// The servers that keep connections open.
const PERSISTENT: [&str; 23] = [
    "cuts-steady-bodies",
    "waits-for-idle-clients",
    "style-keep-alive",
    "loses-half-a-request",
    "refuses-empty-lines",
    "mixes-up-headers",
    "waits-for-the-body-first",
    "ignores-bodies-of-get",
    "answers-head-of-404-in-full",
    "date-never-changes",
    "limits-each-read",
    "counts-from-the-connection",
    "sends-no-allow",
    "writes-dates-its-own-way",
    "no-retry-after",
    "answers-head-in-full",
    "ignores-close",
    "knows-close-alone",
    "persists-in-http-1-0",
    "forgets-what-it-has-read",
    "does-not-skip-bodies",
    "closes-after-404",
    "closes-instead-of-a-length",
];

struct Server {
    variant: String,
    directory: Option<PathBuf>,
    connections: AtomicU64,
    max_connections: u64,
    head_timeout: Option<Duration>,
    body_timeout: Option<Duration>,
    is_stopping: AtomicBool,
    /// The client that connected last.
    latest: Mutex<Option<TcpStream>>,
}

struct Request {
    line: String,
    /// Everything up to the blank line.
    head: String,
    /// Names in lower case.
    headers: HashMap<String, Vec<u8>>,
    /// The bytes after the blank line that have been read already.
    rest: Vec<u8>,
}

struct Response {
    status: &'static str,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    /// A file that is sent after the body.
    file: Option<File>,
}

fn main() {
    let mut args = env::args().skip(1);
    let variant = args.next().expect("the name of a mistake");
    let rest: Vec<String> = args.collect();
    let option = |name: &str| rest.iter().skip_while(|arg| *arg != name).nth(1);
    let directory = option("--directory").map(PathBuf::from);
    let max_connections = option("--max-connections").map(|number| number.parse());
    let max_connections = max_connections.and_then(Result::ok).unwrap_or(u64::MAX);
    let seconds = |name| option(name).and_then(|it| it.parse().ok()).map(Duration::from_secs);
    let (head_timeout, body_timeout) = (seconds("--head-timeout"), seconds("--body-timeout"));
    let server = Arc::new(Server {
        variant,
        directory,
        connections: AtomicU64::new(0),
        max_connections,
        head_timeout,
        body_timeout,
        is_stopping: AtomicBool::new(false),
        latest: Mutex::new(None),
    });
    // The message goes into a report, so leave out the line number, which changes with this file.
    panic::set_hook(Box::new(|panic| {
        let said = panic.payload().downcast_ref::<String>().map_or("", String::as_str);
        eprintln!("thread 'main' panicked: {}", said);
    }));
    if server.is("exits-at-once") {
        eprintln!("error: no configuration");
        process::exit(3);
    }
    if server.is("never-listens") {
        thread::sleep(Duration::from_secs(60));
    }
    let other = server.is("style-two-ports").then(|| TcpListener::bind("127.0.0.1:0"));
    if server.is("style-slow-start") || other.is_some() {
        thread::sleep(Duration::from_millis(1500));
    }
    let port = env::var("PORT").expect("the checks set PORT").parse().expect("a port");
    let port: u16 = if server.is("another-port") { 0 } else { port }; // 0: any free port
    let listener = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
    let address = listener.local_addr().expect("the listener is bound");
    eprintln!("Server started at http://localhost:{}", address.port());
    if server.is("waits-for-idle-clients") {
        let stopping = Arc::clone(&server);
        let stop = move || {
            stopping.is_stopping.store(true, Ordering::SeqCst);
            let _ = TcpStream::connect(address); // wakes up accept
        };
        common::on_stop(stop).expect("the handler for signals can be set");
    }
    server.accept(&listener);
    drop(listener);
    while server.connections.load(Ordering::SeqCst) > 0 {
        thread::sleep(Duration::from_millis(10)); // the mistake: an idle connection may stay open forever
    }
}

impl Server {
    fn is(&self, name: &str) -> bool {
        self.variant == name
    }

    fn accept(self: &Arc<Self>, listener: &TcpListener) {
        if self.is("never-accepts") {
            thread::sleep(Duration::from_secs(60));
        }
        let busy = Arc::new(Mutex::new(()));
        let in_pool = if self.is("pool-of-four") { 4 } else { 0 };
        thread::scope(|scope| {
            for _ in 0..in_pool {
                scope
                    .spawn(|| listener.incoming().flatten().for_each(|it| self.handle_quietly(it)));
            }
            if in_pool > 0 {
                return;
            }
            for stream in listener.incoming() {
                let stream = stream.expect("a client");
                if self.is_stopping.load(Ordering::SeqCst) {
                    return;
                }
                if self.is("ends-after-one-client") {
                    self.handle(stream).expect("a request");
                    process::exit(0);
                } else if self.is("one-at-a-time") || self.is("spins-when-a-client-leaves") {
                    self.handle_quietly(stream);
                } else if self.is("one-variable-for-all") {
                    *self.latest.lock().expect("no thread panics") = Some(stream);
                    let server = Arc::clone(self);
                    thread::spawn(move || server.handle_latest());
                } else if self.is("unwraps-everything") {
                    self.handle(stream).expect("called `Result::unwrap()` on an `Err` value");
                } else if self.is("holds-a-lock") {
                    let (server, busy) = (Arc::clone(self), Arc::clone(&busy));
                    thread::spawn(move || {
                        let _guard = busy.lock();
                        server.handle_quietly(stream);
                    });
                } else {
                    let server = Arc::clone(self);
                    thread::spawn(move || server.handle_quietly(stream));
                }
            }
        });
    }

    fn handle_latest(&self) {
        thread::sleep(Duration::from_millis(1)); // as if the thread began a little later
        let latest = self.latest.lock().expect("no thread panics");
        let stream = latest.as_ref().and_then(|stream| stream.try_clone().ok());
        drop(latest);
        stream.into_iter().for_each(|stream| self.handle_quietly(stream));
    }

    fn handle_quietly(&self, stream: TcpStream) {
        self.connections.fetch_add(1, Ordering::SeqCst);
        if let Err(error) = self.handle(stream) {
            eprintln!("{error}");
        }
        self.connections.fetch_sub(1, Ordering::SeqCst);
    }

    fn handle(&self, mut stream: TcpStream) -> io::Result<()> {
        if self.is("answers-unread") {
            return stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
        }
        if self.is("limits-each-read") {
            stream.set_read_timeout(self.head_timeout)?;
        }
        let mut rest = Vec::new();
        let mut headers = HashMap::new();
        let start = Instant::now();
        loop {
            let Some(mut request) = self.read_request(&mut stream, rest)? else { return Ok(()) };
            if self.is("mixes-up-headers") {
                headers.extend(mem::take(&mut request.headers));
                request.headers = headers.clone();
            }
            if self.is("counts-from-the-connection")
                && self.head_timeout.is_some_and(|most| most < start.elapsed())
            {
                return Ok(());
            }
            rest = self.later_requests(&mut request, &mut stream)?;
            if self.is("never-answers") {
                thread::sleep(Duration::from_secs(60));
            }
            if self.is("closes-without-answer") {
                return Ok(());
            }
            let mut response = self.route(&request, &mut stream)?;
            let goes_on = self.goes_on(&request, &response);
            let file = response.file.take();
            let length =
                file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |it| it.len());
            let answer = self.format(&request, response, length as usize);
            if self.is("prints-the-answer") {
                println!("{}", String::from_utf8_lossy(&answer));
            } else {
                stream.write_all(&answer)?;
            }
            if let Some(file) = file {
                io::copy(&mut &file, &mut stream)?;
            }
            if self.is("never-closes") {
                thread::sleep(Duration::from_secs(60));
            }
            if !goes_on {
                break;
            }
        }
        stream.shutdown(std::net::Shutdown::Write)?;
        io::copy(&mut stream.take(1_000_000), &mut io::sink())?;
        Ok(())
    }

    /// Whether the connection stays open after this request and its response.
    fn goes_on(&self, request: &Request, response: &Response) -> bool {
        let options = request.headers.get("connection").cloned().unwrap_or_default();
        let options = String::from_utf8_lossy(&options).into_owned();
        let says_close = match () {
            () if self.is("ignores-close") => false,
            () if self.is("knows-close-alone") => options == "close",
            () => options.split(',').any(|option| option.trim().eq_ignore_ascii_case("close")),
        };
        let is_old = request.line.ends_with("HTTP/1.0") && !self.is("persists-in-http-1-0");
        let gives_up = self.is("closes-after-404") && response.status.starts_with("404")
            || self.is("closes-instead-of-a-length") && response.body.is_empty()
            || response.status.starts_with("503")
            || self.is_stopping.load(Ordering::SeqCst)
            || response.status.starts_with('4') && request.headers.contains_key("expect");
        self.persists() && !says_close && !is_old && !gives_up
    }

    fn persists(&self) -> bool {
        PERSISTENT.contains(&self.variant.as_str())
    }

    /// Separates the body of the request from the bytes after it, and returns the latter.
    fn later_requests(&self, request: &mut Request, stream: &mut TcpStream) -> io::Result<Vec<u8>> {
        let waits = request.headers.contains_key("expect") && !self.is("waits-for-the-body-first");
        if !self.persists() || waits {
            return Ok(Vec::new());
        }
        let digits = request.headers.get("content-length").cloned().unwrap_or_default();
        let length: usize = String::from_utf8_lossy(&digits).parse().unwrap_or(0);
        if length > 10_000_000
            || self.is("does-not-skip-bodies") && !request.line.contains("/files/")
            || self.is("ignores-bodies-of-get") && request.line.starts_with("GET ")
        {
            return Ok(mem::take(&mut request.rest));
        }
        let missing = length.saturating_sub(request.rest.len());
        if let Some(time) = self.body_timeout.filter(|_| self.is("cuts-steady-bodies")) {
            let deadline = Instant::now() + time;
            let mut piece = [0; 4096];
            while request.rest.len() < length {
                let left = deadline.saturating_duration_since(Instant::now());
                stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
                let Ok(count @ 1..) = stream.read(&mut piece) else {
                    let answer = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n";
                    stream.write_all(answer)?;
                    return Err(io::ErrorKind::TimedOut.into());
                };
                request.rest.extend_from_slice(&piece[..count]);
            }
            return Ok(Vec::new());
        }
        stream.take(missing as u64).read_to_end(&mut request.rest)?;
        let later = request.rest.split_off(length.min(request.rest.len()));
        let is_whole = later.windows(4).any(|four| four == b"\r\n\r\n");
        let is_lost =
            self.is("forgets-what-it-has-read") || self.is("loses-half-a-request") && !is_whole;
        Ok(if is_lost { Vec::new() } else { later })
    }

    fn read_request(&self, stream: &mut TcpStream, rest: Vec<u8>) -> io::Result<Option<Request>> {
        let mut bytes = rest;
        if self.is("reads-to-the-end") {
            stream.read_to_end(&mut bytes)?;
        }
        let mut piece = [0; 4096];
        let end = loop {
            if bytes.starts_with(b"\r\n") && !self.is("refuses-empty-lines") {
                bytes.drain(..2);
            }
            let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
            let enough = self.is("reads-once") && !bytes.is_empty();
            if let Some(end) = end.or(enough.then_some(bytes.len())) {
                break end;
            }
            let count = match stream.read(&mut piece) {
                Err(_) if self.is("limits-each-read") => {
                    stream
                        .write_all(b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n")?;
                    return Ok(None);
                }
                count => count?,
            };
            match count {
                0 if self.is("unwraps-everything") => panic!("index out of bounds: the len is 0"),
                0 if self.is("spins-when-a-client-leaves") => {}
                0 if self.is("answers-half-requests") && !bytes.is_empty() => break bytes.len(),
                0 => return Ok(None),
                count => bytes.extend_from_slice(&piece[..count]),
            }
        };
        let rest = bytes.get(end + 4..).unwrap_or_default().to_vec();
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let line = head.lines().next().unwrap_or_default().to_owned();
        Ok(Some(Request { line, headers: self.headers(&bytes[..end]), head, rest }))
    }

    fn headers(&self, head: &[u8]) -> HashMap<String, Vec<u8>> {
        let mut headers = HashMap::new();
        for line in head.split(|&byte| byte == b'\n').skip(1) {
            let colon = line.iter().position(|&byte| byte == b':');
            if colon.is_none() && self.is("needs-a-colon") && !line.trim_ascii().is_empty() {
                eprintln!("thread 'main' panicked: called `Option::unwrap()` on a `None` value");
                process::exit(101);
            }
            let Some(colon) = colon else { continue };
            let name = String::from_utf8_lossy(&line[..colon]).into_owned();
            let name = if self.is("names-with-case") { name } else { name.to_ascii_lowercase() };
            let value = line.strip_suffix(b"\r").unwrap_or(line)[colon + 1..].to_vec();
            let value = match () {
                () if self.is("keeps-white-space") => value,
                () if self.is("strips-one-space") => {
                    value.strip_prefix(b" ").map_or(value.clone(), <[u8]>::to_vec)
                }
                () => value.trim_ascii().to_vec(),
            };
            let is_list = name == "accept-encoding" && !self.is("takes-the-first-line");
            match headers.entry(name) {
                Entry::Occupied(entry) if is_list => {
                    let list: &mut Vec<u8> = entry.into_mut();
                    list.extend([b", ", &value[..]].concat());
                }
                entry => {
                    entry.or_insert(value);
                }
            }
        }
        if self.is("names-with-case") {
            for name in ["User-Agent", "Content-Length", "Accept-Encoding"] {
                let value = headers.remove(name);
                headers.extend(value.map(|value| (name.to_lowercase(), value)));
            }
        }
        headers
    }

    fn route(&self, request: &Request, stream: &mut TcpStream) -> io::Result<Response> {
        let words: Vec<_> = request.line.split(' ').collect();
        let lenient: Vec<_> = request.line.split_whitespace().collect();
        let words = match () {
            () if self.is("tolerates-extra-spaces") => &lenient[..],
            () if words.contains(&"") => &[],
            () => &words[..],
        };
        let [method, target, version] = words[..] else {
            let status =
                if self.is("never-says-400") { "404 Not Found" } else { "400 Bad Request" };
            return Ok(Response::new(status, ""));
        };
        if self.is("keeps-the-carriage-return")
            || !version.starts_with("HTTP/1.") && !self.is("never-says-400")
        {
            return Ok(Response::new("400 Bad Request", ""));
        }
        if self.is("searches-the-whole-request") && request.head.contains("GET / ") {
            return Ok(Response::new("200 OK", ""));
        }
        let target = if self.is("keeps-the-query") {
            target
        } else {
            target.split('?').next().unwrap_or_default()
        };
        let Some(path) = self.decode(target) else {
            return Ok(Response::new("400 Bad Request", ""));
        };
        let is_allowed = matches!(method, "GET" | "HEAD") || path.starts_with("/files/");
        if self.is("sends-no-allow") && !is_allowed && path == "/" {
            return Ok(Response::new("405 Method Not Allowed", "not here"));
        }
        let is_full = self.connections.load(Ordering::SeqCst) > self.max_connections;
        if self.is("no-retry-after") && is_full {
            return Ok(Response::new("503 Service Unavailable", "come again"));
        }
        if let Some(text) = path.strip_prefix("/echo/") {
            self.echo(request, text)
        } else if let Some(name) = path.strip_prefix("/files/") {
            match method {
                "POST" => self.store(request, name, stream),
                _ => Ok(self.fetch(name)),
            }
        } else if path == "/user-agent" {
            Ok(self.user_agent(request))
        } else if path == "/" || self.is("always-200") {
            Ok(Response::new("200 OK", ""))
        } else {
            let body = if self.is("answers-head-of-404-in-full") { "no such page" } else { "" };
            Ok(Response::new("404 Not Found", body))
        }
    }

    fn decode(&self, path: &str) -> Option<String> {
        if self.is("does-not-decode") {
            return Some(path.to_owned());
        }
        let mut decoded = Vec::new();
        let mut bytes = path.bytes();
        while let Some(byte) = bytes.next() {
            let digits = (byte == b'%').then(|| (bytes.next(), bytes.next()));
            match digits {
                None if self.is("decodes-forms") && byte == b'+' => decoded.push(b' '),
                None => decoded.push(byte),
                Some((Some(high), Some(low))) => {
                    let digits = String::from_utf8(vec![high, low]).ok()?;
                    if !high.is_ascii_hexdigit() && !self.is("signed-escapes") {
                        return None; // `from_str_radix` takes a sign
                    }
                    decoded.push(u8::from_str_radix(&digits, 16).ok()?);
                }
                Some(_) if self.is("guesses-at-escapes") => decoded.push(b'%'),
                Some(_) => return None,
            }
        }
        String::from_utf8(decoded).ok()
    }

    fn echo(&self, request: &Request, text: &str) -> io::Result<Response> {
        let accept = request.headers.get("accept-encoding").cloned().unwrap_or_default();
        let accept = String::from_utf8_lossy(&accept).to_lowercase();
        let mut response = Response::new("200 OK", text).header("Content-Type", "text/plain");
        if !self.is("no-vary") {
            response = response.header("Vary", "Accept-Encoding");
        }
        if self.accepts_gzip(&accept) {
            response = response.header("Content-Encoding", "gzip");
            if !self.is("only-says-gzip") {
                response.body = self.compress(text)?;
                if self.is("packs-into-a-string") {
                    let text = String::from_utf8_lossy(&response.body).into_owned();
                    response.body = text.into_bytes();
                }
            }
        }
        Ok(response)
    }

    fn accepts_gzip(&self, accept: &str) -> bool {
        if self.is("gzip-always") {
            return true;
        } else if self.is("gzip-by-substring") {
            return accept.contains("gzip") && !accept.contains("q=0") || accept == "*";
        } else if self.is("gzip-if-alone") {
            return accept == "gzip";
        }
        let weight = |wanted: &str| {
            accept.split(',').find_map(|element| {
                let (name, weight) = element.split_once(';').unwrap_or((element, "q=1"));
                let weight = weight.trim().trim_start_matches("q=").parse::<f32>();
                (name.trim() == wanted).then_some(weight.unwrap_or(0.0))
            })
        };
        let weight = weight("gzip").or(weight("*")).unwrap_or(0.0);
        weight > 0.0 || self.is("ignores-weights") && accept.contains("gzip;")
    }

    fn compress(&self, text: &str) -> io::Result<Vec<u8>> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text.as_bytes())?;
        if self.is("flushes-instead-of-finishing") {
            encoder.flush()?;
            return Ok(encoder.get_ref().clone());
        }
        encoder.finish()
    }

    fn user_agent(&self, request: &Request) -> Response {
        let found = if self.is("finds-names-anywhere") {
            request
                .head
                .split_once("User-Agent: ")
                .map(|(_, rest)| rest.lines().next().unwrap_or_default().as_bytes().to_vec())
        } else {
            request.headers.get("user-agent").cloned()
        };
        if self.is("needs-the-header") && found.is_none() {
            eprintln!("thread 'main' panicked: called `Option::unwrap()` on a `None` value");
            process::exit(101); // as if this were the only thread
        }
        let found = found.unwrap_or_default();
        if self.is("decodes-latin-1") {
            let text: String = found.iter().copied().map(char::from).collect();
            return Response::new("200 OK", text).header("Content-Type", "text/plain");
        }
        if self.is("replaces-bytes") {
            let text = String::from_utf8_lossy(&found).into_owned();
            return Response::new("200 OK", text).header("Content-Type", "text/plain");
        }
        if self.is("demands-utf-8") && String::from_utf8(found.clone()).is_err() {
            eprintln!("thread 'main' panicked: called `Result::unwrap()` on an `Err` value");
            process::exit(101);
        }
        Response::new("200 OK", found).header("Content-Type", "text/plain")
    }

    fn fetch(&self, name: &str) -> Response {
        let not_found = Response::new("404 Not Found", "");
        let Some(path) = self.path("GET", name) else { return not_found };
        let kind =
            if self.is("files-as-text-plain") { "text/plain" } else { "application/octet-stream" };
        let is_large = path.metadata().is_ok_and(|it| it.is_file() && it.len() > 10_000_000);
        if is_large && !self.is("loads-whole-files") {
            let file = File::open(path).ok();
            return Response { file, ..Response::new("200 OK", "").header("Content-Type", kind) };
        }
        let Ok(body) = fs::read(path) else { return not_found };
        let body = if self.is("reads-files-as-text") {
            String::from_utf8_lossy(&body).into_owned().into_bytes()
        } else {
            body
        };
        Response::new("200 OK", body).header("Content-Type", kind)
    }

    fn path(&self, method: &str, name: &str) -> Option<PathBuf> {
        let directory = self.directory.as_ref()?;
        let path = directory.join(name);
        if self.is("joins-blindly") || self.is("stores-anywhere") && method == "POST" {
            return Some(path);
        } else if self.is("compares-prefixes") {
            return path.starts_with(directory).then_some(path); // but the path still contains `..`
        } else if self.is("follows-links") {
            let plain = |part| matches!(part, std::path::Component::Normal(_));
            return Path::new(name).components().all(plain).then_some(path);
        }
        let parent = path.parent()?.canonicalize().ok()?;
        let real = path.canonicalize().unwrap_or(parent.join(path.file_name()?));
        real.starts_with(directory.canonicalize().ok()?).then_some(path)
    }

    fn store(&self, request: &Request, name: &str, stream: &mut TcpStream) -> io::Result<Response> {
        let path = self.path("POST", name);
        let is_name = !path.as_ref().is_some_and(|path| path.is_dir());
        let Some(path) =
            path.filter(|_| is_name || self.is("replaces-folders") && name == "folder")
        else {
            return Ok(Response::new("404 Not Found", ""));
        };
        if !is_name && !name.is_empty() {
            fs::remove_dir(&path)?;
        }
        let header = |name: &str| request.headers.get(name).map(|it| String::from_utf8_lossy(it));
        let lengths = request.head.to_lowercase().matches("\r\ncontent-length:").count();
        let digits = header("content-length").unwrap_or_default().into_owned();
        let valid = lengths == 1 && digits.bytes().all(|byte| byte.is_ascii_digit());
        if !valid && !self.is("trusts-lengths") {
            return Ok(Response::new("400 Bad Request", ""));
        }
        let length = digits.parse().unwrap_or(0);
        if length > 10_000_000_000 {
            return Ok(Response::new("413 Content Too Large", ""));
        }
        let is_old = request.line.ends_with("HTTP/1.0") && !self.is("continues-for-http-1-0");
        if header("expect").is_some() && !is_old && !self.is("ignores-expect") {
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let body = request.rest.chain(stream);
        if self.is("stores-what-came-with-the-head") {
            fs::write(path, &request.rest)?;
        } else if self.is("reads-bodies-to-the-end") {
            io::copy(&mut { body }, &mut File::create(path)?)?;
        } else if self.is("writes-in-place") {
            io::copy(&mut body.take(length), &mut File::create(path)?)?;
        } else if self.is("stores-nothing") {
            io::copy(&mut body.take(length), &mut io::sink())?;
        } else {
            self.store_whole(&path, &mut body.take(length), length)?;
        }
        let created = if self.is("created-is-200") { "200 OK" } else { "201 Created" };
        Ok(Response::new(created, ""))
    }

    fn store_whole(&self, path: &Path, body: &mut impl Read, length: u64) -> io::Result<()> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number =
            if self.is("one-temporary-name") { 0 } else { COUNT.fetch_add(1, Ordering::SeqCst) };
        let part = path.with_extension(format!("part{number}"));
        let mut file = OpenOptions::new().create(true).append(true).open(&part)?;
        if io::copy(body, &mut file)? == length {
            return fs::rename(part, path);
        }
        if !self.is("leaves-temporary-files") {
            fs::remove_file(part)?;
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }

    /// Turns a response into bytes.
    fn format(&self, request: &Request, mut response: Response, later: usize) -> Vec<u8> {
        let simple = response.body.is_empty() && response.headers.is_empty();
        let length = match () {
            () if self.is("counts-characters") => {
                String::from_utf8_lossy(&response.body).chars().count()
            }
            () if self.is("length-too-long") && !simple => response.body.len() + 1,
            () => response.body.len() + later,
        };
        let chunked = self.is("style-chunked") && !simple && later == 0;
        if chunked {
            response = response.header("Transfer-Encoding", "chunked");
        } else if !(self.is("says-no-length")
            || self.is("never-closes")
            || self.is("closes-instead-of-a-length") && response.body.is_empty()
            || simple && self.is("style-bare"))
        {
            response = response.header("Content-Length", &length.to_string());
        }
        if self.persists() {
            let goes_on = self.goes_on(request, &response);
            response = response.header("Connection", if goes_on { "keep-alive" } else { "close" });
        }
        if self.is("style-extra-headers") {
            response.headers.insert(0, ("Server", "mine/1.0".into()));
            response.headers.push(("Date", "Sun, 06 Nov 1994 08:49:37 GMT".into()));
            response.headers.push(("X-Anything", String::new()));
        }
        if self.is("date-never-changes") {
            response = response.header("Date", "Sun, 06 Nov 1994 08:49:37 GMT");
        }
        if self.is("writes-dates-its-own-way") {
            response = response.header("Date", "Sun Nov  6 08:49:37 1994");
        }
        if self.is("style-reversed") {
            response.headers.reverse();
        }
        let mut bytes = self.head(&response).into_bytes();
        if chunked {
            for chunk in response.body.chunks(7) {
                bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                bytes.extend_from_slice(chunk);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"0\r\n\r\n");
        } else if !request.line.starts_with("HEAD ")
            || self.is("answers-head-in-full")
            || self.is("answers-head-of-404-in-full") && response.status.starts_with("404")
        {
            bytes.extend_from_slice(&response.body);
        }
        if self.is("adds-a-newline") && !simple {
            bytes.extend_from_slice(b"\n");
        }
        bytes
    }

    fn head(&self, response: &Response) -> String {
        let (code, phrase) = response.status.split_once(' ').unwrap_or_default();
        let line = match () {
            () if self.is("no-status-code") => "HTTP/1.1 OK".to_owned(),
            () if self.is("no-version") => response.status.to_owned(),
            () if self.is("no-space") => format!("HTTP/1.1 {code}{phrase}"),
            () if self.is("style-other-phrases") => format!("HTTP/1.1 {code} Whatever You Say"),
            () => format!("HTTP/1.1 {code} {phrase}"),
        };
        let mut head = format!("{line}\r\n");
        for (name, value) in &response.headers {
            let (name, value) = match (*name, value.as_str()) {
                ("Content-Type", "text/plain") if self.is("content-type-html") => {
                    ("Content-Type".to_owned(), "text/html".to_owned())
                }
                ("Content-Type", value) if self.is("style-charset") => {
                    ("Content-Type".to_owned(), format!("{value}; charset=utf-8"))
                }
                (name, value) if self.is("style-lower-case") => {
                    (name.to_lowercase(), format!("  {value} "))
                }
                (name, value) => (name.to_owned(), value.to_owned()),
            };
            let separator = if self.is("space-before-colon") { " : " } else { ": " };
            head.push_str(&format!("{name}{separator}{value}\r\n"));
        }
        if !self.is("no-blank-line") {
            head.push_str("\r\n");
        }
        if self.is("newline-alone") { head.replace('\r', "") } else { head }
    }
}

impl Response {
    fn new(status: &'static str, body: impl Into<Vec<u8>>) -> Response {
        Response { status, headers: Vec::new(), body: body.into(), file: None }
    }

    fn header(mut self, name: &'static str, value: &str) -> Response {
        self.headers.push((name, value.to_owned()));
        self
    }
}
