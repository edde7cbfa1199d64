//! Compares the requests that stage 13 accepts with those that two well-known servers accept: nginx, as a proxy,
//! and hyper. Sends each request of requests.txt to all of them and prints the answers side by side.
//!
//! docs/strict.md has two tables: the requests that stage 13 accepts and at least one of the others does not, and
//! the requests that stage 13 refuses and both others accept. Fails if these tables do not match the answers.

mod raw;

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

use harness::{Background, cargo, free_port, repository};
use raw::Request;
use tempfile::TempDir;

const REQUESTS: &str = include_str!("requests.txt");

/// How long to wait for the first answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// How long to wait for another answer.
const SILENCE: Duration = Duration::from_millis(300);

struct Server {
    name: &'static str,
    port: u16,
    _running: Background,
}

/// The answers to a request.
struct Outcome {
    statuses: Vec<u16>,
    is_closed: bool,
}

fn main() -> ExitCode {
    let requests = Request::all(REQUESTS);
    let directory = TempDir::new().expect("a temporary directory");
    let servers = start(directory.path());
    let outcomes = ask(&servers, &requests);
    let names: Vec<_> = servers.iter().map(|server| server.name).collect();
    println!("| request | {} |", names.join(" | "));
    println!("|---|{}", "---|".repeat(names.len()));
    for (request, outcomes) in requests.iter().zip(&outcomes) {
        println!("{}", row(request, outcomes));
    }
    let titles = |is_wanted: fn(usize, &[usize]) -> bool| -> BTreeSet<_> {
        let wanted = requests.iter().zip(&outcomes).filter(|(_, outcomes)| {
            let accepted: Vec<_> = outcomes.iter().map(Outcome::accepted).collect();
            is_wanted(accepted[0], &accepted[1..])
        });
        wanted.map(|(request, _)| request.title).collect()
    };
    let laxer = titles(|ours, others| others.iter().any(|&theirs| theirs < ours));
    let stricter = titles(|ours, others| others.iter().all(|&theirs| theirs > ours));
    println!("\nlaxer than one of them: {laxer:?}\n\nstricter than both: {stricter:?}");
    if servers.len() < 3 {
        return ExitCode::SUCCESS; // without nginx, the chapter cannot be compared
    }
    let rows: Vec<_> = requests.iter().zip(&outcomes).map(|(it, they)| row(it, they)).collect();
    let complaints = complaints(&laxer, &stricter, &rows);
    eprint!("{}", complaints.concat());
    if complaints.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What each server answers to each request, all servers at the same time.
fn ask(servers: &[Server], requests: &[Request]) -> Vec<Vec<Outcome>> {
    let mut outcomes: Vec<_> = requests.iter().map(|_| Vec::new()).collect();
    thread::scope(|scope| {
        let ask = |port| requests.iter().map(|it| send(it, port)).collect::<Vec<_>>();
        let threads: Vec<_> =
            servers.iter().map(|server| scope.spawn(move || ask(server.port))).collect();
        for thread in threads {
            let of_one = thread.join().expect("no client panics");
            outcomes.iter_mut().zip(of_one).for_each(|(all, one)| all.push(one));
        }
    });
    outcomes
}

fn row(request: &Request, outcomes: &[Outcome]) -> String {
    let cells: Vec<_> = outcomes.iter().map(Outcome::to_string).collect();
    format!("| {} | {} |", request.title, cells.join(" | "))
}

/// What is wrong in the chapter. Its tables must have a reason for each of these titles and for no others, and
/// the answers that it shows must be among these rows.
fn complaints(laxer: &BTreeSet<&str>, stricter: &BTreeSet<&str>, rows: &[String]) -> Vec<String> {
    let chapter = fs::read_to_string(repository().join("docs/strict.md")).unwrap_or_default();
    let table = |heading: &str| {
        let lines = chapter.lines().skip_while(|line| !line.starts_with(heading)).skip(2);
        lines.take_while(|line| line.starts_with('|')).collect::<Vec<_>>()
    };
    let mut complaints = Vec::new();
    for (heading, titles) in [("| we accept |", laxer), ("| we refuse |", stricter)] {
        let rows = table(heading);
        let cells = rows.iter().filter_map(|row| row.split('|').nth(1));
        let explained: BTreeSet<_> =
            cells.flat_map(|cell| cell.split(';')).map(str::trim).collect();
        for title in explained.symmetric_difference(titles) {
            complaints
                .push(format!("docs/strict.md, {heading}: this title is missing, or should not be there: {title}\n"));
        }
    }
    let outdated = table("| request |").into_iter().filter(|row| !rows.iter().any(|it| it == row));
    complaints.extend(
        outdated.map(|row| format!("docs/strict.md shows answers that are out of date: {row}\n")),
    );
    complaints
}

/// Starts stage 13, hyper, and nginx if it is installed.
fn start(directory: &Path) -> Vec<Server> {
    let built = cargo(&["build", "--workspace", "--bin", "stage13", "--bin", "rival-hyper"]);
    built.unwrap_or_else(|said| panic!("{said}"));
    let beside_this = |name| {
        let program =
            env::current_exe().expect("the path of this program is known").with_file_name(name);
        Command::new(program.with_extension(env::consts::EXE_EXTENSION))
    };
    let mut servers = vec![
        run("stage 13", free_port(), beside_this("stage13").arg("--directory").arg(directory)),
        run("hyper", free_port(), beside_this("rival-hyper").arg("--directory").arg(directory)),
    ];
    let (front, back) = (free_port(), free_port());
    let configuration =
        NGINX.replace("FRONT", &front.to_string()).replace("BACK", &back.to_string());
    fs::write(directory.join("nginx.conf"), configuration).expect("the file can be written");
    let mut nginx = Command::new("nginx");
    nginx.arg("-e").arg("stderr").arg("-p").arg(directory).arg("-c").arg("nginx.conf");
    if Command::new("nginx").arg("-v").stderr(Stdio::null()).status().is_ok() {
        servers.push(run("nginx", front, &mut nginx));
    } else {
        eprintln!("skipped, because it is not installed: nginx");
    }
    servers
}

fn run(name: &'static str, port: u16, command: &mut Command) -> Server {
    let running = Background::start(command.env("PORT", port.to_string()), port);
    let running = running.unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
    Server { name, port, _running: running }
}

/// nginx passes the requests on to the second server here, which answers them. So nginx has to read their bodies.
const NGINX: &str = "
daemon off;
master_process off;
pid nginx.pid;
events {}
http {
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    server {
        listen 127.0.0.1:FRONT;
        location / { proxy_pass http://127.0.0.1:BACK; }
    }
    server {
        listen 127.0.0.1:BACK;
        location / { return 200 ok; }
    }
}
";

/// Sends a request, and waits for all answers.
fn send(request: &Request, port: u16) -> Outcome {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("the server listens");
    stream.set_write_timeout(Some(TIMEOUT)).expect("the timeout is not zero");
    let _ = stream.write_all(&request.bytes); // the server may refuse the request before it has read all of it
    let mut answers = Vec::new();
    let is_closed = loop {
        let timeout = if answers.is_empty() { TIMEOUT } else { SILENCE };
        stream.set_read_timeout(Some(timeout)).expect("the timeout is not zero");
        let mut block = [0; 64 * 1024];
        match stream.read(&mut block) {
            Ok(0) => break true,
            Ok(count) => answers.extend_from_slice(&block[..count]),
            Err(error) => break error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    };
    // No body of an answer contains "HTTP/1.".
    let text = String::from_utf8_lossy(&answers);
    let statuses =
        text.split("HTTP/1.").skip(1).filter_map(|answer| answer.get(2..5)?.parse().ok());
    Outcome { statuses: statuses.collect(), is_closed }
}

impl Outcome {
    /// How many requests were accepted.
    fn accepted(&self) -> usize {
        self.statuses.iter().filter(|&&status| (200..400).contains(&status)).count()
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let statuses: Vec<_> = self.statuses.iter().map(u16::to_string).collect();
        let end = if self.is_closed { "closed" } else { "open" };
        match &statuses[..] {
            [] => write!(f, "nothing, {end}"),
            statuses => write!(f, "{}, {end}", statuses.join(" ")),
        }
    }
}
