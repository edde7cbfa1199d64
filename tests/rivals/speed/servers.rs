//! The servers that take part, and what they use.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::{Background, free_port};

use crate::load::{Kind, Scenario};

/// A running server.
pub struct Contestant {
    pub name: &'static str,
    pub port: u16,
    pub takes_part: fn(&Scenario) -> bool,
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
        Contestant { name, port, takes_part, processes: vec![running] }
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
        run("event-loop", own("examples/all"), &unlogged, always),
    ];
    match nginx(directory) {
        Ok(nginx) => contestants.insert(5, nginx),
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
        fs::create_dir_all(&prefix)?;
        fs::write(prefix.join("nginx.conf"), &configuration)?;
        let mut nginx = Command::new("nginx");
        nginx.args(["-e", "stderr", "-c", "nginx.conf", "-p"]).arg(prefix);
        Background::start(&mut nginx, port)
    };
    let processes = vec![run("nginx-1")?, run("nginx-2")?];
    let takes_part =
        |scenario: &Scenario| scenario.request.starts_with(b"GET") && scenario.kind != Kind::Routed;
    Ok(Contestant { name: "nginx", port, takes_part, processes })
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
        location ~ ^/echo/(.*)$ { default_type text/plain; return 200 $1; }
        location /files/ { alias FILES/; }
    }
}
";
