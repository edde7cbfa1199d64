//! Stage 14 · A folder becomes a web site.
//!
//! The server is started with `--site DIR`: the files below it answer every path that no earlier stage is
//! about. With `--list`, folders without a page of their own are listed.

use std::fs;
use std::io::{self, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

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
        ("css", b"?"),
        ("code.min.js", b"alert(2)"),
        ("folder/more.css", b"p {}"),
    ];
    let server = Server::start_with_site("stage14", &[], &files)?;
    let why = "A browser goes by the Content-Type: it shows a page, applies a style, runs a script, only if \
               the type is right. The type follows from what is behind the last dot of the name.";
    for (name, content_type) in [
        ("page.html", "text/html"),
        ("style.css", "text/css"),
        ("note.txt", "text/plain"),
        ("code.js", "text/javascript"),
        ("code.min.js", "text/javascript"),
        ("folder/more.css", "text/css"),
    ] {
        let answer =
            server.get(&format!("/{name}")).status(200).header("Content-Type", content_type);
        let answer = in_utf_8(answer).header("X-Content-Type-Options", "nosniff");
        answer.because(&format!(
            "{why} Texts say that they are UTF-8, and nosniff comes with all."
        ))?;
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
        ("css", "application/octet-stream"),
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
    server.get("/echo/a").status(200).body("a").because("The earlier paths answer as before.")?;
    drop(server); // there may be one port for all
    let without_page = Server::start_with_site("stage14", &[], &[])?;
    without_page
        .get("/")
        .status(200)
        .because("The site has no index.html: / answers 200, as it has done since stage 2.")
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
        answer
            .leads_to(location)
            .because(&format!("{why} The query stays, and the path stays escaped."))?;
    }
    for target in
        ["//sub", "//evil.example/%2e%2e", "/%2Fsub", "/%5Csub", "/\\sub", "//sub/%2e%2e/sub"]
    {
        let answer = server.get(target).no_server_error().stays_on_this_site();
        answer.because(
            "A Location that begins with // or /\\ names another host. Anyone could make a link to your site \
             that leads to theirs.",
        )?;
    }
    Ok(())
}

#[test]
fn no_name_leads_out_of_the_site() -> Check {
    let files: [(&str, &[u8]); 10] = [
        ("index.html", b"home"),
        (".env", b"secret"),
        (".git/config", b"secret"),
        ("sub/.git/config", b"secret"),
        ("sub/f.txt", b"f"),
        ("sub/.well-known/a", b"secret"),
        (".well-known-old/a", b"secret"),
        (".well-known/.env", b"secret"),
        (".well-known/security.txt", b"Contact: me"),
        ("a", b"a"),
    ];
    let server = Server::start_with_site("stage14", &["--list"], &files)?;
    let secrets = server.site().with_file_name("secrets");
    fs::write(server.site().with_file_name("secret"), "secret").map_err(cannot)?;
    fs::create_dir(&secrets)
        .and_then(|()| fs::write(secrets.join("a"), "secret"))
        .map_err(cannot)?;
    for path in
        ["/../secret", "/%2e%2e/secret", "/%2e%2e%2fsecret", "/a/../../secret", "/..%5csecret"]
    {
        let why = "This name leads out of the site, as in stage 7.";
        server.get(path).refused().because(why)?;
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::symlink;
        symlink("../secret", server.site().join("out")).map_err(cannot)?;
        symlink("../secrets", server.site().join("outside")).map_err(cannot)?;
        for path in ["/out", "/outside", "/outside/", "/outside/a"] {
            server.get(path).refused().because(
                "\"out\" and \"outside\" are symbolic links to a file and to a folder that are not below the site. \
                 They are not to be sent, listed, or redirected to.",
            )?;
        }
        let pipe = std::process::Command::new("mkfifo").arg(server.site().join("pipe")).status();
        pipe.map_err(cannot)?;
        server.get("/pipe").refused().because(
            "\"pipe\" is no file but a named pipe: whoever reads from it waits until somebody writes to it. Send \
             files only.",
        )?;
    }
    for path in ["/a/", "/a/b", "/sub%2Ff.txt", "/a%00", "/sub/%00/"] {
        server.get(path).refused().because(
            "There is no such name: a file is no folder, and no name has a slash in it, or a zero byte.",
        )?;
    }
    for path in [
        "/.env",
        "/%2Eenv",
        "/.git",
        "/.git/",
        "/sub/.git",
        "/sub/.git/config",
        "/sub/.well-known/a",
        "/.well-known-old/a",
        "/.well-known/.env",
    ] {
        server.get(path).refused().because(
            "Names that begin with a dot are not for the world: passwords and histories have been \
             published by accident in files called .env and .git.",
        )?;
    }
    let answer = server.get("/.well-known/security.txt").status(200).body("Contact: me");
    answer.because("The one exception is /.well-known/, at the top of the site (RFC 8615).")
}

#[test]
fn a_missing_page_has_a_page() -> Check {
    let files: [(&str, &[u8]); 1] = [("404.html", b"<h1>nothing here</h1>")];
    let server = Server::start_with_site("stage14", &["--list"], &files)?;
    let why = "404.html is there, so it is the body of every 404. The status stays 404: with 200, a search \
               engine would take each wrong link for a page.";
    for path in ["/missing", "/missing/deep/below", "/missing.png"] {
        let answer = server.get(path).status(404).header("Content-Type", "text/html");
        let answer = answer.header("X-Content-Type-Options", "nosniff");
        answer.body("<h1>nothing here</h1>").because(why)?;
    }
    let answer = server.request("POST", "/missing").body("x").send().status(404);
    answer.body("<h1>nothing here</h1>").because(why)?;
    server.request("HEAD", "/missing").send().status(404).because("HEAD gets the status, too.")
}

/// What the links of a page lead to: the values of `href`, with the escapes of HTML undone.
fn links(page: &str) -> Vec<String> {
    let lower = page.to_ascii_lowercase();
    let values = lower.match_indices("href=").filter_map(|(at, _)| {
        let rest = &page[at + "href=".len()..];
        match rest.chars().next()? {
            quote @ ('"' | '\'') => rest[1..].split(quote).next(),
            _ => rest.split([' ', '>', '\n']).next(),
        }
    });
    values.map(without_references).collect()
}

/// A text with the character references of HTML undone: `&lt;`, `&#60;` and `&#x3C;` are `<`.
fn without_references(text: &str) -> String {
    let mut parts = text.split('&');
    let mut undone = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once(';').unwrap_or(("", part));
        let number =
            name.strip_prefix('#').and_then(|number| match number.strip_prefix(['x', 'X']) {
                Some(hexadecimal) => u32::from_str_radix(hexadecimal, 16).ok(),
                None => number.parse().ok(),
            });
        match (name, number.and_then(char::from_u32)) {
            (_, Some(character)) => undone.push(character),
            ("amp", _) => undone.push('&'),
            ("lt", _) => undone.push('<'),
            ("gt", _) => undone.push('>'),
            ("quot", _) => undone.push('"'),
            ("apos", _) => undone.push('\''),
            _ => {
                undone.push('&');
                undone += part;
                continue;
            }
        }
        undone += rest;
    }
    undone
}

/// The path that a link of a folder leads to.
fn resolve(folder: &str, link: &str) -> String {
    match link.strip_prefix("./").unwrap_or(link) {
        path if path.starts_with('/') => path.to_owned(),
        name => format!("{folder}{name}"),
    }
}

/// Expects that a page has a link to each of these files, and that each link is answered with the file.
fn has_links(server: &Server, folder: &str, names: &[&str], answer: &Answer) -> Check {
    let page = String::from_utf8_lossy(&answer.body).into_owned();
    for (text, problem) in [
        ("<b>.txt", "the name <b>.txt is in the page as it is, and begins a tag"),
        ("<i>", "the name <i> is in the page as it is, and begins a tag"),
        (".hidden", "the page lists .hidden, whose name begins with a dot"),
    ] {
        if page.contains(text) {
            return Err(Failure::new(problem));
        }
    }
    let links = links(&page);
    let contents: Vec<_> = links
        .iter()
        .map(|link| server.get(&resolve(folder, link)).answer().map_or(Vec::new(), |it| it.body))
        .collect();
    for name in names {
        let content = format!("content of {name}");
        if !contents.iter().any(|it| it == content.as_bytes()) {
            let failure = Failure::new(format!("no link of the page leads to the file {name}"));
            let is_lost = |content: &Vec<u8>| !content.starts_with(b"content of ");
            let lost = links.iter().zip(&contents).filter(|(_, content)| is_lost(content));
            let lost: Vec<_> = lost.map(|(link, _)| &**link).take(5).collect();
            return Err(failure.cause(format!(
                "These links lead to no file of the folder: {}. Either the link is not escaped as a path must be, \
                 or your server does not undo the escapes, or undoes them twice.",
                lost.join(", ")
            )));
        }
    }
    Ok(())
}

/// Expects that a page has a link to this folder.
fn has_folder(folder: &str, expected: &str, answer: &Answer) -> Check {
    let page = String::from_utf8_lossy(&answer.body).into_owned();
    let found = links(&page).into_iter().map(|link| resolve(folder, &link));
    let mut found = found.map(|path| path.trim_end_matches('/').to_owned());
    match found.any(|path| path == expected) {
        true => Ok(()),
        false => Err(Failure::new(format!("no link of the page leads to the folder {expected}/"))),
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
            "&lt;.txt",
        ]
    };
    let files = names.iter().map(|name| (format!("folder/{name}"), format!("content of {name}")));
    let files: Vec<_> = files.collect();
    let mut files: Vec<_> =
        files.iter().map(|(path, content)| (&**path, content.as_bytes())).collect();
    files.extend([("folder/sub/deep.txt", &b"deep"[..]), ("folder/.hidden", b"hidden")]);
    if cfg!(not(windows)) {
        files.push(("folder/<i>/deep.txt", b"content of deep.txt"));
    }
    let server = Server::start_with_site("stage14", &["--list"], &files)?;
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::ffi::OsStrExt;
        let name = std::ffi::OsStr::from_bytes(b"folder/caf\xe9.txt");
        fs::write(server.site().join(name), "content of Latin-1").map_err(cannot)?;
        let why =
            "The name of this file is bytes that are not UTF-8. Its escapes name these bytes.";
        let answer = server.get("/folder/caf%E9.txt").status(200);
        answer.body("content of Latin-1").because(why)?;
    }
    let answer = server.get("/folder/").status(200).header("Content-Type", "text/html");
    let answer = in_utf_8(answer).header("X-Content-Type-Options", "nosniff");
    let answer =
        answer.expect("a link to each file", |it| has_links(&server, "/folder/", names, it));
    let answer =
        answer.expect("a link to each folder", |it| has_folder("/folder/", "/folder/sub", it));
    answer.because(
        "The server was started with --list, and the folder has no index.html. Names are escaped twice: for \
         the link, as in a path, and for HTML.",
    )?;
    server.get("/").status(200).expect("", |it| has_folder("/", "/folder", it)).because(
        "The site has no index.html, and the server was started with --list: / is a list, too.",
    )?;
    if cfg!(not(windows)) {
        let names = &["deep.txt"];
        let folder = "/folder/%3Ci%3E/";
        let answer = server.get(folder).status(200);
        let answer = answer.expect("", |it| has_links(&server, folder, names, it));
        answer
            .because("The name of the folder may be a part of its page: escape it there, too.")?;
    }
    let name = "a+b&c;d.txt";
    let answer = server.get(&format!("/folder/{name}")).status(200);
    let answer = answer.body(format!("content of {name}"));
    answer.because("In a path, a plus is a plus. (It means a space in the query of a form.)")
}

fn gzip(text: &str) -> Result<Vec<u8>, Failure> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).and_then(|()| encoder.finish()).map_err(cannot)
}

#[test]
fn compresses_text_and_nothing_else() -> Check {
    let css = "body { color: red }\n".repeat(500);
    let script = "alert(1);".repeat(100);
    let noise: Vec<u8> = (0..=255).cycle().take(20_000).collect();
    let files = [
        ("a.css", css.as_bytes()),
        ("a.png", &noise),
        ("a.mp4", &noise),
        ("packed.js", script.as_bytes()),
        ("lure.js", script.as_bytes()),
    ];
    let server = Server::start_with_site("stage14", &[], &files)?;
    let accept = |coding: &str, path: &str| {
        server.request("GET", path).header(format!("Accept-Encoding: {coding}")).send()
    };
    let ask = |path: &str| accept("gzip", path);
    let vary = "Accept-Encoding";
    ask("/a.css").status(200).header("Content-Type", "text/css").gzip_body(&css).header("Vary", vary).because(
        "The client accepts gzip, and this is text. Content-Type says what the bytes are when unpacked.",
    )?;
    for answer in [server.get("/a.css"), accept("gzip;q=0", "/a.css")] {
        answer.status(200).body(&css).header("Vary", vary).because(
            "This client does not accept gzip. A cache has to know that the answer depends on that.",
        )?;
    }
    for path in ["/a.png", "/a.mp4"] {
        ask(path).status(200).body(&noise).because(
            "Pictures, films and the like are compressed already. To compress them again takes time and saves \
             nothing.",
        )?;
    }
    let packed = server.site().join("packed.js.gz");
    fs::write(&packed, gzip("not what is in packed.js")?).map_err(cannot)?;
    let time = UNIX_EPOCH + Duration::from_millis(1_700_000_000_500);
    set_time(&server.site().join("packed.js"), time)?;
    set_time(&packed, time)?;
    let answer = ask("/packed.js").status(200).header("Content-Type", "text/javascript");
    answer.gzip_body("not what is in packed.js").header("Vary", vary).because(
        "packed.js.gz is beside packed.js, and exactly as old, so not older: it is packed.js, compressed \
         beforehand. Send it as it is, with Content-Encoding: gzip and the type of packed.js.",
    )?;
    server.get("/packed.js").status(200).body(&script).header("Vary", vary).because(
        "This client does not accept gzip. A cache has to know that the answer depends on that.",
    )?;
    for earlier in [Duration::from_millis(1), Duration::from_secs(3600)] {
        set_time(&packed, time - earlier)?;
        ask("/packed.js").status(200).gzip_body(&script).because(
            "packed.js.gz is older than packed.js, if only by a millisecond, so it is an earlier version of it. \
             Compress packed.js itself.",
        )?;
    }
    #[cfg(unix)]
    {
        let secret = server.site().with_file_name("secret.gz");
        fs::write(&secret, gzip("secret")?).map_err(cannot)?;
        std::os::unix::fs::symlink(&secret, server.site().join("lure.js.gz")).map_err(cannot)?;
        ask("/lure.js")
            .status(200)
            .gzip_body(&script)
            .because("lure.js.gz is a link that leads out of the site, so it is not there.")?;
    }
    Ok(())
}

/// Sets the time at which a file was last changed.
fn set_time(path: &std::path::Path, time: SystemTime) -> Check {
    let file = fs::File::options().append(true).open(path);
    file.and_then(|file| file.set_modified(time)).map_err(cannot)
}

#[test]
fn knows_what_a_page_allows() -> Check {
    let long = "a text, ".repeat(500);
    let files: [(&str, &[u8]); 3] =
        [("a.txt", b"a text"), ("long.txt", long.as_bytes()), ("sub/index.html", b"below")];
    let server = Server::start_with_site("stage14", &[], &files)?;
    let head =
        server.request("HEAD", "/a.txt").send().status(200).header("Content-Type", "text/plain");
    head.because("The answer to HEAD has the headers of the answer to GET.")?;
    let head =
        server.request("HEAD", "/long.txt").header("Accept-Encoding: gzip").send().status(200);
    let head = head.expect("the length of the compressed text, or none", |answer| {
        let length = answer.header("Content-Length");
        match (length, answer.header("Content-Encoding")) {
            (Some(length), None) => Err(Failure::new(format!(
                "Content-Length is {length}, the length of the plain text, and GET gives the compressed one"
            ))),
            _ => Ok(()),
        }
    });
    head.because(
        "This client accepts gzip, so GET would be answered with the compressed text. HEAD describes that answer.",
    )?;
    for path in ["/a.txt", "/sub/", "/sub"] {
        let answer = server.request("POST", path).body("x").send().status(405).allows("GET");
        answer
            .allows("HEAD")
            .because("A page can be read and not be written. Nor is a POST redirected.")?;
    }
    let answer = server.request("DELETE", "/a.txt").send().status(405).allows("GET");
    answer.because("A page can be read, and cannot be deleted.")?;
    server
        .request("OPTIONS", "/a.txt")
        .send()
        .successful()
        .allows("GET")
        .because("OPTIONS asks what is allowed.")?;
    for (method, body) in [("POST", "x"), ("OPTIONS", "")] {
        let answer = server.request(method, "/missing").body(body).send().status(404);
        answer.because("What is not there allows nothing: 404 comes before 405.")?;
    }
    server.get("/a.txt").body("a text").because("Nothing has changed the file.")
}
