//! The course in a real browser: every page of it, shown by the latest stage, without one complaint in the
//! browser's console. A wrong type shows there: a style that is refused, a script that does not run.
//!
//! It needs Chromium and `cargo book`, so .ci/run runs it, and `cargo test` does not.

use std::collections::HashSet;
use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use harness::{Server, Stage, free_port, own_command, repository};
use tempfile::TempDir;

/// How long a page may take.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The pages of the course.
fn pages(site: &Path) -> Vec<String> {
    let entries = fs::read_dir(site).expect("`cargo book` has made the site");
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut pages: Vec<_> = names.filter(|name| name.ends_with(".html")).collect();
    pages.sort();
    pages
}

/// Starts a browser without a window. What it says is written to `log` in its profile.
fn browser(profile: &Path, arguments: &[&str]) -> Child {
    Command::new("chromium")
        .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"])
        .args(arguments)
        .arg(format!("--user-data-dir={}", profile.join("profile").display()))
        .stdout(Stdio::null())
        .stderr(fs::File::create(profile.join("log")).expect("a file can be created"))
        .spawn()
        .expect("Chromium is installed")
}

/// What the browser's console says about a page.
fn console(profile: &Path, url: &str) -> Vec<String> {
    let mut browser = browser(profile, &["--virtual-time-budget=4000", "--dump-dom", url]);
    let start = Instant::now();
    while browser.try_wait().expect("it can be waited for").is_none() {
        if start.elapsed() > TIMEOUT {
            let _ = browser.kill();
            panic!("{url} takes more than {} seconds", TIMEOUT.as_secs());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let said = fs::read(profile.join("log")).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    said.lines().filter(|line| line.contains(":CONSOLE")).map(str::to_owned).collect()
}

fn latest_stage() -> &'static str {
    Stage::all().last().expect("there are stages").name().leak()
}

/// The latest stage, serving a folder.
fn serve(site: &Path) -> Server {
    let site = site.display().to_string();
    let server = Server::start_own_with_args(latest_stage(), &["--list", "--site", &site])
        .unwrap_or_else(|failure| panic!("{failure:?}"));
    server.connect().unwrap_or_else(|failure| panic!("{failure:?}"));
    server
}

#[ignore = "needs Chromium; .ci/run runs it"]
#[test]
fn every_page_of_the_course_is_shown_without_a_complaint() {
    let site: PathBuf = repository().join("target/book");
    let pages = pages(&site);
    assert!(pages.len() > 15, "{pages:?}");
    let server = serve(&site);
    let profile = TempDir::new().expect("a temporary directory");
    let complaints: Vec<_> = pages
        .iter()
        .flat_map(|page| {
            console(profile.path(), &format!("http://127.0.0.1:{}/{page}", server.port()))
        })
        .collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// Shows a page that asks for `/{end}` when it is done, and returns the lines that the server has logged.
fn log_of(server: &Server, page: &str, end: &str) -> Vec<String> {
    let profile = TempDir::new().expect("a temporary directory");
    let url = format!("http://127.0.0.1:{}/{page}", server.port());
    let mut browser = browser(profile.path(), &[&url]);
    let deadline = Instant::now() + TIMEOUT;
    let done = || server.output().contains(&format!("/{end} "));
    while !done() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(20));
    }
    browser.kill().and_then(|()| browser.wait()).expect("a browser can be stopped");
    let log = server.output();
    assert!(log.contains(&format!("/{end} ")), "{log}");
    log.lines().map(str::to_owned).collect()
}

/// The page shows a chapter in a frame, twice.
#[ignore = "needs Chromium; .ci/run runs it"]
#[test]
fn what_a_browser_has_is_not_sent_again() {
    let page = "<!doctype html><iframe src='/book/05-headers.html'></iframe>
        <script>
            const frame = document.querySelector('iframe');
            let visits = 0;
            frame.onload = () => {
                visits += 1;
                fetch('/visited-' + visits);
                if (visits == 1) frame.src = frame.src;
            };
        </script>";
    let site = TempDir::new().expect("a temporary directory");
    fs::write(site.path().join("twice.html"), page).expect("writable");
    let book = repository().join("target/book");
    let copied = Command::new("cp").arg("-a").arg(book).arg(site.path().join("book")).status();
    assert!(copied.expect("cp runs").success());
    let server = serve(site.path());
    let log = log_of(&server, "twice.html", "visited-2");

    let mut sent = HashSet::new();
    let mut unchanged = 0;
    for line in log.iter().filter(|line| line.contains("\"GET /book/")) {
        let request = line.split('"').nth(1).expect("a line of the log quotes the request");
        let again = !sent.insert(request);
        let is_unchanged = line.contains("\" 304");
        assert!(!again || is_unchanged, "{line}: sent again, of {log:#?}");
        unchanged += usize::from(is_unchanged);
    }
    assert!(sent.len() > 15 && unchanged > 5, "{log:#?}");
}

/// A minute of silence: 8,000 samples in a second, of one byte each.
fn silence() -> Vec<u8> {
    const LENGTH: u32 = 60 * 8_000;
    let number = |number: u32| number.to_le_bytes();
    let mut wav = [b"RIFF", &number(LENGTH + 36)[..], b"WAVEfmt ", &number(16)].concat();
    wav.extend([1, 0, 1, 0]); // PCM, one channel
    wav.extend([number(8_000), number(8_000)].concat());
    wav.extend([1, 0, 8, 0]); // bytes and bits of a sample
    wav.extend([b"data", &number(LENGTH)[..]].concat());
    wav.resize(wav.len() + LENGTH as usize, 128);
    wav
}

/// The page asks for `/arrived-at-50` when the browser plays from there.
#[ignore = "needs Chromium; .ci/run runs it"]
#[test]
fn a_browser_seeks_in_a_sound() {
    let page = "<!doctype html><audio src='silence.wav' preload='metadata' muted></audio>
        <script>
            const audio = document.querySelector('audio');
            audio.onloadedmetadata = () => { audio.currentTime = 50; };
            audio.onseeked = () => { fetch('/arrived-at-' + audio.currentTime); };
        </script>";
    let site = TempDir::new().expect("a temporary directory");
    fs::write(site.path().join("seek.html"), page).expect("writable");
    fs::write(site.path().join("silence.wav"), silence()).expect("writable");
    let server = serve(site.path());
    let log = log_of(&server, "seek.html", "arrived-at-50");
    assert!(log.iter().any(|line| line.contains("silence.wav HTTP/1.1\" 206")), "{log:#?}");
}

/// The page asks two servers on other ports, of which one allows it. It asks with a preflight, since no form could send
/// JSON, and says what has come of it.
#[ignore = "needs Chromium; .ci/run runs it"]
#[test]
fn a_page_of_another_site_reads_what_it_is_allowed_to() {
    let site = TempDir::new().expect("a temporary directory");
    let pages = serve(site.path());
    let origin = format!("http://127.0.0.1:{}", pages.port());
    let start = |args: &[&str]| {
        let server = Server::start_own_with_args(latest_stage(), args);
        let server = server.unwrap_or_else(|failure| panic!("{failure:?}"));
        server.connect().unwrap_or_else(|failure| panic!("{failure:?}"));
        server
    };
    let open = start(&["--allow-origin", &origin]);
    let closed = start(&["--allow-origin", "http://127.0.0.1:1"]);
    let page = format!(
        "<!doctype html><script>
            const add = (port) => fetch(`http://127.0.0.1:${{port}}/data`, {{
                method: 'POST',
                headers: {{ 'Content-Type': 'application/json' }},
                body: '{{}}',
            }}).then((answer) => answer.headers.get('Location'));
            const says = (name, result) => fetch(`/${{name}}${{result}}`);
            add({}).then((place) => says('open', place), () => says('open', '/refused'))
                .then(() => add({}))
                .then((place) => says('closed', place), () => says('closed', '/refused'))
                .then(() => fetch('/all-said'));
        </script>",
        open.port(),
        closed.port()
    );
    fs::write(site.path().join("ask.html"), page).expect("writable");
    let log = log_of(&pages, "ask.html", "all-said").join("\n");
    assert!(log.contains("GET /open/data/1 ") && log.contains("GET /closed/refused "), "{log}");
    assert!(!closed.output().contains("POST /data"), "{}", closed.output());
}

/// A server with the notes of stage 21, which is killed when this is dropped.
struct Notes(Child);

impl Notes {
    /// Starts the server on this port. Its site and its store are in this folder.
    fn start(place: &Path, port: u16) -> Notes {
        let mut command = own_command(latest_stage()).unwrap_or_else(|it| panic!("{it:?}"));
        command.arg("--port").arg(port.to_string());
        command.arg("--site").arg(place.join("site")).arg("--store").arg(place.join("store"));
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let notes = Notes(child.expect("the server can be started"));
        let deadline = Instant::now() + TIMEOUT;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "the server does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        notes
    }
}

impl Drop for Notes {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Opens two windows with the notes. What is done in one of them must be seen in the other one, also after the server was
/// killed and started again. The page tells another server how far it has come.
const TWO_WINDOWS: &str = r#"<!doctype html><script type="module">
    const tell = (what) => fetch('http://127.0.0.1:PORT/' + what, { mode: 'no-cors' });
    const until = async (what, holds) => {
        for (const start = Date.now(); Date.now() - start < 20000; ) {
            try { if (holds()) return; } catch {}
            await new Promise((done) => setTimeout(done, 20));
        }
        await tell('failed/' + what);
        throw what;
    };
    const [a, b] = [1, 2].map(() => open('/', '_blank', 'popup'));
    const find = (window, selector) => window.document.querySelector(selector);
    const shows = (window, ...titles) => {
        const fields = [...window.document.querySelectorAll('li input')];
        return JSON.stringify(fields.map((field) => field.value)) === JSON.stringify(titles);
    };
    const says = (window, text) => find(window, '#connection').textContent.startsWith(text);
    const type = (window, text) => {
        const field = find(window, 'li input');
        field.focus();
        field.value = text;
        field.dispatchEvent(new window.Event('input'));
    };
    const save = (window) => find(window, 'li form').requestSubmit();
    const add = (window, title) => {
        find(window, '#title').value = title;
        find(window, '#add').requestSubmit();
    };

    await until('both-connect', () => says(a, 'Connected') && says(b, 'Connected'));
    await until('both-are-empty', () => !find(a, '#empty').hidden && !find(b, '#empty').hidden);
    add(a, 'milk');
    await until('an-addition', () => shows(a, 'milk') && shows(b, 'milk'));
    type(b, 'bread');
    save(b);
    await until('a-change', () => shows(a, 'bread') && shows(b, 'bread'));

    await tell('kill-the-server');
    await until('both-notice', () => says(a, 'Not') && says(b, 'Not'));
    await tell('start-it-again');
    await until('both-come-back', () => says(a, 'Connected') && says(b, 'Connected'));
    add(b, 'eggs <i>& ham</i>');
    await until('what-was-kept', () => shows(a, 'bread', 'eggs <i>& ham</i>'));

    type(a, 'mine');
    type(b, 'theirs');
    save(b);
    await until('a-conflict', () => !find(a, '.theirs').hidden && shows(a, 'mine', 'eggs <i>& ham</i>'));
    save(a);
    await until('mine', () => shows(b, 'mine', 'eggs <i>& ham</i>') && find(a, '.theirs').hidden);
    find(b, '.delete').click();
    await until('a-removal', () => shows(a, 'eggs <i>& ham</i>') && shows(b, 'eggs <i>& ham</i>'));
    find(a, '.delete').click();
    await until('the-end', () => !find(a, '#empty').hidden && !find(b, '#empty').hidden);
    await tell('all-is-well');
</script>"#;

#[ignore = "needs Chromium; .ci/run runs it"]
#[test]
fn two_windows_show_the_same() {
    let place = TempDir::new().expect("a temporary directory");
    let site = place.path().join("site");
    fs::create_dir(&site).expect("a folder can be made");
    for name in ["index.html", "notes.css", "notes.js"] {
        let from = repository().join("stages/21-live/site").join(name);
        fs::copy(from, site.join(name)).expect("the site can be copied");
    }
    let listener = serve(place.path());
    let page = TWO_WINDOWS.replace("PORT", &listener.port().to_string());
    fs::write(site.join("two.html"), page).expect("writable");
    let port = free_port();
    let notes = Notes::start(place.path(), port);
    let url = format!("http://127.0.0.1:{port}/two.html");
    let mut browser = browser(place.path(), &["--disable-popup-blocking", &url]);
    let deadline = Instant::now() + TIMEOUT;
    let wait_for = |what: &str| {
        let is_told = |what: &str| listener.output().contains(what);
        while !is_told(what) && !is_told("/failed/") && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    wait_for("/kill-the-server");
    drop(notes);
    wait_for("/start-it-again");
    let _notes = Notes::start(place.path(), port);
    wait_for("/all-is-well");
    browser.kill().and_then(|()| browser.wait()).expect("a browser can be stopped");
    let log = listener.output();
    assert!(log.contains("/all-is-well"), "{log}");
}
