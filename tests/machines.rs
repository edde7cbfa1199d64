//! Three servers, three members of the real etcd, and HAProxy in front of them, under load, while something happens to one of
//! them. Everything that clients see is recorded, and looked at afterwards: no change that was answered is lost.
//!
//! `.ci/run` runs this, on Linux, where etcd and HAProxy are installed. `--nocapture` shows the figures.

#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use harness::{Background, RealEtcd, Value, ask, free_port, json, own_command, repository};
use tempfile::TempDir;

/// Longer than anything here should take.
const LONG: Duration = Duration::from_secs(30);

/// The longest time in which nobody gets an answer, when a machine or a member has gone.
const MAX_OUTAGE: Duration = Duration::from_secs(10);

/// How many clients change a record of their own, and how many read these records.
const WRITERS: usize = 3;
const READERS: usize = 3;

/// All of it.
struct Machines {
    etcd: RealEtcd,
    servers: Vec<(u16, Option<Child>)>,
    balancer: u16,
    _running: Background,
    _folder: TempDir,
}

impl Machines {
    /// Starts all of it, with HAProxy or with nginx.
    fn start(members: usize, balancer: &str) -> io::Result<Machines> {
        let etcd = RealEtcd::start(members)?;
        let folder = TempDir::new()?;
        let mut servers: Vec<_> = (0..3).map(|_| (free_port(), None)).collect();
        for server in &mut servers {
            server.1 = Some(serve(server.0, &etcd.urls())?);
        }
        let (program, file) =
            (balancer, if balancer == "nginx" { "nginx.conf" } else { "haproxy.cfg" });
        let balancer = free_port();
        let ours = repository().join("stages/24-many-machines").join(file);
        let mut text = fs::read_to_string(ours)?;
        for (number, port) in
            [balancer].into_iter().chain(servers.iter().map(|it| it.0)).enumerate()
        {
            text = text.replace(&format!("127.0.0.1:423{number}"), &format!("127.0.0.1:{port}"));
        }
        let configuration = folder.path().join(file);
        fs::write(&configuration, text)?;
        let mut command = Command::new(program);
        match program {
            "nginx" => {
                command.args(["-g", "master_process off;", "-p"]).arg(folder.path());
                command.arg("-c").arg(configuration)
            }
            _ => command.arg("-db").arg("-f").arg(configuration),
        };
        let running = Background::start(&mut command, balancer)?;
        let machines = Machines { etcd, servers, balancer, _running: running, _folder: folder };
        wait_until(|| is_ready(machines.balancer));
        Ok(machines)
    }

    fn signal(&self, number: usize, signal: &str) {
        if let (_, Some(server)) = &self.servers[number] {
            kill(server.id(), signal);
        }
    }

    /// Waits until a server has ended, and starts it again.
    fn renew(&mut self, number: usize) -> io::Result<()> {
        let urls = self.etcd.urls();
        let (port, server) = &mut self.servers[number];
        if let Some(mut server) = server.take() {
            server.wait()?;
        }
        *server = Some(serve(*port, &urls)?);
        Ok(())
    }
}

impl Drop for Machines {
    fn drop(&mut self) {
        for (_, server) in &mut self.servers {
            if let Some(server) = server {
                let _ = server.kill();
                let _ = server.wait();
            }
        }
    }
}

fn serve(port: u16, urls: &str) -> io::Result<Child> {
    let mut command =
        own_command("stage24").map_err(|failure| io::Error::other(format!("{failure:?}")))?;
    command.args(["--port", &port.to_string(), "--store", urls, "--log", "off"]);
    command.args(["--drain", "2", "--idle-timeout", "75", "--trusted-proxy", "127.0.0.1"]);
    let server = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    wait_until(|| is_ready(port));
    Ok(server)
}

fn is_ready(port: u16) -> bool {
    ask(port, "GET", "/readyz", "", "").is_ok_and(|(status, ..)| status == 200)
}

fn kill(id: u32, signal: &str) {
    let status = Command::new("kill").arg(signal).arg(id.to_string()).status();
    assert!(status.is_ok_and(|status| status.success()), "kill {signal} {id}");
}

fn wait_until(is_true: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_true() {
        assert!(start.elapsed() < LONG, "it does not happen");
        thread::sleep(Duration::from_millis(10));
    }
}

/// The value of a field of a head. HAProxy writes all names in small letters.
fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let mut fields = head.lines().filter_map(|line| line.split_once(": "));
    fields.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// What a client has done to a record, or seen of it.
#[derive(Debug, Clone, Copy)]
struct Entry {
    record: usize,
    number: u64,
    begun: Duration,
    ended: Duration,
    what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// It has been answered that this number is there now.
    Written,
    /// Nobody knows.
    Perhaps,
    Read,
    /// A read that was not answered.
    Unread,
}

/// Clients, and what they have seen.
struct Load {
    port: u16,
    start: Instant,
    is_over: AtomicBool,
    records: Vec<String>,
    counter: String,
    history: Mutex<Vec<Entry>>,
    /// The records that were added, by what is in them: how often that has been answered with 201.
    added: Mutex<BTreeMap<String, bool>>,
    /// How often the counter has been counted up, and how often that may be so.
    counted: AtomicUsize,
    perhaps_counted: AtomicUsize,
}

impl Load {
    fn new(port: u16) -> Load {
        let add = || {
            let (status, head, _) =
                ask(port, "POST", "/data", "", "{\"number\":0}").expect("all is well");
            assert_eq!(status, 201);
            field(&head, "location").expect("it says where").to_owned()
        };
        Load {
            port,
            start: Instant::now(),
            is_over: AtomicBool::new(false),
            records: (0..WRITERS).map(|_| add()).collect(),
            counter: add(),
            history: Mutex::default(),
            added: Mutex::default(),
            counted: AtomicUsize::new(0),
            perhaps_counted: AtomicUsize::new(0),
        }
    }

    fn ask(
        &self,
        method: &str,
        path: &str,
        fields: &str,
        body: &str,
    ) -> Option<(u16, String, String)> {
        ask(self.port, method, path, fields, body).ok()
    }

    fn number_in(body: &str) -> u64 {
        let value: Value = serde_json::from_str(body).unwrap_or_default();
        value["data"]["number"].as_u64().unwrap_or_default()
    }

    fn note(&self, record: usize, number: u64, begun: Duration, what: What) {
        let entry = Entry { record, number, begun, ended: self.start.elapsed(), what };
        self.history.lock().expect("no panic").push(entry);
    }

    /// Puts larger and larger numbers into a record that nobody else changes.
    fn write(&self, record: usize) {
        let mut number = 0;
        while !self.is_over.load(Ordering::Relaxed) {
            number += 1;
            let (begun, body) = (self.start.elapsed(), json!({ "number": number }).to_string());
            let answer = self.ask("PUT", &self.records[record], "", &body);
            let is_written = answer.is_some_and(|(status, ..)| status == 200);
            self.note(
                record,
                number,
                begun,
                if is_written { What::Written } else { What::Perhaps },
            );
        }
    }

    fn read(&self, reader: usize) {
        let mut turn = reader;
        while !self.is_over.load(Ordering::Relaxed) {
            turn += 1;
            let (record, begun) = (turn % WRITERS, self.start.elapsed());
            match self.ask("GET", &self.records[record], "", "") {
                Some((200, _, body)) => {
                    self.note(record, Load::number_in(&body), begun, What::Read)
                }
                _ => self.note(record, 0, begun, What::Unread),
            }
        }
    }

    fn add(&self) {
        let mut number = 0;
        while !self.is_over.load(Ordering::Relaxed) {
            number += 1;
            let text = format!("added {number} beside {}", self.counter);
            let answer = self.ask("POST", "/data", "", &json!({ "text": text }).to_string());
            let is_added = answer.is_some_and(|(status, ..)| status == 201);
            self.added.lock().expect("no panic").insert(text, is_added);
        }
    }

    /// Counts up what others count up as well.
    fn count(&self) {
        while !self.is_over.load(Ordering::Relaxed) {
            let Some((200, head, body)) = self.ask("GET", &self.counter, "", "") else { continue };
            let tag = field(&head, "etag").unwrap_or_default();
            let next = json!({ "number": Load::number_in(&body) + 1 }).to_string();
            let answer = self.ask("PUT", &self.counter, &format!("If-Match: {tag}\r\n"), &next);
            match answer.map(|(status, ..)| status) {
                Some(200) => self.counted.fetch_add(1, Ordering::Relaxed),
                Some(412) => 0,
                _ => self.perhaps_counted.fetch_add(1, Ordering::Relaxed),
            };
        }
    }

    /// Lets all clients work while something happens.
    fn during(&self, event: impl FnOnce()) {
        thread::scope(|scope| {
            (0..WRITERS).for_each(|record| drop(scope.spawn(move || self.write(record))));
            (0..READERS).for_each(|reader| drop(scope.spawn(move || self.read(reader))));
            (0..2).for_each(|_| drop(scope.spawn(|| self.count())));
            scope.spawn(|| self.add());
            thread::sleep(Duration::from_secs(1)); // all goes well for a while
            event();
            thread::sleep(Duration::from_secs(1)); // and afterwards again
            self.is_over.store(true, Ordering::Relaxed);
        });
    }

    /// Looks whether each read has seen the last change that was answered before it began, or a later one; and whether all
    /// is there at the end that was answered.
    fn check(&self) {
        let history = self.history.lock().expect("no panic").clone();
        for read in history.iter().filter(|entry| entry.what == What::Read) {
            let of_record = || history.iter().filter(|entry| entry.record == read.record);
            let writes = of_record().filter(|it| matches!(it.what, What::Written | What::Perhaps));
            let known =
                writes.clone().filter(|it| it.what == What::Written && it.ended < read.begun);
            let least = known.map(|entry| entry.number).max().unwrap_or(0);
            let most =
                writes.filter(|it| it.begun < read.ended).map(|it| it.number).max().unwrap_or(0);
            assert!(
                (least..=most).contains(&read.number),
                "{least} to {most} may be read, not {read:?}"
            );
        }
        for (record, path) in self.records.iter().enumerate() {
            let (_, _, body) = self.ask("GET", path, "", "").expect("all is well again");
            let written =
                history.iter().filter(|it| it.record == record && it.what == What::Written);
            let last = written.map(|entry| entry.number).max().unwrap_or(0);
            assert!(Load::number_in(&body) >= last, "record {record} has lost {last}");
        }
        let (_, _, body) = self.ask("GET", &self.counter, "", "").expect("all is well again");
        let (found, counted) =
            (Load::number_in(&body), self.counted.load(Ordering::Relaxed) as u64);
        let perhaps = self.perhaps_counted.load(Ordering::Relaxed) as u64;
        assert!(
            (counted..=counted + perhaps).contains(&found),
            "{counted} + {perhaps}, not {found}"
        );
        self.check_added();
    }

    /// Looks whether each record that was added is there once, and those that may have been added once at most.
    fn check_added(&self) {
        let mut found: BTreeMap<String, usize> = BTreeMap::new();
        let mut after = 0;
        loop {
            let path = format!("/data?limit=1000&after={after}");
            let (_, _, body) = self.ask("GET", &path, "", "").expect("all is well again");
            let page: Vec<Value> = serde_json::from_str(&body).expect("a list");
            let Some(last) = page.last() else { break };
            after = last["id"].as_u64().expect("a number");
            for record in &page {
                if let Some(text) = record["data"]["text"].as_str() {
                    *found.entry(text.to_owned()).or_default() += 1;
                }
            }
        }
        for (text, is_added) in &*self.added.lock().expect("no panic") {
            match found.get(text) {
                Some(1) => {}
                None => assert!(!is_added, "{text} is lost"),
                Some(count) => panic!("{text} is there {count} times"),
            }
        }
    }

    /// How many requests there were, how many of them failed, and the longest time in which none was answered.
    fn tell(&self, event: &str) -> (usize, Duration) {
        let history = self.history.lock().expect("no panic");
        let has_failed = |entry: &&Entry| matches!(entry.what, What::Perhaps | What::Unread);
        let added = self.added.lock().expect("no panic");
        let not_added = added.values().filter(|is_added| !**is_added).count();
        let not_counted = self.perhaps_counted.load(Ordering::Relaxed);
        let failed = history.iter().filter(has_failed).count() + not_added + not_counted;
        let all = history.len() + added.len() + self.counted.load(Ordering::Relaxed) + not_counted;
        let mut ends: Vec<_> =
            history.iter().filter(|it| !has_failed(it)).map(|it| it.ended).collect();
        ends.sort();
        let outage = ends.windows(2).map(|two| two[1] - two[0]).max().unwrap_or_default();
        let milliseconds = outage.as_millis();
        println!("| {event} | {all} | {failed} | {milliseconds} ms |");
        (failed, outage)
    }
}

/// Lets something happen under load, and checks all that clients have seen.
fn happens(
    machines: &mut Machines,
    event: &str,
    what: impl FnOnce(&mut Machines),
) -> (usize, Duration) {
    let load = Load::new(machines.balancer);
    load.during(|| what(machines));
    wait_until(|| ask(load.port, "GET", &load.counter, "", "").is_ok_and(|it| it.0 == 200));
    load.check();
    load.tell(event)
}

#[ignore = "needs etcd and HAProxy; .ci/run runs it"]
#[test]
fn nothing_that_was_answered_is_lost() {
    let mut machines = Machines::start(3, "haproxy").expect("etcd and HAProxy are installed");
    println!(
        "| while | reads and writes | failed | longest time without an answer |\n|---|---:|---:|---:|"
    );
    let event = "all servers are restarted, one after another";
    let (failed, _) = happens(&mut machines, event, restart_all);
    assert_eq!(failed, 0, "nobody should notice");
    let mut outages = Vec::new();
    outages.push(happens(&mut machines, "a server is killed", |machines| {
        machines.signal(0, "-KILL");
        thread::sleep(Duration::from_secs(3));
        machines.renew(0).expect("it starts again");
    }));
    outages.push(happens(&mut machines, "the member that leads is killed", |machines| {
        let leader = machines.etcd.leader().expect("there is one");
        machines.etcd.kill(leader);
        thread::sleep(Duration::from_secs(5));
        machines.etcd.begin(leader).expect("it starts again");
    }));
    wait_until(|| machines.etcd.leader().is_some());
    outages.push(happens(
        &mut machines,
        "the member that leads stands still for 5 seconds",
        |machines| {
            let leader = machines.etcd.leader().and_then(|leader| machines.etcd.process_id(leader));
            let leader = leader.expect("there is one");
            kill(leader, "-STOP");
            thread::sleep(Duration::from_secs(5));
            kill(leader, "-CONT");
        },
    ));
    for (_, outage) in outages {
        assert!(outage < MAX_OUTAGE, "nobody was answered for {outage:?}");
    }
}

fn restart_all(machines: &mut Machines) {
    for number in 0..3 {
        machines.signal(number, "-TERM");
        machines.renew(number).expect("it starts again");
        thread::sleep(Duration::from_millis(700)); // the balancer has to notice that it is back
    }
}

/// nginx asks nobody whether they are ready, and does not send a change to another server when the first one has gone. So
/// some changes fail, but no reads; and nothing that was answered is lost.
#[ignore = "needs etcd and nginx; .ci/run runs it"]
#[test]
fn nothing_that_was_answered_is_lost_behind_nginx() {
    let mut machines = Machines::start(3, "nginx").expect("etcd and nginx are installed");
    let load = Load::new(machines.balancer);
    load.during(|| restart_all(&mut machines));
    load.check();
    load.tell("all servers are restarted, behind nginx");
    let history = load.history.lock().expect("no panic");
    let unread = history.iter().filter(|entry| entry.what == What::Unread).count();
    assert_eq!(unread, 0, "no read should fail");
}

/// How many requests a second are answered to this many clients.
fn rate(clients: usize, ask_once: impl Fn(usize) -> bool + Sync) -> f64 {
    let (time, count) = (Duration::from_secs(3), AtomicUsize::new(0));
    let start = Instant::now();
    thread::scope(|scope| {
        for client in 0..clients {
            let (ask_once, count) = (&ask_once, &count);
            scope.spawn(move || {
                while start.elapsed() < time {
                    count.fetch_add(usize::from(ask_once(client)), Ordering::Relaxed);
                }
            });
        }
    });
    count.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64()
}

/// Lets each server have a twentieth of a processor, as if it had a small machine of its own. Returns whether the system
/// lets us (cgroups, version 1 or 2).
fn confine(machines: &Machines) -> io::Result<()> {
    for (port, server) in &machines.servers {
        let Some(server) = server else { continue };
        let old = Path::new("/sys/fs/cgroup/cpu");
        let root = if old.is_dir() { old } else { Path::new("/sys/fs/cgroup") };
        let group = root.join(format!("server-{port}"));
        fs::create_dir(&group)?;
        match old.is_dir() {
            true => fs::write(group.join("cpu.cfs_quota_us"), "5000")?,
            false => fs::write(group.join("cpu.max"), "5000 100000")?,
        }
        fs::write(group.join("cgroup.procs"), server.id().to_string())?;
    }
    Ok(())
}

/// Removes what [`confine`] has made.
fn release(machines: &Machines) {
    for (port, _) in &machines.servers {
        for root in ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup"] {
            let _ = fs::remove_dir(Path::new(root).join(format!("server-{port}")));
        }
    }
}

#[ignore = "measures; the figures are in docs/24-many-machines.md"]
#[test]
fn what_a_machine_more_brings() {
    let mut machines = Machines::start(3, "haproxy").expect("etcd and HAProxy are installed");
    let path = Load::new(machines.balancer).counter;
    let confined = confine(&machines);
    let balancer = machines.balancer;
    let get = |path: &str| ask(balancer, "GET", path, "", "").is_ok_and(|it| it.0 == 200);
    println!("| a second, 16 clients | 1 server | 2 servers | 3 servers |\n|---|---:|---:|---:|");
    let mut rows =
        vec![("records read", Vec::new()), ("small answers without the store", Vec::new())];
    for count in [3, 2, 1] {
        wait_until(|| is_ready(balancer));
        rows[0].1.push(rate(16, |_| get(&path)));
        rows[1].1.push(rate(16, |_| get("/echo/a")));
        machines.signal(count - 1, "-KILL");
        let _ = machines.servers[count - 1].1.take().map(|mut server| server.wait());
        thread::sleep(Duration::from_secs(1)); // the balancer has to notice
    }
    release(&machines);
    for (name, rates) in rows {
        println!("| {name} | {:.0} | {:.0} | {:.0} |", rates[2], rates[1], rates[0]);
    }
    confined.expect("the system lets us confine the servers");
}

#[ignore = "measures; the figures are in docs/24-many-machines.md"]
#[test]
fn what_it_costs() {
    println!("| a second, 16 clients | 1 member | 3 members |\n|---|---:|---:|");
    let mut rows: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for members in [1, 3] {
        let machines = Machines::start(members, "haproxy").expect("etcd and HAProxy are installed");
        let path = Load::new(machines.balancer).counter;
        let one = machines.servers[0].0;
        let get =
            |port: u16, path: &str| ask(port, "GET", path, "", "").is_ok_and(|it| it.0 == 200);
        let add = |port: u16| ask(port, "POST", "/data", "", "{}").is_ok_and(|it| it.0 == 201);
        for (name, found) in [
            ("records added, by one server", rate(16, |_| add(one))),
            ("records added, by three", rate(16, |_| add(machines.balancer))),
            ("records read, from one server", rate(16, |_| get(one, &path))),
            ("records read, from three", rate(16, |_| get(machines.balancer, &path))),
            ("small answers without the store, from one", rate(16, |_| get(one, "/echo/a"))),
            ("the same, from three", rate(16, |_| get(machines.balancer, "/echo/a"))),
        ] {
            rows.entry(name).or_default().push(found);
        }
    }
    for (name, rates) in rows {
        println!("| {name} | {:.0} | {:.0} |", rates[0], rates[1]);
    }
}
