//! A line about each request. What a client has sent is escaped, so that no request can end a line, and forge another.

use std::time::Instant;

use crate::chain::Next;
use common::{LogFormat, Request, Response, quoted};

/// Calls what comes next, and writes a line about it.
pub fn logged(format: LogFormat, request: &Request, id: &str, next: Next) -> Response {
    let start = Instant::now();
    let response = next(request).explained(); // an error has a body, which counts
    let milliseconds = start.elapsed().as_secs_f64() * 1000.0;
    match format {
        LogFormat::Off => {}
        LogFormat::Plain => common::log(plain(request, &response)),
        LogFormat::Combined => common::log(combined(request, &response)),
        LogFormat::Json => {
            let fields = fields(request, &response, id, milliseconds);
            let members = fields.map(|(name, value)| format!("\"{name}\":{value}"));
            common::log(format_args!("{{{}}}", members.join(",")));
        }
        LogFormat::Logfmt => {
            let fields = fields(request, &response, id, milliseconds);
            common::log(fields.map(|(name, value)| format!("{name}={value}")).join(" "));
        }
    }
    response
}

fn plain(request: &Request, response: &Response) -> String {
    let peer = request.peer().map_or("-".to_owned(), |peer| peer.to_string());
    format!("{} {peer} \"{}\" {}", time(), escaped(request.line().as_bytes()), response.status())
}

/// The format that Apache and nginx call "combined".
fn combined(request: &Request, response: &Response) -> String {
    let date = common::date();
    let date: Vec<_> = date.as_str().split(' ').collect(); // Sun, 06 Nov 1994 08:49:37 GMT
    let header = |name| request.header(name).map_or("-".to_owned(), escaped);
    format!(
        "{} - - [{}/{}/{}:{} +0000] \"{}\" {} {} \"{}\" \"{}\"",
        request.peer().map_or("-".to_owned(), |peer| peer.ip().to_string()),
        date[1],
        date[2],
        date[3],
        date[4],
        escaped(request.line().as_bytes()),
        response.status(),
        bytes(request, response).map_or("-".to_owned(), |bytes| bytes.to_string()),
        header("Referer"),
        header("User-Agent"),
    )
}

/// The names and values for programs. A text is in quotes, as in JSON.
fn fields(
    request: &Request,
    response: &Response,
    id: &str,
    milliseconds: f64,
) -> [(&'static str, String); 10] {
    let header = |name| String::from_utf8_lossy(request.header(name).unwrap_or_default());
    [
        ("time", quoted(&time())),
        ("request_id", quoted(id)),
        ("peer", quoted(&request.peer().map_or(String::new(), |peer| peer.to_string()))),
        ("method", quoted(request.method())),
        ("target", quoted(request.target())),
        ("status", response.status().to_string()),
        ("bytes", bytes(request, response).map_or("null".to_owned(), |bytes| bytes.to_string())),
        ("duration_ms", format!("{milliseconds:.3}")),
        ("referer", quoted(&header("Referer"))),
        ("user_agent", quoted(&header("User-Agent"))),
    ]
}

/// The length of the body that is sent, if it is known before.
fn bytes(request: &Request, response: &Response) -> Option<u64> {
    if request.method() == "HEAD" { Some(0) } else { response.length() }
}

/// The time as in 1994-11-06T08:49:37Z (RFC 3339).
fn time() -> String {
    let date = common::date();
    let date: Vec<_> = date.as_str().split(' ').collect(); // Sun, 06 Nov 1994 08:49:37 GMT
    let month = "JanFebMarAprMayJunJulAugSepOctNovDec".find(date[2]).unwrap_or_default() / 3 + 1;
    format!("{}-{month:02}-{}T{}Z", date[3], date[1], date[4])
}

/// Printable ASCII stays as it is. Quotes, backslashes and all else become `\x22` and the like.
fn escaped(bytes: &[u8]) -> String {
    let escape = |byte: &u8| match byte {
        b'"' | b'\\' => format!("\\x{byte:02X}"),
        b' '..=b'~' => char::from(*byte).to_string(),
        _ => format!("\\x{byte:02X}"),
    };
    bytes.iter().map(escape).collect()
}
