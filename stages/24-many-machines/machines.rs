//! Three servers, three members of etcd, and HAProxy in front of them, all on this machine, for trying it out:
//! `cargo run --bin machines`. Ctrl-C ends all of them.

use std::env;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

/// The ports in haproxy.cfg: that of HAProxy, and then those of the servers. The members of etcd have the next ones: each one
/// for clients, and one for the other members.
const PORT: u16 = 4230;
const MEMBERS: u16 = PORT + 10;

/// How long a program may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    is_installed("etcd", "--version", "etcd-server")?;
    is_installed("haproxy", "-v", "haproxy")?;
    let server = build()?;
    let folder = env::temp_dir().join(format!("machines-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let mut running = Running { children: Vec::new(), folder };
    let (told, stop) = channel();
    common::on_stop(move || {
        let _ = told.send(()); // a second time, nobody listens any more
    })?;
    running.start_all(&server)?;
    println!("Three servers share their records. Ask the one in front of them:");
    println!("  curl http://127.0.0.1:{PORT}/data");
    println!("Or each of them: ports {} to {}. Ctrl-C ends all.", PORT + 1, PORT + 3);
    loop {
        match stop.recv_timeout(Duration::from_millis(200)) {
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => running.tell_of_ended(),
            _ => return Ok(()),
        }
    }
}

/// What has been started. All of it is ended when this is dropped.
struct Running {
    children: Vec<(String, Child)>,
    folder: PathBuf,
}

impl Running {
    fn start_all(&mut self, server: &Path) -> io::Result<()> {
        let peers: Vec<_> = (0..3)
            .map(|number| format!("m{number}=http://127.0.0.1:{}", MEMBERS + 2 * number + 1))
            .collect();
        for number in 0..3 {
            self.start_member(number, &peers.join(","))?;
        }
        let urls: Vec<_> =
            (0..3).map(|number| format!("http://127.0.0.1:{}", MEMBERS + 2 * number)).collect();
        for number in 0..3 {
            wait_for("etcd", MEMBERS + 2 * number)?;
        }
        for number in 1..=3 {
            let mut command = Command::new(server);
            command.args(["--port", &(PORT + number).to_string(), "--store", &urls.join(",")]);
            command.args(["--drain", "2", "--idle-timeout", "75", "--trusted-proxy", "127.0.0.1"]);
            command.args(["--log", "off"]); // HAProxy asks for /readyz twice a second
            self.start(&format!("server {number}"), command.stdout(Stdio::null()))?;
            wait_for("a server", PORT + number)?;
        }
        let configuration = self.folder.join("haproxy.cfg");
        fs::write(&configuration, include_str!("haproxy.cfg"))?;
        let mut command = Command::new("haproxy");
        self.start("HAProxy", command.arg("-db").arg("-f").arg(configuration))?;
        wait_for("HAProxy", PORT)
    }

    fn start_member(&mut self, number: u16, peers: &str) -> io::Result<()> {
        let (name, port) = (format!("m{number}"), MEMBERS + 2 * number);
        let (clients, others) =
            (format!("http://127.0.0.1:{port}"), format!("http://127.0.0.1:{}", port + 1));
        let mut command = Command::new("etcd");
        command.args(["--name", &name, "--data-dir"]).arg(self.folder.join(&name));
        command.args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients]);
        command.args(["--listen-peer-urls", &others, "--initial-advertise-peer-urls", &others]);
        command.args(["--initial-cluster", peers, "--logger", "zap", "--log-level", "error"]);
        command.args(["--auto-compaction-mode", "periodic", "--auto-compaction-retention", "1h"]);
        self.start(&format!("etcd {number}"), command.stdout(Stdio::null()).stderr(Stdio::null()))
    }

    fn start(&mut self, name: &str, command: &mut Command) -> io::Result<()> {
        let child = command.stdin(Stdio::null()).spawn().map_err(|error| {
            io::Error::new(error.kind(), format!("cannot start {name}: {error}"))
        })?;
        println!("{name} is process {}", child.id());
        self.children.push((name.to_owned(), child));
        Ok(())
    }

    /// Says which of them have ended: somebody may have killed one to see what happens.
    fn tell_of_ended(&mut self) {
        self.children.retain_mut(|(name, child)| match child.try_wait() {
            Ok(Some(status)) => {
                println!("{name} has ended ({status})");
                false
            }
            _ => true,
        });
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for (_, child) in self.children.iter_mut().rev() {
            let _ = child.kill(); // the records of this trial are not kept
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Whether a program is there. The error says how to get it.
fn is_installed(program: &str, option: &str, debian: &str) -> io::Result<()> {
    let mut command = Command::new(program);
    let found = command.arg(option).stdout(Stdio::null()).stderr(Stdio::null()).status();
    match found {
        Err(error) if error.kind() == ErrorKind::NotFound => Err(io::Error::other(format!(
            "{program} is not installed. On Debian or Ubuntu: sudo apt install {debian}. On macOS: brew install {program}. The \
             checks of the stage do without"
        ))),
        _ => Ok(()),
    }
}

/// Builds the server, if this was started by cargo. Returns where it is: beside this program.
fn build() -> io::Result<PathBuf> {
    if let Some(cargo) = env::var_os("CARGO") {
        let status = Command::new(cargo).args(["build", "--quiet", "--bin", "stage24"]).status()?;
        if !status.success() {
            return Err(io::Error::other("stage24 does not compile"));
        }
    }
    let server = env::current_exe()?.with_file_name(format!("stage24{}", env::consts::EXE_SUFFIX));
    match server.exists() {
        true => Ok(server),
        false => Err(io::Error::other("there is no stage24 yet: cargo build --bin stage24")),
    }
}

fn wait_for(what: &str, port: u16) -> io::Result<()> {
    let start = Instant::now();
    while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
        if start.elapsed() > PATIENCE {
            return Err(io::Error::other(format!("{what} does not listen on port {port}")));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
