//! A small etcd: what the checks of stage 24 need of it, in memory. Its members share what they know, and each can be told
//! to fail in the ways in which real ones do. A test compares it with the real one.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::base64;

/// How often somebody who waits looks whether the member has been told to fail.
const LOOK: Duration = Duration::from_millis(20);

/// The most bytes that a request may have, as in etcd.
const MAX_REQUEST: usize = 1_572_864;

/// A cluster, whose members end when this is dropped.
#[derive(Debug)]
pub struct Etcd {
    members: Vec<Arc<Member>>,
}

/// A member of a cluster.
#[derive(Debug)]
pub struct Member {
    address: SocketAddr,
    shared: Arc<Shared>,
    mood: Mutex<Mood>,
    connections: Mutex<Vec<TcpStream>>,
    has_ended: AtomicBool,
}

/// How a member behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// As it should.
    Well,
    /// It takes requests, and answers none, as a process does that has been stopped.
    Silent,
    /// It answers 503: it knows of no leader.
    WithoutLeader,
    /// It does what the next transaction asks for, and ends the connection without an answer. Then it is well again.
    CutsAfter,
    /// It ends the connection of the next transaction before it does anything. Then it is well again.
    CutsBefore,
    /// It answers in chunks of one byte.
    InPieces,
    /// It ends each connection at once, as if nobody were there.
    Gone,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// Signalled when there is something new.
    news: Condvar,
}

#[derive(Debug)]
struct State {
    revision: u64,
    keys: BTreeMap<Vec<u8>, Entry>,
    /// All changes so far, from that with the revision 2 on.
    history: Vec<(u64, Value)>,
    /// How many requests there have been for each path.
    requests: BTreeMap<String, usize>,
}

impl Default for State {
    fn default() -> State {
        let (keys, history, requests) = Default::default();
        State { revision: 1, keys, history, requests }
    }
}

#[derive(Debug, Clone)]
struct Entry {
    created: u64,
    modified: u64,
    version: u64,
    value: Vec<u8>,
}

impl Etcd {
    /// Starts a cluster with this many members.
    ///
    /// # Errors
    ///
    /// When there is no free port.
    pub fn start(count: usize) -> io::Result<Etcd> {
        let shared = Arc::new(Shared::default());
        let members = (0..count).map(|_| Member::start(&shared)).collect::<io::Result<_>>()?;
        Ok(Etcd { members })
    }

    /// What `--store` gets.
    pub fn urls(&self) -> String {
        let urls: Vec<_> = self.members.iter().map(|it| format!("http://{}", it.address)).collect();
        urls.join(",")
    }

    /// A member.
    ///
    /// # Panics
    ///
    /// When there is none with this number: a mistake in the check.
    pub fn member(&self, number: usize) -> &Member {
        &self.members[number]
    }

    /// Puts all members into a mood.
    pub fn all(&self, mood: Mood) {
        self.members.iter().for_each(|member| member.becomes(mood));
    }

    /// How many requests there have been for a path, such as `/v3/kv/txn`.
    pub fn requests(&self, path: &str) -> usize {
        self.members[0].shared.lock().requests.get(path).copied().unwrap_or(0)
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for member in &self.members {
            member.has_ended.store(true, Ordering::Release);
            member.hang_up();
            let _ = TcpStream::connect(member.address); // wakes whoever waits for clients
        }
        if let Some(member) = self.members.first() {
            member.shared.news.notify_all();
        }
    }
}

impl Member {
    fn start(shared: &Arc<Shared>) -> io::Result<Arc<Member>> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let member = Arc::new(Member {
            address: listener.local_addr()?,
            shared: Arc::clone(shared),
            mood: Mutex::new(Mood::Well),
            connections: Mutex::default(),
            has_ended: AtomicBool::new(false),
        });
        let accepting = Arc::clone(&member);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if accepting.has_ended() {
                    return;
                }
                accepting.attend(stream);
            }
        });
        Ok(member)
    }

    /// Its address and port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Puts it into a mood. If it should be gone, its connections end.
    pub fn becomes(&self, mood: Mood) {
        *self.mood.lock().unwrap_or_else(PoisonError::into_inner) = mood;
        if mood == Mood::Gone {
            self.hang_up();
        }
    }

    fn mood(&self) -> Mood {
        *self.mood.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Acquire)
    }

    fn hang_up(&self) {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.drain(..).for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
    }

    fn attend(self: &Arc<Member>, stream: TcpStream) {
        if self.mood() == Mood::Gone {
            return;
        }
        let _ = stream.set_nodelay(true);
        let Ok(copy) = stream.try_clone() else { return };
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).push(copy);
        let member = Arc::clone(self);
        thread::spawn(move || member.talk(&stream));
    }

    /// Answers the requests of a connection.
    fn talk(&self, stream: &TcpStream) -> io::Result<()> {
        let mut reader = BufReader::new(stream);
        while let Some((path, body)) = read_request(&mut reader)? {
            while self.mood() == Mood::Silent && !self.has_ended() {
                thread::sleep(LOOK);
            }
            *self.shared.lock().requests.entry(path.clone()).or_default() += 1;
            match self.mood() {
                Mood::Gone => return Ok(()),
                Mood::WithoutLeader => {
                    let problem = json!({ "error": "etcdserver: no leader", "code": 14 });
                    self.answer(stream, 503, &problem)?;
                    continue;
                }
                mood @ (Mood::CutsAfter | Mood::CutsBefore) if path == "/v3/kv/txn" => {
                    self.becomes(Mood::Well);
                    if mood == Mood::CutsAfter {
                        self.shared.lock().answer(&path, &body);
                        self.shared.news.notify_all();
                    }
                    return stream.shutdown(Shutdown::Both);
                }
                _ => {}
            }
            if path == "/v3/watch" {
                return self.watch(stream, &body);
            }
            let (status, answer) = self.shared.lock().answer(&path, &body);
            self.shared.news.notify_all();
            self.answer(stream, status, &answer)?;
        }
        Ok(())
    }

    fn answer(&self, mut stream: &TcpStream, status: u16, answer: &Value) -> io::Result<()> {
        let body = answer.to_string();
        let head = format!("HTTP/1.1 {status} Status\r\nContent-Type: application/json\r\n");
        if self.mood() != Mood::InPieces {
            let length = body.len();
            let whole = format!("{head}Content-Length: {length}\r\n\r\n{body}");
            return stream.write_all(whole.as_bytes());
        }
        for byte in format!("{head}Transfer-Encoding: chunked\r\n\r\n").bytes() {
            stream.write_all(&[byte])?;
        }
        for byte in body.bytes() {
            stream.write_all(b"1;piece\r\n")?;
            stream.write_all(&[byte])?;
            stream.write_all(b"\r\n")?;
        }
        stream.write_all(b"0\r\n\r\n")
    }

    /// Tells of all changes of some keys, from a revision on.
    fn watch(&self, mut stream: &TcpStream, body: &Value) -> io::Result<()> {
        let create = &body["create_request"];
        let range = Range::of(create);
        let mut next = number(&create["start_revision"]);
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
        stream.write_all(head.as_bytes())?;
        let mut state = self.shared.lock();
        if next == 0 {
            next = state.revision + 1;
        }
        let created = json!({ "result": { "header": state.header(), "created": true } });
        let mut text = format!("{created}\n");
        loop {
            let found = state.history.iter().filter(|(revision, _)| *revision >= next);
            let of_range = |event: &&(u64, Value)| range.has(&decoded(&event.1["kv"]["key"]));
            let events: Vec<_> = found.filter(of_range).map(|(_, event)| event.clone()).collect();
            next = state.revision + 1;
            if !events.is_empty() {
                let told = json!({ "result": { "header": state.header(), "events": events } });
                text += &format!("{told}\n");
            }
            drop(state);
            if !text.is_empty() {
                write!(stream, "{:x}\r\n{text}\r\n", text.len())?;
                text.clear();
            }
            state = self.shared.lock();
            while state.revision + 1 == next || self.mood() == Mood::Silent {
                if self.has_ended() || self.mood() == Mood::Gone {
                    return Ok(());
                }
                let waited = self.shared.news.wait_timeout(state, LOOK);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }
}

/// Reads a request: its path and its body. `None` at the end of the connection.
fn read_request(reader: &mut impl BufRead) -> io::Result<Option<(String, Value)>> {
    let (mut path, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let line = line.trim_end();
        if path.is_empty() {
            path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        } else if let Some((name, value)) = line.split_once(':') {
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().map_err(io::Error::other)?;
            }
        } else if line.is_empty() {
            let mut body = vec![0; length];
            reader.read_exact(&mut body)?;
            return Ok(Some((path, serde_json::from_slice(&body).unwrap_or_default())));
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A key, or all keys from one up to another one.
struct Range {
    first: Vec<u8>,
    end: Vec<u8>,
}

impl Range {
    fn of(request: &Value) -> Range {
        Range { first: decoded(&request["key"]), end: decoded(&request["range_end"]) }
    }

    fn has(&self, key: &[u8]) -> bool {
        match self.end.is_empty() {
            true => key == self.first,
            false => (&self.first[..]..&self.end[..]).contains(&key),
        }
    }
}

impl State {
    fn header(&self) -> Value {
        json!({ "revision": self.revision.to_string() })
    }

    /// Answers a request that is no watch.
    fn answer(&mut self, path: &str, body: &Value) -> (u16, Value) {
        if body.to_string().len() > MAX_REQUEST * 4 / 3 {
            let error = "etcdserver: request is too large";
            return (400, json!({ "error": error, "code": 3, "message": error }));
        }
        let mut answer = match path {
            "/v3/kv/range" => self.range(body),
            "/v3/kv/put" => self.change(|state, revision| state.put(body, revision)),
            "/v3/kv/deleterange" => self.change(|state, revision| state.delete(body, revision)),
            "/v3/kv/txn" => self.transaction(body),
            _ => return (404, json!({ "error": "Not Found", "code": 5 })),
        };
        answer["header"] = self.header();
        (200, answer)
    }

    fn range(&self, request: &Value) -> Value {
        let range = Range::of(request);
        let found: Vec<_> = self.keys.iter().filter(|(key, _)| range.has(key)).collect();
        let limit = match number(&request["limit"]) {
            0 => usize::MAX,
            limit => usize::try_from(limit).unwrap_or(usize::MAX),
        };
        let kvs: Vec<_> = found.iter().take(limit).map(|(key, entry)| kv(key, entry)).collect();
        let mut answer = json!({});
        if found.len() > limit {
            answer["more"] = true.into();
        }
        if !kvs.is_empty() {
            answer["count"] = found.len().to_string().into();
            answer["kvs"] = kvs.into();
        }
        answer
    }

    /// Makes a change with the next number. If nothing has changed, the number is not used.
    fn change(&mut self, change: impl FnOnce(&mut State, u64) -> Value) -> Value {
        let (revision, before) = (self.revision + 1, self.history.len());
        let answer = change(self, revision);
        if self.history.len() > before {
            self.revision = revision;
        }
        answer
    }

    fn put(&mut self, request: &Value, revision: u64) -> Value {
        let (key, value) = (decoded(&request["key"]), decoded(&request["value"]));
        let before = self.keys.get(&key);
        let entry = Entry {
            created: before.map_or(revision, |entry| entry.created),
            modified: revision,
            version: before.map_or(1, |entry| entry.version + 1),
            value,
        };
        self.history.push((revision, json!({ "kv": kv(&key, &entry) })));
        self.keys.insert(key, entry);
        json!({})
    }

    fn delete(&mut self, request: &Value, revision: u64) -> Value {
        let range = Range::of(request);
        let gone: Vec<_> = self.keys.keys().filter(|key| range.has(key)).cloned().collect();
        for key in &gone {
            self.keys.remove(key);
            let kv = json!({ "key": base64::encode(key), "mod_revision": revision.to_string() });
            self.history.push((revision, json!({ "type": "DELETE", "kv": kv })));
        }
        match gone.len() {
            0 => json!({}),
            count => json!({ "deleted": count.to_string() }),
        }
    }

    fn transaction(&mut self, request: &Value) -> Value {
        let none = Vec::new();
        let list = |name: &str| request[name].as_array().unwrap_or(&none).clone();
        let holds = list("compare").iter().all(|compare| self.holds(compare));
        let operations = list(if holds { "success" } else { "failure" });
        let mut answer = self.change(|state, revision| {
            let answers: Vec<_> =
                operations.iter().map(|it| state.operation(it, revision)).collect();
            if answers.is_empty() { json!({}) } else { json!({ "responses": answers }) }
        });
        if holds {
            answer["succeeded"] = true.into();
        }
        for response in answer["responses"].as_array_mut().into_iter().flatten() {
            for (_, inner) in response.as_object_mut().into_iter().flatten() {
                inner["header"] = json!({ "revision": self.revision.to_string() });
            }
        }
        answer
    }

    fn operation(&mut self, operation: &Value, revision: u64) -> Value {
        if let Some(request) = operation.get("request_put") {
            return json!({ "response_put": self.put(request, revision) });
        }
        if let Some(request) = operation.get("request_delete_range") {
            return json!({ "response_delete_range": self.delete(request, revision) });
        }
        json!({ "response_range": self.range(&operation["request_range"]) })
    }

    /// Whether a comparison holds. A key that is not there has zeros.
    fn holds(&self, compare: &Value) -> bool {
        let entry = self.keys.get(&decoded(&compare["key"]));
        let (found, expected) = match compare["target"].as_str().unwrap_or("VERSION") {
            "MOD" => (entry.map_or(0, |it| it.modified), number(&compare["mod_revision"])),
            "CREATE" => (entry.map_or(0, |it| it.created), number(&compare["create_revision"])),
            "VALUE" => {
                let value = entry.map(|entry| &entry.value[..]);
                return value == Some(&decoded(&compare["value"])[..]);
            }
            _ => (entry.map_or(0, |it| it.version), number(&compare["version"])),
        };
        match compare["result"].as_str().unwrap_or("EQUAL") {
            "GREATER" => found > expected,
            "LESS" => found < expected,
            "NOT_EQUAL" => found != expected,
            _ => found == expected,
        }
    }
}

/// A key as etcd shows it.
fn kv(key: &[u8], entry: &Entry) -> Value {
    let mut kv = json!({
        "key": base64::encode(key),
        "create_revision": entry.created.to_string(),
        "mod_revision": entry.modified.to_string(),
        "version": entry.version.to_string(),
    });
    if !entry.value.is_empty() {
        kv["value"] = base64::encode(&entry.value).into();
    }
    kv
}

fn decoded(value: &Value) -> Vec<u8> {
    base64::decode(value.as_str().unwrap_or_default()).unwrap_or_default()
}

/// A number, which is a text in this JSON, or not; 0 if it is not there.
fn number(value: &Value) -> u64 {
    value.as_u64().or_else(|| value.as_str()?.parse().ok()).unwrap_or(0)
}
