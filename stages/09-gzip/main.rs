//! Stage 9: compress what the client can decompress. Chapter: docs/09-gzip.md

use std::io::{self, Write};
use std::process::ExitCode;

use common::{Directory, Request, Response, Rest};
use flate2::Compression;
use flate2::write::GzEncoder;

fn main() -> ExitCode {
    common::run_with_directory(|args| {
        let files = args.files();
        common::serve(args.listen()?, move |client| {
            common::answer(client, |request| route(request, &files));
        })
    })
}

fn route(request: &Request, files: &Directory) -> io::Result<Response> {
    Ok(match request.path() {
        ("", None) => Response::ok(),
        ("echo", Some(text)) => echo(request, text)?,
        ("user-agent", None) => user_agent(request),
        ("files", Some(name)) if request.method() == "POST" => store(request, files, name)?,
        ("files", Some(name)) => files.open(name).and_then(Response::file)?,
        _ => Response::not_found(),
    })
}

fn store(request: &Request, files: &Directory, name: Rest) -> io::Result<Response> {
    files.store(name, request.body()?)?;
    Ok(Response::created())
}

fn user_agent(request: &Request) -> Response {
    let found = request.header("User-Agent").unwrap_or_default();
    Response::text(found).header("Vary", "User-Agent")
}

fn echo(request: &Request, text: Rest) -> io::Result<Response> {
    let text = text.decode()?;
    let response = if accepts_gzip(request) {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text.as_bytes())?;
        Response::text(text).encoded("gzip", encoder.finish()?)
    } else {
        Response::text(text)
    };
    Ok(response.header("Vary", "Accept-Encoding")) // a cache must keep the two apart
}

/// Whether the client's list names `gzip`, or else `*`, with a weight `q` above zero.
fn accepts_gzip(request: &Request) -> bool {
    let weight_of = |wanted: &str| {
        request.headers().list("Accept-Encoding").find_map(|element| {
            let element = String::from_utf8_lossy(element);
            let (coding, parameter) = element.split_once(';').unwrap_or((&element, "q=1"));
            let parameter = parameter.trim_ascii().to_ascii_lowercase();
            let number: Option<f32> = parameter.strip_prefix("q=").and_then(|it| it.parse().ok());
            let weight = number.filter(|it| (0.0..=1.0).contains(it)).unwrap_or(0.0);
            coding.trim_ascii().eq_ignore_ascii_case(wanted).then_some(weight)
        })
    };
    weight_of("gzip").or(weight_of("*")).unwrap_or(0.0) > 0.0
}
