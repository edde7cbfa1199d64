//! Stage 14 · A folder becomes a web site.
//!
//! The server is started with `--site DIR`: the files below it answer every path that no earlier stage is
//! about. With `--list`, folders without a page of their own are listed.

use std::fs;
use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use flate2::Compression;
use flate2::write::GzEncoder;
use harness::{Answer, Check, Exchange, Failure, Server};

fn cannot(error: io::Error) -> Failure {
    Failure::new(format!("this check cannot prepare its files: {error}"))
}

/// Expects that the type says UTF-8.
fn in_utf_8(exchange: Exchange) -> Exchange {
    exchange.expect("charset=utf-8", |answer| {
        let found = answer.header("Content-Type").unwrap_or_default().to_ascii_lowercase();
        let charset = found.split(';').skip(1).map(|it| it.trim().replace('"', ""));
        if charset.into_iter().any(|parameter| parameter == "charset=utf-8") {
            return Ok(());
        }
        Err(Failure::new(format!("Content-Type is \"{found}\", without charset=utf-8")))
    })
}

#[test]
fn sends_files_with_their_types() -> Check {
    let page = "<!doctype html><title>café</title>".as_bytes();
    let files = [
        ("page.html", page),
        ("style.css", b"body { color: red }"),
        ("code.js", b"alert(1)"),
        ("note.txt", "café".as_bytes()),
        ("data.json", b"{}"),
        ("picture.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
        ("picture.png", b"\x89PNG"),
        ("photo.JPG", b"\xff\xd8"),
        ("letters.woff2", b"wOF2"),
        ("film.mp4", b"mp4"),
        ("paper.pdf", b"%PDF"),
        ("module.wasm", b"\0asm"),
        ("thing.unknown", b"?"),
        ("README", b"?"),
    ];
    let server = Server::start_with_site("stage14", &[], &files)?;
    let why = "A browser goes by the Content-Type: it shows a page, applies a style, runs a script, only if \
               the type is right. The type follows from what is behind the last dot of the name.";
    for (name, content_type) in [
        ("page.html", "text/html"),
        ("style.css", "text/css"),
        ("note.txt", "text/plain"),
        ("code.js", "text/javascript"),
    ] {
        let answer =
            server.get(&format!("/{name}")).status(200).header("Content-Type", content_type);
        in_utf_8(answer).because(&format!("{why} Texts say that they are UTF-8."))?;
    }
    for (name, content_type) in [
        ("data.json", "application/json"),
        ("picture.svg", "image/svg+xml"),
        ("picture.png", "image/png"),
        ("photo.JPG", "image/jpeg"),
        ("letters.woff2", "font/woff2"),
        ("film.mp4", "video/mp4"),
        ("paper.pdf", "application/pdf"),
        ("module.wasm", "application/wasm"),
        ("thing.unknown", "application/octet-stream"),
        ("README", "application/octet-stream"),
    ] {
        server
            .get(&format!("/{name}"))
            .status(200)
            .header("Content-Type", content_type)
            .header("X-Content-Type-Options", "nosniff")
            .because(&format!("{why} nosniff tells it not to guess."))?;
    }
    server.get("/page.html").body(page).because("The body is what the file contains.")
}

#[test]
fn a_folder_has_a_page() -> Check {
    let files: [(&str, &[u8]); 3] =
        [("index.html", b"home"), ("sub/index.html", b"below"), ("bare/note.txt", b"note")];
    let server = Server::start_with_site("stage14", &[], &files)?;
    for (path, page) in [("/", "home"), ("/?a=b", "home"), ("/sub/", "below")] {
        let answer = server.get(path).status(200).header("Content-Type", "text/html");
        answer.body(page).because("The page of a folder is its index.html.")?;
    }
    server
        .get("/bare/")
        .status_in(&[404, 403])
        .because("This folder has no index.html, and the server was started without --list.")?;
    server
        .get("/sub//")
        .refused()
        .because("There is no folder without a name between two slashes.")?;
    server.get("/echo/a").status(200).body("a").because("The earlier paths answer as before.")?;
    drop(server); // there may be one port for all
    let without_page = Server::start_with_site("stage14", &[], &[])?;
    without_page
        .get("/")
        .status(200)
        .because("The site has no index.html: / answers 200, as it has done since stage 2.")
}

/// Where a redirect leads, if it stays on this server: the path and the query.
fn path_of(location: &str) -> Option<&str> {
    let path = location.strip_prefix("http://localhost").unwrap_or(location);
    (path.starts_with('/') && !path.starts_with("//") && !path.starts_with("/\\")).then_some(path)
}

fn leads_to(answer: &Answer, expected: &str) -> Check {
    let Some(location) = answer.header("Location") else {
        return Err(Failure::new("the answer has no Location"));
    };
    match path_of(location) {
        Some(path) if path == expected => Ok(()),
        Some(_) => Err(Failure::new(format!("Location is \"{location}\", not \"{expected}\""))),
        None => Err(Failure::new(format!("Location is \"{location}\", which leads off this site"))),
    }
}

#[test]
fn a_folder_without_its_slash_is_redirected() -> Check {
    let files: [(&str, &[u8]); 2] =
        [("sub/index.html", b"below"), ("two words/index.html", b"two")];
    let server = Server::start_with_site("stage14", &[], &files)?;
    let why = "Without the slash, a link to \"a.png\" in the page would lead to /a.png instead of /sub/a.png. \
               So send the browser to the path with the slash.";
    for (target, location) in [
        ("/sub", "/sub/"),
        ("/sub?a=b&c", "/sub/?a=b&c"),
        ("/two%20words", "/two%20words/"),
        ("http://localhost/sub", "/sub/"),
    ] {
        let answer = server.get(target).status_in(&[301, 308, 302, 307]);
        let answer = answer.expect(&format!("Location: {location}"), |it| leads_to(it, location));
        answer.because(&format!("{why} The query stays, and the path stays escaped."))?;
    }
    for target in
        ["//sub", "//evil.example/%2e%2e", "/%2Fsub", "/%5Csub", "/\\sub", "//sub/%2e%2e/sub"]
    {
        let answer = server.get(target).no_server_error();
        let answer = answer.expect("no Location that leads off this site", |answer| {
            match answer.header("Location") {
                Some(location) if path_of(location).is_none() => Err(Failure::new(format!(
                    "Location is \"{location}\", which leads off this site"
                ))),
                _ => Ok(()),
            }
        });
        answer.because(
            "A Location that begins with // or /\\ names another host. Anyone could make a link to your site \
             that leads to theirs.",
        )?;
    }
    Ok(())
}

#[test]
fn no_name_leads_out_of_the_site() -> Check {
    let files: [(&str, &[u8]); 5] = [
        ("index.html", b"home"),
        (".env", b"secret"),
        ("sub/.git/config", b"secret"),
        (".well-known/security.txt", b"Contact: me"),
        ("a", b"a"),
    ];
    let server = Server::start_with_site("stage14", &[], &files)?;
    fs::write(server.site().with_file_name("secret"), "secret").map_err(cannot)?;
    for path in
        ["/../secret", "/%2e%2e/secret", "/%2e%2e%2fsecret", "/a/../../secret", "/..%5csecret"]
    {
        let why = "This name leads out of the site, as in stage 7.";
        server.get(path).refused().because(why)?;
    }
    #[cfg(unix)]
    {
        let out = server.site().join("out");
        std::os::unix::fs::symlink("../secret", out).map_err(cannot)?;
        server
            .get("/out")
            .refused()
            .because("\"out\" is a symbolic link that leads out of the site.")?;
    }
    for path in ["/.env", "/%2Eenv", "/sub/.git/config"] {
        server.get(path).refused().because(
            "Names that begin with a dot are not for the world: passwords and histories have been \
             published by accident in files called .env and .git.",
        )?;
    }
    let answer = server.get("/.well-known/security.txt").status(200).body("Contact: me");
    answer.because("The one exception is /.well-known/ (RFC 8615).")
}

#[test]
fn a_missing_page_has_a_page() -> Check {
    let files: [(&str, &[u8]); 1] = [("404.html", b"<h1>nothing here</h1>")];
    let server = Server::start_with_site("stage14", &[], &files)?;
    let why = "404.html is there, so it is the body of every 404. The status stays 404: with 200, a search \
               engine would take each wrong link for a page.";
    for path in ["/missing", "/missing/deep/below", "/missing.png"] {
        let answer = server.get(path).status(404).header("Content-Type", "text/html");
        answer.body("<h1>nothing here</h1>").because(why)?;
    }
    server.request("HEAD", "/missing").send().status(404).because("HEAD gets the status, too.")
}

/// What the links of a page lead to: the values of `href`, with the escapes of HTML undone.
fn links(page: &str) -> Vec<String> {
    let values = page.split("href=").skip(1).filter_map(|rest| {
        let quote = rest.chars().next().filter(|it| matches!(it, '"' | '\''))?;
        rest[1..].split(quote).next()
    });
    let undo = |value: &str| {
        let value = value.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"");
        value.replace("&#39;", "'").replace("&#x27;", "'").replace("&amp;", "&")
    };
    values.map(undo).collect()
}

/// The path that a link of `/folder/` leads to.
fn resolve(link: &str) -> String {
    match link.trim_start_matches("./") {
        path if path.starts_with('/') => path.to_owned(),
        name => format!("/folder/{name}"),
    }
}

#[test]
fn lists_folders_when_asked() -> Check {
    let names: &[&str] = if cfg!(windows) {
        &[
            "plain.txt",
            "two words.txt",
            "photo[1].txt",
            "50%.txt",
            "a#b.txt",
            "a+b&c;d.txt",
            "é.txt",
        ]
    } else {
        &[
            "plain.txt",
            "two words.txt",
            "photo[1].txt",
            "50%.txt",
            "a#b.txt",
            "a+b&c;d.txt",
            "é.txt",
            "why?.txt",
            "<b>.txt",
            "\"quoted\".txt",
            "it's.txt",
            "c:d.txt",
            "%41.txt",
        ]
    };
    let paths: Vec<_> = names.iter().map(|name| format!("folder/{name}")).collect();
    let mut files: Vec<_> = paths.iter().map(|path| (&**path, path.as_bytes())).collect();
    files.extend([("folder/sub/deep.txt", &b"deep"[..]), ("folder/.hidden", b"hidden")]);
    let server = Server::start_with_site("stage14", &["--list"], &files)?;
    let answer = server.get("/folder/").status(200).header("Content-Type", "text/html");
    let answer = in_utf_8(answer).expect("a link for each file", |answer| {
        let page = String::from_utf8_lossy(&answer.body).into_owned();
        if page.contains("<b>.txt") {
            return Err(Failure::new("the name <b>.txt is in the page as it is, and begins a tag"));
        }
        if page.contains(".hidden") {
            return Err(Failure::new("the page lists .hidden, whose name begins with a dot"));
        }
        let found: Vec<_> = links(&page).iter().map(|link| resolve(link)).collect();
        for name in names {
            let content = format!("folder/{name}");
            let leads_there = |path: &String| {
                server.get(path).answer().is_ok_and(|answer| answer.body == content.as_bytes())
            };
            if !found.iter().any(leads_there) {
                return Err(Failure::new(format!("no link of the page leads to the file {name}")));
            }
        }
        match found.iter().any(|path| path == "/folder/sub/") {
            true => Ok(()),
            false => Err(Failure::new("no link of the page leads to the folder sub/")),
        }
    });
    answer.because(
        "The server was started with --list, and the folder has no index.html. Names are escaped twice: for \
         the link, as in a path, and for HTML.",
    )?;
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::ffi::OsStrExt;
        let name = std::ffi::OsStr::from_bytes(b"caf\xe9.txt");
        fs::write(server.site().join(name), "Latin-1").map_err(cannot)?;
        let why =
            "The name of this file is bytes that are not UTF-8. Its escapes name these bytes.";
        server.get("/caf%E9.txt").status(200).body("Latin-1").because(why)?;
    }
    Ok(())
}

fn gzip(text: &str) -> Result<Vec<u8>, Failure> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).and_then(|()| encoder.finish()).map_err(cannot)
}

#[test]
fn compresses_text_and_nothing_else() -> Check {
    let css = "body { color: red }\n".repeat(500);
    let picture: Vec<u8> = (0..=255).cycle().take(20_000).collect();
    let files = [("a.css", css.as_bytes()), ("a.png", &picture), ("packed.js", b"a script")];
    let server = Server::start_with_site("stage14", &[], &files)?;
    let ask = |path: &str| server.request("GET", path).header("Accept-Encoding: gzip").send();
    let vary = "Accept-Encoding";
    ask("/a.css").status(200).header("Content-Type", "text/css").gzip_body(&css).header("Vary", vary).because(
        "The client accepts gzip, and this is text. Content-Type says what the bytes are when unpacked.",
    )?;
    let plain = server.get("/a.css").status(200).body(&css).header("Vary", vary);
    plain.because(
        "This client does not accept gzip. A cache has to know that the answer depends on that.",
    )?;
    ask("/a.png").status(200).body(&picture).because(
        "A picture is compressed already. To compress it again takes time and saves nothing.",
    )?;
    fs::write(server.site().join("packed.js.gz"), gzip("not what is in packed.js")?)
        .map_err(cannot)?;
    let answer = ask("/packed.js").status(200).header("Content-Type", "text/javascript");
    answer.gzip_body("not what is in packed.js").header("Vary", vary).because(
        "packed.js.gz is beside packed.js, and not older: it is packed.js, compressed beforehand. Send it as it \
         is, with Content-Encoding: gzip and the type of packed.js.",
    )?;
    server
        .get("/packed.js")
        .status(200)
        .body("a script")
        .because("This client does not accept gzip.")?;
    let an_hour_ago = SystemTime::now() - Duration::from_secs(3600);
    let packed = fs::File::options().write(true).open(server.site().join("packed.js.gz"));
    packed.and_then(|file| file.set_modified(an_hour_ago)).map_err(cannot)?;
    ask("/packed.js").status(200).gzip_body("a script").because(
        "packed.js.gz is older than packed.js, so it is an earlier version of it. Compress packed.js itself.",
    )
}

#[test]
fn knows_what_a_page_allows() -> Check {
    let files: [(&str, &[u8]); 2] = [("a.txt", b"a text"), ("sub/index.html", b"below")];
    let server = Server::start_with_site("stage14", &[], &files)?;
    let head =
        server.request("HEAD", "/a.txt").send().status(200).header("Content-Type", "text/plain");
    head.because("The answer to HEAD has the headers of the answer to GET.")?;
    for path in ["/a.txt", "/sub/", "/sub"] {
        let answer = server.request("POST", path).body("x").send().status(405).allows("GET");
        answer
            .allows("HEAD")
            .because("A page can be read and not be written. Nor is a POST redirected.")?;
    }
    server
        .request("OPTIONS", "/a.txt")
        .send()
        .successful()
        .allows("GET")
        .because("OPTIONS asks.")?;
    let answer = server.request("POST", "/missing").body("x").send().status(404);
    answer.because("What is not there allows nothing: 404 comes before 405.")?;
    server.get("/a.txt").body("a text").because("Nothing has changed the file.")
}
