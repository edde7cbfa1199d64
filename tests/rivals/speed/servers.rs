//! The servers that take part, and what they use.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::{Background, free_port};
use rustls::ClientConfig;
use secure::{Client, Identity};

use crate::load::{Kind, Scenario};

/// A running server.
pub struct Contestant {
    pub name: &'static str,
    pub port: u16,
    pub takes_part: fn(&Scenario) -> bool,
    /// What its clients speak, if it speaks TLS.
    pub tls: Option<ClientConfig>,
    processes: Vec<Background>,
}

impl Contestant {
    /// The time that the server has used all processors for, in microseconds, if the system says so.
    pub fn processor_time(&self) -> Option<f64> {
        let ticks = |process: &Background| {
            let stat = fs::read_to_string(format!("/proc/{}/stat", process.id())).ok()?;
            let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
            Some(fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?)
        };
        let ticks = self.processes.iter().map(ticks).sum::<Option<f64>>()?;
        Some(ticks * 10_000.0) // a tick is a hundredth of a second
    }

    /// The memory that the server has now, in KiB, if the system says so.
    pub fn memory(&self) -> Option<f64> {
        let memory = |process: &Background| {
            let status = fs::read_to_string(format!("/proc/{}/status", process.id())).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
            line.trim().trim_end_matches(" kB").parse::<f64>().ok()
        };
        self.processes.iter().map(memory).sum()
    }
}

/// Starts all servers, which share the files in a directory.
pub fn start(directory: &Path, most: usize) -> Vec<Contestant> {
    let this = env::current_exe().expect("the system knows it");
    let own = |name: &str| this.with_file_name(name);
    let run = |name, program: PathBuf, args: &[&str], takes_part| {
        let port = free_port();
        let mut command = Command::new(program);
        command.env("PORT", port.to_string()).args(args);
        if name != "stage 06" {
            command.arg("--directory").arg(directory);
        }
        let running = Background::start(&mut command, port);
        let running = running.unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        Contestant { name, port, takes_part, tls: None, processes: vec![running] }
    };
    let most = most.to_string();
    let patient = ["--idle-timeout", "600", "--max-connections", &most];
    let quiet = [&patient[..], &["--quiet"]].concat();
    let unlogged = [&patient[..], &["--log", "off"]].concat();
    let always: fn(&Scenario) -> bool = |_| true;
    let unrouted: fn(&Scenario) -> bool = |scenario| scenario.kind != Kind::Routed;
    let reading: fn(&Scenario) -> bool = |scenario| scenario.request.starts_with(b"GET");
    let mut contestants = vec![
        run("hyper", own("rival-hyper"), &[], |scenario| scenario.depth == 1),
        // The option that makes hyper write 16 answers at once makes it slow with large answers.
        run("hyper", own("rival-hyper"), &["--pipeline-flush"], |scenario| scenario.depth > 1),
        run("axum", own("rival-axum"), &[], |scenario| !scenario.has_files()),
        run("actix", own("rival-actix"), &[], reading),
        run("may", own("rival-may"), &[], |scenario| {
            scenario.kind == Kind::Persistent && scenario.request.starts_with(b"GET")
        }),
        run("tiny_http", own("rival-tiny-http"), &[], |scenario| {
            scenario.kind != Kind::Routed && scenario.connections <= 512
        }),
        run("stage 06", own("stage06"), &[], |scenario| scenario.kind == Kind::Closing),
        run("stage 10", own("stage10"), &[], |scenario| {
            scenario.kind != Kind::Routed && scenario.connections <= 512
        }),
        run("stage 13", own("stage13"), &quiet, unrouted),
        run("stage 16", own("stage16"), &quiet, unrouted),
        run("stage 19", own("stage19"), &unlogged, always),
        run("stage 22", own("stage22"), &unlogged, always),
        run("event-loop", own("stage24"), &unlogged, always),
    ];
    match nginx(directory, "") {
        Ok(nginx) => contestants.insert(5, nginx),
        Err(error) => eprintln!("nginx does not take part: {error}"),
    }
    contestants
}

/// Starts the servers that speak TLS, with the same certificate.
pub fn start_secured(directory: &Path) -> Vec<Contestant> {
    let identity = Identity::for_names(&["localhost"]).expect("a certificate");
    let this = env::current_exe().expect("the system knows it");
    let run = |name, program: &str| {
        let port = free_port();
        let mut command = Command::new(this.with_file_name(program));
        command.env("PORT", port.to_string()).args(identity.args());
        command.args(["--hsts", "0", "--log", "off", "--idle-timeout", "600"]);
        command.arg("--directory").arg(directory);
        let running = Background::start(&mut command, port);
        let running = running.unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        Contestant { name, port, takes_part: |_| true, tls: None, processes: vec![running] }
    };
    let mut contestants = vec![run("stage 23", "stage23"), run("tls", "stage24")];
    match nginx(directory, &nginx_with(directory, &identity)) {
        Ok(nginx) => contestants.insert(0, nginx),
        Err(error) => eprintln!("nginx does not take part: {error}"),
    }
    for contestant in &mut contestants {
        contestant.tls = Some(Client::trusting(&identity).config());
    }
    contestants
}

/// The lines that let nginx speak TLS. Both of its processes take the tickets of the other one.
fn nginx_with(directory: &Path, identity: &Identity) -> String {
    let tickets = directory.join("tickets");
    let keys: Vec<u8> = (0..80).collect(); // nobody has to be kept from guessing them
    fs::write(&tickets, keys).expect("it can be written");
    let (certificate, key) = (identity.certificate(), identity.key());
    // nginx reads the files when it starts, and the folder goes when the identity is dropped.
    format!(
        "ssl_certificate {}; ssl_certificate_key {}; ssl_session_ticket_key {}; \
         ssl_protocols TLSv1.2 TLSv1.3; access_log off;",
        certificate.display(),
        key.display(),
        tickets.display()
    )
}

/// Starts nginx, if it is installed: a process for each of two cores, which share a port. With further lines, it speaks
/// TLS.
fn nginx(directory: &Path, secured: &str) -> io::Result<Contestant> {
    let port = free_port();
    let configuration = NGINX
        .replace("PORT", &port.to_string())
        .replace("FILES", &directory.display().to_string())
        .replace("reuseport;", if secured.is_empty() { "reuseport;" } else { "reuseport ssl;" })
        .replace("SECURED", secured);
    let run = |name: &str| {
        let prefix = directory.join(name);
        fs::create_dir_all(&prefix)?;
        fs::write(prefix.join("nginx.conf"), &configuration)?;
        let mut nginx = Command::new("nginx");
        nginx.args(["-e", "stderr", "-c", "nginx.conf", "-p"]).arg(prefix);
        Background::start(&mut nginx, port)
    };
    let processes = vec![run(&format!("nginx-{port}-1"))?, run(&format!("nginx-{port}-2"))?];
    let takes_part =
        |scenario: &Scenario| scenario.request.starts_with(b"GET") && scenario.kind != Kind::Routed;
    Ok(Contestant { name: "nginx", port, takes_part, tls: None, processes })
}

/// For the same requests as the others, apart from uploads. Without a master, a process ends when it is stopped.
const NGINX: &str = "
daemon off;
master_process off;
pid nginx.pid;
events { worker_connections 16000; }
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
        SECURED
        location ~ ^/echo/(.*)$ { default_type text/plain; return 200 $1; }
        location /files/ { alias FILES/; }
    }
}
";
