//! Stage 13 with one mistake, which the environment variable `MISTAKE` names. tests/wrong_servers.rs says which
//! check must catch each of them. Search for `is("…")` to find the mistake.

mod mistake;

use std::io::{self, ErrorKind, Read};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use common::{Directory, Refused, Request, Response, Version};
use mistake::is;

const SECOND: Duration = Duration::from_secs(1);

const MALFORMED: Refused = Refused { status: 400, why: "the body is not made of chunks" };

fn main() -> ExitCode {
    common::run_with_limits(|args| {
        let (files, limit) = (args.files(), args.limits.max_body);
        args.service()?.run(move |request| route(request, &files, limit));
        Ok(())
    })
}

fn route(request: &Request, files: &Directory, limit: u64) -> io::Result<Response> {
    match (request.method(), request.path()) {
        ("POST", ("files", Some(name))) => {
            let mut content = Vec::new();
            let decoded = decode(request, limit, &mut content);
            if !is("stores-incomplete-bodies") {
                decoded?;
            }
            files.store_from(name, &content[..])?;
            Ok(Response::created())
        }
        (_, ("files", Some(name))) => {
            let file = files.open(name)?;
            let response = if common::accepts_gzip(request.headers()) {
                let packed = common::gzip_stream(file.into_whole()?);
                Response::stream("application/octet-stream", packed)
                    .header("Content-Encoding", "gzip")
            } else {
                Response::file(file)?
            };
            Ok(if is("no-vary") { response } else { response.header("Vary", "Accept-Encoding") })
        }
        (_, ("countdown", Some(from))) => {
            let is_number = from.raw().bytes().all(|byte| byte.is_ascii_digit());
            match from.raw().parse() {
                Ok(from @ 1..=60) if is_number || is("takes-any-countdown") => {
                    Ok(countdown(request, from))
                }
                _ => Ok(Response::not_found()),
            }
        }
        _ => Ok(Response::not_found()),
    }
}

/// Appends the content of a body in chunks, or of one with a length.
fn decode(request: &Request, limit: u64, content: &mut Vec<u8>) -> io::Result<()> {
    if !request.is_chunked() {
        return request.body()?.read_to_end(content).map(drop);
    }
    loop {
        let line = read_line(request)?;
        let size = size_of_chunk(&line)?;
        let total = if is("counts-each-chunk") { size } else { content.len() as u64 + size };
        if total > limit && !is("no-limit") {
            return Err(Refused { status: 413, why: "too large" }.into());
        }
        if size == 0 {
            break;
        }
        read_chunk(request, usize::try_from(size).map_err(|_| MALFORMED)?, content)?;
        if is("skips-line-ends-unseen") {
            request.raw()?.read_exact(&mut [0; 2])?;
        } else if !read_line(request)?.is_empty() && !is("forgiving-line-ends") {
            return Err(MALFORMED.into());
        }
    }
    while !is("no-trailers") {
        let line = read_line(request)?;
        if line.is_empty() {
            break;
        }
        let (name, _) = line.split_once(':').ok_or(MALFORMED)?;
        if name.contains([' ', '(']) && !is("forgiving-trailers") {
            return Err(MALFORMED.into());
        }
    }
    request.raw()?.end();
    Ok(())
}

fn size_of_chunk(line: &str) -> Result<u64, Refused> {
    let size = if is("no-extensions") { line } else { line.split(';').next().unwrap_or_default() };
    let size = if is("trims-sizes") { size.trim() } else { size };
    if line.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
        return Err(MALFORMED);
    }
    if size.len() > 16 && is("many-digits-are-too-large") {
        return Err(Refused { status: 413, why: "too large" });
    }
    let is_hexadecimal = size.len() <= 16 && size.bytes().all(|it| it.is_ascii_hexdigit());
    if is("decimal-sizes") {
        return size.parse().map_err(|_| MALFORMED);
    }
    if !is_hexadecimal && !is("signed-sizes") {
        return Err(MALFORMED);
    }
    u64::from_str_radix(size, 16).map_err(|_| MALFORMED)
}

/// Reads the content of a chunk to the end of `content`.
fn read_chunk(request: &Request, size: usize, content: &mut Vec<u8>) -> io::Result<()> {
    let mut chunk = vec![0; size];
    let mut input = request.raw()?;
    if is("one-read-for-a-chunk") {
        let count = input.read(&mut chunk)?;
        chunk.truncate(count);
    } else {
        input.read_exact(&mut chunk)?;
    }
    content.extend_from_slice(&chunk);
    Ok(())
}

fn read_line(request: &Request) -> io::Result<String> {
    let mut line = Vec::new();
    let mut input = request.raw()?;
    while !line.ends_with(b"\n") {
        let mut byte = [0];
        if input.read(&mut byte)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        line.push(byte[0]);
        if line.len() > if is("limits-each-line") { 2048 } else { 256 } {
            return Err(Refused { status: 431, why: "a line is too long" }.into());
        }
    }
    let stripped = line.strip_suffix(b"\r\n");
    let line = if is("newline-alone") { Some(line.trim_ascii_end()) } else { stripped };
    Ok(String::from_utf8_lossy(line.ok_or(MALFORMED)?).into_owned())
}

fn countdown(request: &Request, from: u32) -> Response {
    let is_old = request.version() == Version::Http10 && !is("chunks-for-everyone");
    let response = Response::by_hand("text/plain", move |client| {
        let mut collected = Vec::new();
        for number in (1..=from).rev() {
            let line = format!("{number}\n");
            let chunk = format!("{:x}\r\n{line}\r\n", line.len());
            let bytes = if is_old { line } else { chunk };
            if is("empty-chunks") && number < from {
                client.write_all(b"0\r\n\r\n")?; // the mistake: there is nothing to send now
            }
            if is("collected-stream") {
                collected.extend_from_slice(bytes.as_bytes());
            } else {
                client.write_all(bytes.as_bytes())?;
            }
            let pause = if is("counts-too-fast") { Duration::from_millis(200) } else { SECOND };
            thread::sleep(pause * u32::from(number > 1));
        }
        client.write_all(&collected)?;
        if is_old || is("no-last-chunk") { Ok(()) } else { client.write_all(b"0\r\n\r\n") }
    });
    if is_old { response.last() } else { response.header("Transfer-Encoding", "chunked") }
}
