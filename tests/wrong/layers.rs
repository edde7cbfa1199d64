//! Stage 18 with one mistake, chosen by `MISTAKE`; tests/wrong_servers.rs says which check must catch it. Look for
//! `is("…")`: that is where the mistake is.

mod mistake;

use std::net::IpAddr;
use std::panic::{self, AssertUnwindSafe};
use std::process::{self, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use common::{App, Args, LogFormat, Request, Response, Site, quoted};
use mistake::is;

fn main() -> ExitCode {
    common::run_with_middleware(|args| {
        let mut app = common::earlier_routes(&args.files(), Site::new(args.site()));
        app.get("/healthz", |_| Ok(Response::text("ok")));
        app.get("/fail", |_| panic!("on purpose"));
        let server = Server {
            app,
            format: args.log,
            cors: Cors { origins: args.origins.clone() },
            rate: args.rate.map(|rate| Rate { rate: rate.into(), buckets: Mutex::default() }),
        };
        run(args, server)
    })
}

fn run(args: &Args, server: Server) -> std::io::Result<()> {
    args.service()?.without_request_log().run(move |request| Ok(server.identified(request)));
    Ok(())
}

struct Server {
    app: App,
    format: LogFormat,
    cors: Cors,
    rate: Option<Rate>,
}

impl Server {
    fn identified(&self, request: &Request) -> Response {
        static REQUESTS: AtomicU64 = AtomicU64::new(1);
        let number = REQUESTS.fetch_add(1, Ordering::Relaxed);
        let theirs = request.header("X-Request-Id").filter(|_| is("takes-ids-over"));
        let id = match theirs {
            Some(id) => String::from_utf8_lossy(id).into_owned(),
            None if is("one-id-for-all") => "1".to_owned(),
            None if is("ids-with-spaces") => format!("request {number}"),
            None => format!("request-{number}"),
        };
        let response = self.logged(request, &id);
        let has_none = match response.status() {
            _ if is("no-ids") => true,
            404 | 405 => is("ids-for-routes-only"),
            500 => is("no-ids-for-failures"),
            429 => is("limits-before-all-else"),
            _ => false,
        };
        if has_none { response } else { response.header("X-Request-Id", id) }
    }

    fn logged(&self, request: &Request, id: &str) -> Response {
        let start = Instant::now();
        let response = self.shared(request).explained();
        if is("no-lines") || is("lines-for-routes-only") && response.status() == 404 {
            return response;
        }
        let milliseconds = start.elapsed().as_secs_f64() * 1000.0;
        match self.format {
            LogFormat::Json => common::log(json(request, &response, id, milliseconds)),
            _ => common::log(combined(request, &response)),
        }
        if is("writes-two-lines") {
            common::log(format_args!("{} is answered", request.target()));
        }
        if is("logs-all-headers") {
            common::log(String::from_utf8_lossy(request.fields()).replace("\r\n", " "));
        }
        response
    }

    /// The answer, with the rules for other sites.
    fn shared(&self, request: &Request) -> Response {
        let origin =
            String::from_utf8_lossy(request.header("Origin").unwrap_or_default()).into_owned();
        let asks = request.header("Access-Control-Request-Method").is_some();
        let is_preflight = request.method() == "OPTIONS"
            && !origin.is_empty()
            && (asks || is("every-options-is-a-preflight"))
            && !is("preflights-go-to-the-routes");
        let allowed = self.cors.allowed(&origin);
        let response = match (&allowed, is_preflight) {
            (None, true) if !is("preflights-for-all") => preflight(Response::new(204), false),
            (_, true) => preflight(Response::new(204), true),
            _ => self.limited(request),
        };
        let is_error = response.status() >= 400;
        let varies = match () {
            () if is("no-vary") => false,
            () if is("varies-when-allowed-only") => allowed.is_some(),
            () => !self.cors.origins.is_empty(),
        };
        let response = if varies { response.header("Vary", "Origin") } else { response };
        match allowed.filter(|_| !(is_error && is("no-cors-on-errors"))) {
            Some(_) if response.status() == 429 && is("limits-before-all-else") => response,
            Some(allowed) => response.header("Access-Control-Allow-Origin", allowed),
            None => response,
        }
    }

    fn limited(&self, request: &Request) -> Response {
        let peer = request.peer().map(|peer| peer.ip());
        let is_free = request.target() == "/healthz" && !is("counts-health");
        match (&self.rate, peer) {
            (Some(rate), Some(peer)) if !is_free && !is("no-limit") && !rate.take(peer) => {
                let status = if is("says-503") { 503 } else { 429 };
                let response = Response::new(status);
                match () {
                    () if is("does-not-say-when") => response,
                    () if is("says-now") => response.header("Retry-After", "0"),
                    () => response.header("Retry-After", "1"),
                }
            }
            _ => self.guarded(request),
        }
    }

    fn guarded(&self, request: &Request) -> Response {
        static IS_POISONED: AtomicBool = AtomicBool::new(false);
        if IS_POISONED.load(Ordering::Relaxed) {
            return Response::new(500);
        }
        match panic::catch_unwind(AssertUnwindSafe(|| self.app.route_to(request))) {
            Ok(answered) => answered.unwrap_or_else(Response::failed),
            Err(_) if is("failures-end-the-server") => process::exit(101),
            Err(_) if is("failures-are-forever") => {
                IS_POISONED.store(true, Ordering::Relaxed);
                Response::new(500)
            }
            Err(_) if is("shows-what-failed") => {
                Response::text("thread 'main' panicked at src/main.rs:7:5: on purpose")
                    .with_status(500)
            }
            Err(_) => Response::new(500),
        }
    }
}

struct Cors {
    origins: Vec<String>,
}

impl Cors {
    /// The value of `Access-Control-Allow-Origin`.
    fn allowed(&self, origin: &str) -> Option<String> {
        let host = |origin: &str| origin.rsplitn(2, ':').last().map(str::to_owned);
        let fits = |it: &String| match () {
            () if is("compares-beginnings") => origin.starts_with(it.as_str()),
            () if is("compares-ends") => origin.ends_with(it.trim_start_matches("http://")),
            () if is("takes-the-origin-for-a-pattern") => {
                it.starts_with(origin) && !origin.is_empty()
            }
            () if is("ignores-ports") => origin == it || host(origin).as_ref() == Some(it),
            () => origin == it,
        };
        match () {
            () if self.origins.is_empty() && !is("allows-everyone") => None,
            () if is("reflects-origins") => Some(origin.to_owned()).filter(|it| !it.is_empty()),
            () if is("allows-null") && origin == "null" => Some(origin.to_owned()),
            () if is("allows-everyone") || self.origins.iter().any(|it| it == "*") => {
                Some("*".into())
            }
            () => self.origins.iter().any(fits).then(|| origin.to_owned()),
        }
    }
}

fn preflight(response: Response, is_allowed: bool) -> Response {
    let response = match is("varies-by-the-origin-only") {
        true => response,
        false => {
            response.header("Vary", "Access-Control-Request-Method, Access-Control-Request-Headers")
        }
    };
    if !is_allowed {
        return response;
    }
    let methods = if is("allows-get-only") { "GET" } else { "GET, POST, PUT" };
    let response = response.header("Access-Control-Allow-Methods", methods);
    match is("forgets-headers") {
        true => response,
        false => response.header("Access-Control-Allow-Headers", "Content-Type"),
    }
}

struct Rate {
    rate: f64,
    /// The address, its tokens, and when it got some.
    buckets: Mutex<Vec<(Option<IpAddr>, f64, Instant)>>,
}

impl Rate {
    fn take(&self, address: IpAddr) -> bool {
        let key = Some(address).filter(|_| !is("one-bucket-for-all"));
        let mut buckets = self.buckets.lock().expect("no thread has failed with it");
        let index = buckets.iter().position(|(of, ..)| *of == key).unwrap_or_else(|| {
            buckets.push((key, self.rate, Instant::now()));
            buckets.len() - 1
        });
        let (_, tokens, filled) = &mut buckets[index];
        if !is("never-refills") {
            *tokens = (*tokens + filled.elapsed().as_secs_f64() * self.rate).min(self.rate);
        }
        *filled = Instant::now();
        let has_one = *tokens >= 1.0;
        *tokens -= f64::from(u8::from(has_one));
        has_one
    }
}

fn escaped(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let escape = |character: char| match character {
        _ if is("escapes-nothing") => character.to_string(),
        '"' => "\\\"".to_owned(),
        '\\' if is("escapes-quotes-only") => character.to_string(),
        '\\' => "\\\\".to_owned(),
        ' '..='~' => character.to_string(),
        _ if is("shows-all-letters") => character.to_string(),
        _ => format!("\\x{:02X}", u32::from(character)),
    };
    text.chars().map(escape).collect()
}

fn combined(request: &Request, response: &Response) -> String {
    let header = |name| escaped(request.header(name).unwrap_or(b"-"));
    let date = common::date();
    let date: Vec<_> = date.as_str().split(' ').collect();
    let time = format!("{}/{}/{}:{} +0000", date[1], date[2], date[3], date[4]);
    let time = if is("another-time-format") {
        format!("{}-{}-{}", date[3], date[2], date[1])
    } else {
        time
    };
    let line = match is("leaves-the-query-out") {
        true => request.line().replace("?a=b", ""),
        false => request.line().to_owned(),
    };
    let line = escaped(line.as_bytes());
    let status = if is("logs-200") { 200 } else { response.status() };
    let bytes = if is("counts-no-bytes") { 0 } else { response.length().unwrap_or_default() };
    let peer = request.peer().map_or(String::new(), |peer| peer.ip().to_string());
    let (referer, agent) = (header("Referer"), header("User-Agent"));
    match is("common-instead-of-combined") {
        true => format!("{peer} - - [{time}] \"{line}\" {status} {bytes}"),
        false => {
            format!("{peer} - - [{time}] \"{line}\" {status} {bytes} \"{referer}\" \"{agent}\"")
        }
    }
}

fn json(request: &Request, response: &Response, id: &str, milliseconds: f64) -> String {
    let agent = request.header("User-Agent").unwrap_or_default();
    let agent = match () {
        () if is("decodes-as-latin-1") => agent.iter().map(|&byte| char::from(byte)).collect(),
        () => String::from_utf8_lossy(agent).into_owned(),
    };
    let text =
        |text: &str| if is("json-in-quotes-only") { format!("\"{text}\"") } else { quoted(text) };
    let status = response.status();
    let status = if is("status-as-text") { format!("\"{status}\"") } else { status.to_string() };
    let time = if is("time-in-seconds") {
        common::now().to_string()
    } else {
        "\"1994-11-06T08:49:37Z\"".into()
    };
    let id = if is("another-id-in-the-log") { "0" } else { id };
    let milliseconds = if is("duration-as-text") {
        format!("\"{milliseconds} ms\"")
    } else {
        milliseconds.to_string()
    };
    format!(
        "{{\"time\":{time},\"request_id\":{},\"peer\":{},\"method\":{},\"target\":{},\"status\":{status},\"bytes\":{},\
         \"duration_ms\":{milliseconds},\"referer\":\"\",\"user_agent\":{}}}",
        text(id),
        text(&request.peer().map_or(String::new(), |peer| peer.to_string())),
        text(request.method()),
        text(request.target()),
        response.length().unwrap_or_default(),
        text(&agent),
    )
}
