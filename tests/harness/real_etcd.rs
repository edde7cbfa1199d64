//! The real etcd, where it is installed: processes that can be killed, stopped and started again.

use std::io;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::background;
use crate::free_port;

/// How long the members may take to agree on who leads.
const PATIENCE: Duration = Duration::from_secs(30);

/// A cluster, whose members end when this is dropped.
#[derive(Debug)]
pub struct RealEtcd {
    folder: TempDir,
    members: Vec<RealMember>,
}

/// A member: its ports, and its process while it runs.
#[derive(Debug)]
struct RealMember {
    for_clients: u16,
    for_members: u16,
    process: Option<Child>,
}

impl RealEtcd {
    /// Starts a cluster with this many members, and waits until it takes changes.
    ///
    /// # Errors
    ///
    /// When etcd is not installed, or does not start.
    pub fn start(count: usize) -> io::Result<RealEtcd> {
        let member =
            |_| RealMember { for_clients: free_port(), for_members: free_port(), process: None };
        let members = (0..count).map(member).collect();
        let mut etcd = RealEtcd { folder: TempDir::new()?, members };
        for number in 0..count {
            etcd.begin(number)?;
        }
        let start = Instant::now();
        while !etcd.takes_changes() {
            if start.elapsed() > PATIENCE {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "etcd does not start"));
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(etcd)
    }

    /// Starts a member that does not run.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn begin(&mut self, number: usize) -> io::Result<()> {
        let peer = |(number, member): (usize, &RealMember)| {
            format!("m{number}={}", url(member.for_members))
        };
        let peers: Vec<_> = self.members.iter().enumerate().map(peer).collect();
        let member = &mut self.members[number];
        let (clients, others) = (url(member.for_clients), url(member.for_members));
        let name = format!("m{number}");
        let mut command = Command::new("etcd");
        command.args(["--name", &name, "--data-dir"]).arg(self.folder.path().join(&name));
        command.args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients]);
        command.args(["--listen-peer-urls", &others, "--initial-advertise-peer-urls", &others]);
        command.args([
            "--initial-cluster",
            &peers.join(","),
            "--logger",
            "zap",
            "--log-level",
            "error",
        ]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        member.process = Some(command.spawn()?);
        Ok(())
    }

    /// What `--store` gets.
    pub fn urls(&self) -> String {
        let urls: Vec<_> = self.members.iter().map(|member| url(member.for_clients)).collect();
        urls.join(",")
    }

    /// The process of a member.
    pub fn process_id(&self, number: usize) -> Option<u32> {
        self.members[number].process.as_ref().map(Child::id)
    }

    /// Kills a member.
    pub fn kill(&mut self, number: usize) {
        if let Some(mut process) = self.members[number].process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// The number of the member that leads, if there is one.
    pub fn leader(&self) -> Option<usize> {
        self.members.iter().position(|member| {
            let status =
                ask(member.for_clients, "/v3/maintenance/status", "{}").unwrap_or_default();
            status["leader"].is_string() && status["leader"] == status["header"]["member_id"]
        })
    }

    fn takes_changes(&self) -> bool {
        let first = r#"{"key":"Zmlyc3Q=","value":""}"#;
        self.members.iter().all(|member| ask(member.for_clients, "/v3/kv/put", first).is_ok())
    }
}

impl Drop for RealEtcd {
    fn drop(&mut self) {
        (0..self.members.len()).for_each(|number| self.kill(number));
    }
}

fn url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

/// Sends a body of JSON to a member, and returns the JSON of its answer, if that has the status 200.
fn ask(port: u16, path: &str, body: &str) -> io::Result<Value> {
    match background::ask(port, "POST", path, "", body)? {
        (200, _, body) => serde_json::from_str(&body).map_err(io::Error::other),
        _ => Err(io::Error::other("it is not well")),
    }
}
