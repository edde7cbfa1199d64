//! `cargo bench`: how fast the stages are, compared with three servers in common use. Everything runs on the
//! loopback interface, and takes about three minutes.
//!
//! Two threads act as the clients. Each thread writes a request to all of its connections, then reads all the
//! answers. The servers take turns for several rounds, and the result is the median, so that a noisy machine
//! disturbs all of them alike. The ratios vary less than the numbers.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::hint::black_box;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use common::{App, Buffer, Response, Stream, read_request};
use harness::{Background, cargo, free_port, own_command};
use tempfile::TempDir;

const ROUNDS: usize = 5;
const TIME: Duration = Duration::from_millis(300);
const THREADS: usize = 2;

/// The pause between two clients that connect. If all connect at the same time, tiny_http never answers some of
/// them.
const ARRIVAL: Duration = Duration::from_micros(500);

/// Longer than any answer takes to arrive.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The server that the others are compared with.
const YARDSTICK: &str = "hyper";

/// The requests of one measurement, and how they are sent.
struct Scenario {
    name: &'static str,
    connections: usize,
    /// How many requests are sent before the first answer is read.
    depth: usize,
    /// Whether a connection stays open for more than one round of requests.
    persists: bool,
    request: Vec<u8>,
    /// Who can take part.
    kind: Kind,
}

/// What a measurement asks of a server.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A connection for each request, which stages before 10 know as well.
    Closing,
    /// Connections that stay open.
    Persistent,
    /// The same, and a route with a parameter, which is answered with JSON.
    Routed,
}

/// A running server.
struct Contestant {
    name: &'static str,
    port: u16,
    takes_part: fn(&Scenario) -> bool,
    _running: Vec<Background>,
}

fn main() {
    if env::args().any(|arg| arg == "--test") {
        return; // `cargo test --benches` only tests whether the benchmark starts
    }
    let directory = TempDir::new().expect("a temporary directory");
    for (name, size) in [("1k", 1 << 10), ("100k", 100 << 10), ("10m", 10 << 20)] {
        fs::write(directory.path().join(name), vec![b'x'; size]).expect("the file can be written");
    }
    let contestants = start(&directory);
    let scenarios = scenarios();
    let mut results: BTreeMap<(usize, &str), Vec<f64>> = BTreeMap::new();
    for round in 1..=ROUNDS {
        eprintln!("round {round} of {ROUNDS}");
        for (index, scenario) in scenarios.iter().enumerate() {
            for contestant in &contestants {
                if (contestant.takes_part)(scenario) {
                    let rate = measure(contestant.port, scenario);
                    results.entry((index, contestant.name)).or_default().push(rate);
                }
            }
        }
    }
    print(&scenarios, &contestants, &results);
    print_routers();
}

fn scenarios() -> Vec<Scenario> {
    let get = |path: &str, connection: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{connection}\r\n").into_bytes()
    };
    let small = |name, connections, depth| Scenario {
        name,
        connections,
        depth,
        persists: true,
        request: get("/echo/hello", ""),
        kind: Kind::Persistent,
    };
    let file = |name, path, connections| Scenario {
        request: get(path, ""),
        ..small(name, connections, 1)
    };
    let mut upload =
        b"POST /files/upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1048576\r\n\r\n"
            .to_vec();
    upload.resize(upload.len() + (1 << 20), b'x');
    vec![
        small("small answers, 64 connections", 64, 1),
        small("small answers, 512 connections", 512, 1),
        small("small answers, 16 at once", 64, 16),
        Scenario {
            persists: false,
            request: get("/echo/hello", "Connection: close\r\n"),
            kind: Kind::Closing,
            ..small("a connection for each", 64, 1)
        },
        Scenario {
            request: get("/user/10", ""),
            kind: Kind::Routed,
            ..small("JSON by a route", 64, 1)
        },
        file("files of 1 KiB", "/files/1k", 64),
        file("files of 100 KiB", "/files/100k", 64),
        file("files of 10 MiB", "/files/10m", 4),
        Scenario { request: upload, ..small("uploads of 1 MiB", 8, 1) },
    ]
}

/// Starts all servers that take part.
fn start(directory: &TempDir) -> Vec<Contestant> {
    eprintln!("building the stages and their rivals");
    let built = cargo(&["build", "--release", "--package", "rivals"]);
    built.unwrap_or_else(|said| panic!("{said}"));
    let own = |stage| {
        let command = own_command(stage).unwrap_or_else(|failure| panic!("{failure:?}"));
        PathBuf::from(command.get_program())
    };
    let rival = |name| own("stage16").with_file_name(name);
    let run = |name, program: PathBuf, args: &[&str], takes_part| {
        let port = free_port();
        let mut command = Command::new(program);
        command.env("PORT", port.to_string()).args(args);
        if name != "stage 06" {
            command.arg("--directory").arg(directory.path());
        }
        let running = Background::start(&mut command, port);
        let running = running.unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        Contestant { name, port, takes_part, _running: vec![running] }
    };
    let long_timeouts = &["--idle-timeout", "600", "--max-connections", "2000", "--quiet"][..];
    let always: fn(&Scenario) -> bool = |_| true;
    let without_routes: fn(&Scenario) -> bool = |scenario| scenario.kind != Kind::Routed;
    let unlogged = [&long_timeouts[..4], &["--log", "off"]].concat();
    let mut contestants = vec![
        run(YARDSTICK, rival("rival-hyper"), &[], |scenario| scenario.depth == 1),
        // The option that makes hyper write 16 answers at once makes it slow with large answers.
        run(YARDSTICK, rival("rival-hyper"), &["--pipeline-flush"], |scenario| scenario.depth > 1),
        run("axum", rival("rival-axum"), &[], |scenario| scenario.kind == Kind::Routed),
        run("tiny_http", rival("rival-tiny-http"), &[], without_routes),
        run("stage 06", own("stage06"), &[], |scenario| scenario.kind == Kind::Closing),
        run("stage 10", own("stage10"), &[], without_routes),
        run("stage 12", own("stage12"), long_timeouts, without_routes),
        run("stage 16", own("stage16"), long_timeouts, without_routes),
        run("stage 21", own("stage21"), &unlogged, always),
    ];
    match nginx(directory.path()) {
        Ok(nginx) => contestants.insert(4, nginx),
        Err(error) => eprintln!("nginx does not take part: {error}"),
    }
    contestants
}

/// Starts nginx, if it is installed: a process for each of two cores, which share a port.
fn nginx(directory: &Path) -> io::Result<Contestant> {
    let port = free_port();
    let configuration =
        NGINX.replace("PORT", &port.to_string()).replace("FILES", &directory.display().to_string());
    let run = |name: &str| {
        let prefix = directory.join(name);
        fs::create_dir(&prefix)?;
        fs::write(prefix.join("nginx.conf"), &configuration)?;
        let mut nginx = Command::new("nginx");
        nginx.args(["-e", "stderr", "-c", "nginx.conf", "-p"]).arg(prefix);
        Background::start(&mut nginx, port)
    };
    let _running = vec![run("nginx-1")?, run("nginx-2")?];
    let takes_part =
        |scenario: &Scenario| scenario.request.starts_with(b"GET") && scenario.kind != Kind::Routed;
    Ok(Contestant { name: "nginx", port, takes_part, _running })
}

/// For the same requests as the others, apart from uploads. Without a master, a process ends when it is stopped.
const NGINX: &str = "
daemon off;
master_process off;
pid nginx.pid;
events { worker_connections 4096; }
http {
    access_log off;
    sendfile on;
    tcp_nopush on;
    open_file_cache max=1000 inactive=20s;
    keepalive_requests 100000000;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    default_type application/octet-stream;
    server {
        listen 127.0.0.1:PORT reuseport;
        location ~ ^/echo/(.*)$ { default_type text/plain; return 200 $1; }
        location /files/ { alias FILES/; }
    }
}
";

/// Requests per second.
fn measure(port: u16, scenario: &Scenario) -> f64 {
    let length = length_of_answer(port, scenario);
    thread::scope(|scope| {
        let play = || play(port, scenario, length);
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(play)).collect();
        threads.into_iter().map(|thread| thread.join().expect("no client panics")).sum()
    })
}

/// Acts as some of the clients for [`TIME`]. Returns the answers per second.
fn play(port: u16, scenario: &Scenario, length: usize) -> f64 {
    let requests = scenario.request.repeat(scenario.depth);
    let mut buffer = vec![0; 64 * 1024];
    let mut streams = Vec::new();
    for _ in 0..scenario.connections / THREADS {
        streams.push(connect(port));
        thread::sleep(ARRIVAL);
    }
    let mut count = 0;
    let start = Instant::now();
    while start.elapsed() < TIME {
        for stream in &mut streams {
            stream.write_all(&requests).expect("the server reads");
        }
        for stream in &mut streams {
            discard(stream, length * scenario.depth, &mut buffer);
            count += scenario.depth;
            if !scenario.persists {
                *stream = connect(port);
            }
        }
    }
    count as f64 / start.elapsed().as_secs_f64()
}

fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the server listens");
    stream.set_nodelay(true).expect("the connection is open");
    stream.set_read_timeout(Some(TIMEOUT)).expect("the timeout is not zero");
    stream
}

/// The length of an answer in bytes, which is the same for all answers of a scenario.
fn length_of_answer(port: u16, scenario: &Scenario) -> usize {
    let mut stream = connect(port);
    stream.write_all(&scenario.request).expect("the server reads");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("the server answers");
        head.push(byte[0]);
    }
    let text = String::from_utf8_lossy(&head).to_lowercase();
    assert!(text.starts_with("http/1.1 20"), "{text}");
    let (_, rest) = text.split_once("content-length: ").unwrap_or(("", "0\r"));
    let digits = rest.split('\r').next().unwrap_or_default();
    head.len() + digits.parse::<usize>().expect("a length")
}

/// Reads `length` bytes and discards them.
fn discard(stream: &mut TcpStream, mut length: usize, buffer: &mut [u8]) {
    while length > 0 {
        let most = length.min(buffer.len());
        match stream.read(&mut buffer[..most]).expect("the server answers") {
            0 => panic!("the server closed the connection in the middle of an answer"),
            count => length -= count,
        }
    }
}

fn print(
    scenarios: &[Scenario],
    contestants: &[Contestant],
    results: &BTreeMap<(usize, &str), Vec<f64>>,
) {
    let median = |index: usize, name| {
        let mut rates = results.get(&(index, name))?.clone();
        rates.sort_by(f64::total_cmp);
        Some(rates[rates.len() / 2])
    };
    let table = |title: &str, cell: &dyn Fn(usize, f64) -> String| {
        let mut names: Vec<_> = contestants.iter().map(|contestant| contestant.name).collect();
        names.dedup();
        println!("\n| {title} | {} |", names.join(" | "));
        println!("|---{}|", "|---:".repeat(names.len()));
        for (index, scenario) in scenarios.iter().enumerate() {
            let cells = names
                .iter()
                .map(|name| median(index, name).map_or("-".to_owned(), |rate| cell(index, rate)));
            println!("| {} | {} |", scenario.name, cells.collect::<Vec<_>>().join(" | "));
        }
    };
    table(&format!("requests per second, relative to {YARDSTICK}"), &|index, rate| {
        format!("{:.2}", rate / median(index, YARDSTICK).unwrap_or(rate))
    });
    table("requests per second", &|_, rate| format!("{rate:.0}"));
    table("microseconds for a request, while the others wait as well", &|index, rate| {
        let at_once = scenarios[index].connections * scenarios[index].depth;
        format!("{:.0}", at_once as f64 / rate * 1e6)
    });
}

/// Patterns, as the stages and matchit write them, and a path for each.
const ROUTES: [(&str, &str, &str); 20] = [
    ("/", "/", "/"),
    ("/healthz", "/healthz", "/healthz"),
    ("/echo", "/echo", "/echo"),
    ("/echo/*text", "/echo/{*text}", "/echo/hello"),
    ("/files/*name", "/files/{*name}", "/files/a/b/c.txt"),
    ("/user/:id", "/user/{id}", "/user/10"),
    ("/user/:id/posts", "/user/{id}/posts", "/user/10/posts"),
    ("/user/:id/posts/:post", "/user/{id}/posts/{post}", "/user/10/posts/5"),
    ("/user/me", "/user/me", "/user/me"),
    ("/user/me/settings", "/user/me/settings", "/user/me/settings"),
    ("/data", "/data", "/data"),
    ("/data/:id", "/data/{id}", "/data/123456"),
    ("/data/events", "/data/events", "/data/events"),
    ("/repos/:owner/:name", "/repos/{owner}/{name}", "/repos/a/b"),
    ("/repos/:owner/:name/issues", "/repos/{owner}/{name}/issues", "/repos/a/b/issues"),
    ("/repos/:owner/:name/issues/:id", "/repos/{owner}/{name}/issues/{id}", "/repos/a/b/issues/7"),
    ("/repos/:owner/:name/pulls", "/repos/{owner}/{name}/pulls", "/repos/a/b/pulls"),
    ("/repos/:owner/:name/pulls/:id", "/repos/{owner}/{name}/pulls/{id}", "/repos/a/b/pulls/7"),
    ("/search", "/search", "/search"),
    ("/static/*path", "/static/{*path}", "/static/css/a.css"),
];

/// Prints how long it takes to choose one of twenty routes. Each choice comes with an empty answer, so that both routers do
/// the same.
fn print_routers() {
    const CHOICES: u32 = 20_000;
    let mut app = App::new();
    let mut matchit = matchit::Router::new();
    for (ours, theirs, _) in ROUTES {
        app.get(ours, |_| Ok(Response::ok()));
        matchit.insert(theirs, ()).expect("the patterns do not collide");
    }
    let time = |choose: &dyn Fn()| {
        let start = Instant::now();
        (0..CHOICES).for_each(|_| choose());
        start.elapsed().as_nanos() as f64 / f64::from(CHOICES)
    };
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        let mut sums = [0.0, 0.0];
        for (.., path) in ROUTES {
            let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            let ours =
                read_request(&mut Recorded(head.as_bytes()), &mut Buffer::new(), |request| {
                    time(&|| drop(black_box(app.route_to(request))))
                });
            sums[0] += ours.expect("the request is right");
            sums[1] += time(&|| {
                black_box(matchit.at(path)).expect("there is a route");
                drop(black_box(Response::ok()));
            });
        }
        (0..2).for_each(|which| times[which].push(sums[which] / ROUTES.len() as f64));
    }
    let [ours, theirs] = times.map(|mut rounds| {
        rounds.sort_by(f64::total_cmp);
        rounds[rounds.len() / 2]
    });
    println!(
        "\n| nanoseconds for one of 20 routes, and an empty answer | App | matchit |\n|---|---:|---:|"
    );
    println!("| on average | {ours:.0} | {theirs:.0} |");
}

/// A client whose request was recorded.
struct Recorded<'b>(&'b [u8]);

impl Read for Recorded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Recorded<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for Recorded<'_> {}
