//! Stage 24 with one mistake, chosen by `MISTAKE`; tests/wrong_servers.rs says which check must catch it. Look for
//! `is("…")`: that is where the mistake is. The mistakes are those of many machines: what they share, what they do when the
//! store cannot be reached, and how they leave.

mod mistake;

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::process::{self, ExitCode};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use cluster::{Ask, Cluster, MAX_ANSWER};
use common::{Events, Members, NotAnswered, Refused, Repeat, Response, Told};
use json::{Decide, Memory, Page, Problem, Record, Room, Rules, Store};
use mistake::is;
use serde_json::Value;

fn main() -> ExitCode {
    common::run_one_of_many(|args| {
        let mut args = args.clone();
        if is("stops-at-once") {
            args.drain = Duration::ZERO;
        }
        let events = Events::new(args.max_watchers, args.heartbeat);
        let store: Arc<dyn Store> = match args.members()? {
            Some(_) if is("keeps-records-to-itself") => Arc::new(Memory::default()),
            Some(members) => Arc::new(Wrong::new(members, &events)?),
            None => Arc::new(Memory::default()),
        };
        let mut app = args.app(&args.files());
        let rules = Rules { max_body: args.max_json, require_if_match: args.require_if_match };
        json::add_records(&mut app, &store, rules);
        json::add_events(&mut app, &events);
        let draining = app.drain(args.drain);
        app.get("/readyz", move |_| {
            let is_ready = !draining.has_begun() || is("is-always-ready");
            Ok(Response::text("").with_status(if is_ready { 200 } else { 503 }))
        });
        app.wrap(|request, next| {
            let response = next(request);
            match response.status() == 503 && is("does-not-say-when") {
                true => Response::text("come back later").with_status(503),
                false => response,
            }
        });
        event_loop::run(args.driven(app)?, event_loop::cores()).map(drop)
    })
}

struct Wrong {
    cluster: Cluster,
    remembered: Mutex<BTreeMap<u64, Record>>,
}

impl Wrong {
    fn new(mut members: Vec<String>, events: &Events) -> io::Result<Wrong> {
        if is("knows-one-member") {
            members.truncate(1);
        }
        let members = Members::new(&members, Duration::from_millis(1_500), MAX_ANSWER);
        let cluster = Cluster::new(Asking(members));
        let cluster = match is("watches-nobody") {
            true => cluster,
            false => cluster.observed_by(Arc::new(events.clone()))?,
        };
        Ok(Wrong { cluster, remembered: Mutex::default() })
    }

    fn as_seen<T>(outcome: io::Result<T>) -> io::Result<T> {
        outcome.map_err(|error| match Refused::inside(&error).map(|refused| refused.status) {
            Some(503) if is("says-500") => io::Error::other(error.to_string()),
            Some(413) if is("takes-the-blame") => io::Error::other(error.to_string()),
            _ => error,
        })
    }
}

impl Store for Wrong {
    fn add(&self, data: Value) -> io::Result<Record> {
        let added = self.cluster.add(data.clone());
        match added {
            Err(_) if is("adds-again") => self.cluster.add(data),
            added => Wrong::as_seen(added),
        }
    }

    fn get(&self, id: u64) -> io::Result<Option<Record>> {
        let found = Wrong::as_seen(self.cluster.get(id));
        let mut remembered = self.remembered.lock().expect("no panic");
        match found {
            Err(_) if is("shows-what-it-remembers") && remembered.contains_key(&id) => {
                Ok(remembered.get(&id).cloned())
            }
            Ok(Some(mut record)) => {
                remembered.insert(id, record.clone());
                if is("makes-its-own-tags") {
                    record.revision += u64::from(process::id());
                }
                Ok(Some(record))
            }
            found => found,
        }
    }

    fn page(&self, after: u64, room: Room) -> io::Result<Page> {
        Wrong::as_seen(self.cluster.page(after, room))
    }

    fn change(&self, id: u64, decide: &mut Decide) -> Result<Option<Record>, Problem> {
        self.cluster.change(id, decide)
    }

    fn is_far_away(&self) -> bool {
        true
    }
}

struct Asking(Members);

impl Ask for Asking {
    fn ask(&self, path: &str, body: &[u8], repeat: Repeat) -> Result<Told, NotAnswered> {
        let mut body = body.to_vec();
        if is("looks-before-it-changes") && path.ends_with("/txn") {
            let mut request: Value = serde_json::from_slice(&body).unwrap_or_default();
            request["compare"] = Value::Array(Vec::new());
            body = request.to_string().into_bytes();
        }
        let repeat = if is("takes-the-first-answer") { Repeat::IfUnsent } else { repeat };
        loop {
            let mut told = self.0.ask(path, &body, repeat);
            if let Ok(told) = &mut told {
                told.may_be_second &= !is("takes-unknown-for-unsent");
            }
            if told.is_ok() || !is("waits-for-the-store") {
                return told;
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn listen(&self, path: &str, body: &[u8], patience: Duration) -> io::Result<Box<dyn Read>> {
        let mut body = body.to_vec();
        if is("forgets-where-it-was") {
            let mut request: Value = serde_json::from_slice(&body).unwrap_or_default();
            request["create_request"]["start_revision"] = "0".into();
            body = request.to_string().into_bytes();
        }
        self.0.listen(path, &body, patience)
    }
}
