//! Stage 17 with one mistake, chosen by `MISTAKE`; tests/wrong_servers.rs says which check must catch it. Look for
//! `is("…")`: that is where the mistake is.

mod mistake;

use std::io;
use std::process::ExitCode;

use common::{Countdown, Directory, Refused, Request, Response, Site, query_pairs};
use mistake::is;

/// The method, the pattern and the number of each route. Of those that fit, the first one answers.
const ROUTES: [(&str, &str, Route); 10] = [
    ("GET", "/echo", Route::EchoQuery),
    ("GET", "/echo/*text", Route::Echo),
    ("GET", "/user-agent", Route::UserAgent),
    ("GET", "/countdown/*from", Route::Countdown),
    ("GET", "/user/me", Route::Me),
    ("GET", "/user/me/settings", Route::Settings),
    ("GET", "/user/:id", Route::User),
    ("GET", "/user/:id/posts/:post", Route::Post),
    ("GET", "/files/*name", Route::Fetch),
    ("POST", "/files/*name", Route::Store),
];

#[derive(Clone, Copy)]
enum Route {
    EchoQuery,
    Echo,
    UserAgent,
    Countdown,
    Me,
    Settings,
    User,
    Post,
    Fetch,
    Store,
}

fn main() -> ExitCode {
    common::run_with_caching(|args| {
        let (files, max_age) = (args.files(), args.max_age);
        let site = Site::new(args.site()).list_folders(args.list);
        args.service()?.run(move |request| {
            let response = match answer(request, &files)? {
                Some(response) => response,
                None => site.answer(request)?,
            };
            let response = common::cached(request, response, max_age, common::now());
            Ok(common::ranged(request, response, common::now()))
        });
        Ok(())
    })
}

/// The answer of a route, or of the router; `None` if no route fits.
fn answer(request: &Request, files: &Directory) -> io::Result<Option<Response>> {
    let path = path_of(request);
    let mut routes = ROUTES;
    if is("the-first-one-wins") {
        routes.reverse();
    }
    let fitting = routes
        .iter()
        .filter_map(|(method, pattern, route)| Some((*method, *route, fit(pattern, &path)?)));
    let fitting: Vec<_> = fitting
        .take(
            if is("never-goes-back") && path.starts_with("/user/me/") && path != "/user/me/settings"
            {
                0
            } else {
                9
            },
        )
        .collect();
    let method = if request.method() == "HEAD" && !is("head-is-another-method") {
        "GET"
    } else {
        request.method()
    };
    if let Some((_, route, values)) =
        fitting.iter().find(|(of_route, ..)| *of_route == method || is("any-method-will-do"))
    {
        return call(request, files, *route, values).map(Some);
    }
    if is("405-for-everything") && fitting.is_empty() && method != "GET" {
        return Ok(Some(Response::new(405).header("Allow", "GET, HEAD, OPTIONS, POST")));
    }
    if fitting.is_empty() {
        return Ok(moved(request, &path));
    }
    let mut allowed: Vec<_> = fitting.iter().map(|(method, ..)| *method).collect();
    if is("allows-the-first-only") {
        allowed.truncate(1);
    }
    allowed.extend((allowed.contains(&"GET") && !is("forgets-head")).then_some("HEAD"));
    let allow = allowed.join(", ") + ", OPTIONS";
    Ok(Some(match method {
        _ if is("404-for-other-methods") => Response::not_found(),
        "OPTIONS" if !is("options-are-not-allowed") => Response::ok().header("Allow", allow),
        _ if is("405-without-allow") => Response::new(405),
        _ => Response::new(405).header("Allow", allow),
    }))
}

/// The path that routes are looked up with.
fn path_of(request: &Request) -> String {
    let raw = format!("/{}", request.full_path().raw());
    match () {
        () if is("decodes-before-it-splits") => {
            format!("/{}", request.full_path().decode().unwrap_or_default())
        }
        () if is("ignores-slashes-at-the-end") && raw.len() > 1 && raw != "/echo/" => {
            raw.trim_end_matches('/').to_owned()
        }
        () if is("keeps-the-query") => request.target().to_owned(),
        () => raw,
    }
}

/// What the parameters of a pattern stand for in a path, not decoded.
fn fit(pattern: &str, path: &str) -> Option<Vec<String>> {
    let (mut values, mut path) = (Vec::new(), Some(path.strip_prefix('/')?));
    let mut segments = pattern.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let left = path?;
        let (part, after) =
            left.split_once('/').map_or((left, None), |(part, after)| (part, Some(after)));
        let is_last = segments.peek().is_none();
        path = after;
        match segment.as_bytes()[0] {
            b'*' => {
                values.push(left.to_owned());
                return Some(values);
            }
            b':' if is("parameters-take-slashes") && is_last => {
                values.push(left.to_owned());
                return Some(values);
            }
            b':' if !part.is_empty() || is("parameters-may-be-empty") => {
                values.push(part.to_owned())
            }
            b':' => return None,
            _ if is("a-beginning-will-do") && part.starts_with(segment) => {}
            _ if is("compares-names-with-escapes") && part == segment => {}
            _ if !is("compares-names-with-escapes")
                && decode(part).is_ok_and(|text| text == segment) => {}
            _ => return None,
        }
    }
    (path.is_none() || is("the-beginning-of-a-path-will-do")).then_some(values)
}

/// Undoes the escapes of a part of a path.
fn decode(part: &str) -> io::Result<String> {
    let text = format!("a={}", part.replace('+', "%2B"));
    let value =
        query_pairs(text.as_bytes()).next().map_or(String::new(), |(_, value)| value.into_owned());
    if value.contains('\u{fffd}') {
        return Err(match is("text-that-is-no-text-is-an-error") {
            true => io::Error::other("invalid utf-8"),
            false => Refused { status: 400, why: "not UTF-8" }.into(),
        });
    }
    Ok(value)
}

/// Sends the client to the path with a slash at its end, or without.
fn moved(request: &Request, path: &str) -> Option<Response> {
    let other = path.strip_suffix('/').map_or_else(|| format!("{path}/"), str::to_owned);
    let exists = ROUTES.iter().any(|(_, pattern, _)| fit(pattern, &other).is_some());
    let is_taken_for_one = is("redirects-whatever-comes") && path.starts_with("//");
    if is("never-redirects") || !exists && !is_taken_for_one {
        return None;
    }
    let query = request.query_string().filter(|_| !is("redirects-without-the-query"));
    let query = query.map_or(String::new(), |query| format!("?{query}"));
    let other = if is("redirects-to-the-decoded-path") { decode(&other).ok()? } else { other };
    let status = if is("redirects-with-301") { 301 } else { 308 };
    Some(Response::new(status).header("Location", other + &query))
}

fn call(
    request: &Request,
    files: &Directory,
    route: Route,
    values: &[String],
) -> io::Result<Response> {
    let texts: io::Result<Vec<_>> = values.iter().map(|value| text_of(value)).collect();
    let rest = request.path().1;
    match (route, rest) {
        (Route::EchoQuery, _) => echo(request),
        (Route::UserAgent, _) => {
            Ok(Response::text(request.header("User-Agent").unwrap_or_default()))
        }
        (Route::Me, _) => Ok(Response::text("that is you")),
        (Route::Settings, _) => Ok(Response::text("your settings")),
        (Route::User, _) => Ok(json(&[("user_id", &texts?[0])])),
        (Route::Post, _) => {
            let texts = texts?;
            Ok(json(&[("user_id", &texts[0]), ("post_id", &texts[1])]))
        }
        (Route::Fetch, Some(name)) => common::download(request, files.open(name)?),
        (Route::Store, Some(name)) => {
            files.store(name, request.body()?).map(|_| Response::created())
        }
        (Route::Countdown, Some(from)) => Ok(Countdown::from(from.raw())
            .map_or_else(Response::not_found, |lines| Response::stream("text/plain", lines))),
        _ => Response::text(&*texts?[0]).compressed_for(request.headers()),
    }
}

fn text_of(value: &str) -> io::Result<String> {
    match () {
        () if is("does-not-decode") || is("decodes-before-it-splits") => Ok(value.to_owned()),
        () if is("decodes-twice") => decode(&decode(value)?),
        () if is("decodes-paths-as-forms") => decode(&value.replace('+', " ")),
        () => decode(value),
    }
}

fn echo(request: &Request) -> io::Result<Response> {
    let query = request.query_string().unwrap_or_default();
    let wrong = || Refused { status: 400, why: "no message" };
    if is("bad-escapes-are-errors") && (query.ends_with('%') || query.contains("%z")) {
        return Err(io::Error::other("invalid escape"));
    }
    let values: Vec<String> = match () {
        () if is("searches-for-the-name") => {
            query.split("message=").skip(1).map(str::to_owned).collect()
        }
        () if is("decodes-before-it-splits-the-query") => {
            let decoded = decode(&query.replace('+', " "))?;
            let pairs = decoded.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
            pairs
                .filter(|(name, _)| *name == "message")
                .map(|(_, value)| value.to_owned())
                .collect()
        }
        () if is("signs-are-digits") => {
            let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
            pairs
                .map(|(name, value)| [name, value].map(|it| decode_with_signs(it.as_bytes())))
                .filter(|[name, _]| name == "message")
                .map(|[_, value]| value)
                .collect()
        }
        () if is("a-plus-is-a-plus") => query_pairs(query.replace('+', "%2B").as_bytes())
            .filter(|(name, _)| name == "message")
            .map(|(_, value)| value.into_owned())
            .collect(),
        () if is("splits-at-every-equals-sign") => {
            let pairs = query.split('&').map(|pair| pair.split('=').collect::<Vec<_>>());
            pairs
                .filter(|it| it.len() == 2 && it[0] == "message")
                .map(|it| decode(&it[1].replace('+', " ")))
                .collect::<io::Result<_>>()?
        }
        () => query_pairs(query.as_bytes())
            .filter(|(name, _)| {
                name == "message" || is("names-ignore-case") && name.eq_ignore_ascii_case("message")
            })
            .map(|(_, value)| value.into_owned())
            .collect(),
    };
    let chosen = if is("takes-the-last-value") { values.last() } else { values.first() };
    let chosen = chosen.filter(|it| !it.is_empty() || !is("empty-is-missing"));
    let fallback = String::new();
    let chosen =
        chosen.or_else(|| is("missing-is-empty").then_some(&fallback)).ok_or_else(wrong)?;
    Ok(Response::text(format!("Echo: {chosen}")))
}

fn json(members: &[(&str, &String)]) -> Response {
    let escape = |character: char| match character {
        _ if is("json-without-escapes") => character.to_string(),
        '"' | '\\' => format!("\\{character}"),
        '\0'..' ' if !is("json-with-raw-control-characters") => {
            format!("\\u{:04x}", u32::from(character))
        }
        _ => character.to_string(),
    };
    let number = |text: &str| is("ids-are-numbers") && text.parse::<u32>().is_ok();
    let members = members.iter().map(|(name, value)| match number(value) {
        true => format!("\"{name}\": {}", value.trim_start_matches('0')),
        false => format!("\"{name}\": \"{}\"", value.chars().map(escape).collect::<String>()),
    });
    let text = format!("{{{}}}", members.collect::<Vec<_>>().join(", "));
    match is("json-as-text") {
        true => Response::text(text),
        false => Response::json(text),
    }
}

/// Decodes a value as a function does that reads numbers.
fn decode_with_signs(mut text: &[u8]) -> String {
    let mut decoded = Vec::new();
    while let [byte, after @ ..] = text {
        text = after;
        let digits = after.get(..2).filter(|_| *byte == b'%');
        let digits = digits.and_then(|it| std::str::from_utf8(it).ok());
        match digits.and_then(|it| u8::from_str_radix(it, 16).ok()) {
            Some(escaped) => {
                decoded.push(escaped);
                text = &after[2..];
            }
            None => decoded.push(if *byte == b'+' { b' ' } else { *byte }),
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}
