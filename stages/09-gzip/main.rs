//! Stage 9: compress what the client can decompress. Chapter: docs/09-gzip.md

use std::io::{self, Write};
use std::process::ExitCode;

use common::{Directory, Request, Response};
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

fn route(request: &Request, files: &Directory) -> Response {
    let parts: Vec<_> = request.path().splitn(3, '/').collect();
    let response = match parts[..] {
        ["", ""] => Ok(Response::ok()),
        ["", "echo", text] => echo(request, text),
        ["", "user-agent"] => Ok(Response::text(request.header("User-Agent").unwrap_or_default())),
        ["", "files", name] if request.method() == "POST" => store(request, files, name),
        ["", "files", name] => files.open(name).and_then(Response::file),
        _ => Ok(Response::not_found()),
    };
    response.unwrap_or_else(Response::failed)
}

fn store(request: &Request, files: &Directory, name: &str) -> io::Result<Response> {
    files.store(name, request.body()?)?;
    Ok(Response::created())
}

fn echo(request: &Request, text: &str) -> io::Result<Response> {
    let response = if accepts_gzip(request) {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text.as_bytes())?;
        Response::text(encoder.finish()?).header("Content-Encoding", "gzip")
    } else {
        Response::text(text)
    };
    Ok(response.header("Vary", "Accept-Encoding")) // a cache must keep the two apart
}

/// Whether the client's list names `gzip`, or else `*`, with a weight `q` above zero.
fn accepts_gzip(request: &Request) -> bool {
    let weight_of = |wanted: &str| {
        request.headers().list("Accept-Encoding").find_map(|element| {
            let (coding, parameter) = element.split_once(';').unwrap_or((element, "q=1"));
            let parameter = parameter.trim_ascii().to_ascii_lowercase();
            let number: Option<f32> = parameter.strip_prefix("q=").and_then(|it| it.parse().ok());
            let weight = number.filter(|it| (0.0..=1.0).contains(it)).unwrap_or(0.0);
            coding.trim_ascii().eq_ignore_ascii_case(wanted).then_some(weight)
        })
    };
    weight_of("gzip").or(weight_of("*")).unwrap_or(0.0) > 0.0
}
