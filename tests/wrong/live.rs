//! Stage 21 with one mistake, chosen by `MISTAKE`; tests/wrong_servers.rs says which check must catch it. Look for
//! `is("…")`: that is where the mistake is. `style-own-words` is none: it writes the same events in another way.

mod mistake;

use std::collections::VecDeque;
use std::io::{self, Cursor, Read};
use std::process::ExitCode;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use common::{Request, Response};
use json::{Event, EventKind, Memory, Observer, Rules, Store};
use mistake::is;
use serde_json::Value;
use store::Disk;

fn main() -> ExitCode {
    common::run_live(|args| {
        let files = args.files();
        let heartbeat = if is("has-no-heartbeat") { Duration::MAX } else { args.heartbeat };
        let changes = Arc::new(Changes {
            max: if is("lets-everybody-watch") { usize::MAX } else { args.max_watchers },
            heartbeat,
            state: Mutex::default(),
            news: Condvar::new(),
        });
        let observer: Arc<dyn Observer> = changes.clone();
        let store: Arc<dyn Store> = match &args.store {
            Some(path) => Arc::new(Disk::open(path)?.observed_by(observer)),
            None => Arc::new(Memory::default().observed_by(observer)),
        };
        let mut app = args.app(&files);
        let rules = Rules { max_body: args.max_json, require_if_match: args.require_if_match };
        json::add_records(&mut app, &store, rules);
        json::add_form_files(&mut app, &files);
        let watched = Arc::clone(&changes);
        app.get("/data/events", move |request| Ok(watched.events(request)));
        if is("tells-what-was-asked") {
            let told = Arc::clone(&changes);
            app.wrap(move |request, next| {
                if request.method() == "PUT" {
                    told.push("event: changed\ndata: {\"asked\":true}\n\n".to_owned());
                }
                next(request)
            });
        }
        if !is("holds-its-watchers") {
            app.at_stop(move || {
                changes.lock().is_closed = true;
                changes.news.notify_all();
            });
        }
        args.run(app)
    })
}

struct Changes {
    max: usize,
    heartbeat: Duration,
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Default)]
struct State {
    events: VecDeque<(u64, Vec<u8>)>,
    forgotten: u64,
    last: u64,
    /// The last event that some watcher has taken.
    taken: u64,
    watchers: usize,
    /// How far each watcher has come.
    positions: Vec<Option<u64>>,
    is_closed: bool,
}

impl Changes {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn events(self: &Arc<Changes>, request: &Request) -> Response {
        let mut state = self.lock();
        if state.watchers >= self.max {
            return Response::new(503).header("Retry-After", "1");
        }
        state.watchers += 1;
        let id = request.header("Last-Event-ID");
        let id: Option<Option<u64>> = id.map(|id| str::from_utf8(id).ok()?.parse().ok());
        let is_known = |id: &u64| (state.forgotten..=state.last).contains(id);
        let reset = format!("id: {}\nevent: reset\ndata: 0\n\n", state.last);
        let (seen, ready) = match id {
            _ if is("forgets-what-was-missed") => (state.last, String::new()),
            None => (state.last, String::new()),
            Some(Some(id)) if is_known(&id) && is("sends-the-last-one-again") => {
                (id.saturating_sub(1), String::new())
            }
            Some(Some(id)) if is_known(&id) => (id, String::new()),
            Some(_) if is("never-resets") => (state.last, String::new()),
            Some(_) if is("resets-with-everything") => (state.forgotten, reset),
            Some(_) if is("resets-without-an-id") => {
                (state.last, "event: reset\ndata: 0\n\n".to_owned())
            }
            Some(_) if is("resets-without-data") => {
                (state.last, format!("id: {}\nevent: reset\n\n", state.last))
            }
            Some(_) => (state.last, reset),
        };
        let content_type = if is("says-text-plain") { "text/plain" } else { "text/event-stream" };
        state.positions.push(Some(seen));
        let watcher = Watcher {
            number: state.positions.len() - 1,
            changes: Arc::clone(self),
            seen: (!is("registers-when-it-reads")).then_some(seen),
            ready: Cursor::new(ready.into_bytes()),
        };
        drop(state);
        if is("collects-events") {
            return Response::stream(content_type, io::BufReader::new(Collected(watcher)));
        }
        Response::stream(content_type, watcher)
    }

    fn push(&self, text: String) {
        let mut state = self.lock();
        let is_full =
            |state: &State| state.positions.iter().flatten().any(|seen| seen + 100 < state.last);
        while is("waits-for-the-slowest") && is_full(&state) {
            state = self.news.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.last += 1;
        let last = state.last;
        state.events.push_back((last, text.into_bytes()));
        let most = if is("keeps-ten") { 10 } else { 1_000 };
        while state.events.len() > most {
            state.forgotten = state.events.pop_front().map_or(0, |(id, _)| id);
        }
        drop(state);
        self.news.notify_all();
    }

    fn next(&self, seen: u64) -> Option<(u64, Vec<u8>)> {
        let nothing_new = |state: &mut State| {
            let seen = if is("one-queue-for-all") { state.taken.max(seen) } else { seen };
            state.last == seen && !state.is_closed
        };
        let waited = match self.heartbeat {
            Duration::MAX => {
                let waited = self.news.wait_while(self.lock(), nothing_new);
                (waited.unwrap_or_else(PoisonError::into_inner), false)
            }
            heartbeat => {
                let waited = self.news.wait_timeout_while(self.lock(), heartbeat, nothing_new);
                let (state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
                (state, waited.timed_out())
            }
        };
        let (mut state, is_silent) = waited;
        if is_silent {
            let comment = if is("sends-empty-events") {
                "event: ping\ndata: 0\n\n"
            } else {
                ": still here\r\n\r\n"
            };
            return Some((seen, comment.as_bytes().to_vec()));
        }
        let seen = if is("one-queue-for-all") { state.taken.max(seen) } else { seen };
        if seen < state.forgotten && !is("skips-what-is-forgotten") {
            return None;
        }
        let next = state.events.iter().find(|(id, _)| *id > seen).cloned();
        state.taken = next.as_ref().map_or(state.taken, |(id, _)| *id);
        next
    }
}

impl Observer for Changes {
    fn begin(&self, revision: u64) {
        let mut state = self.lock();
        let last = match () {
            () if is("ids-begin-anew") => 0,
            // The last change was a removal.
            () if is("ids-begin-at-what-is-left") => revision.saturating_sub(1),
            () => revision,
        };
        (state.forgotten, state.last) = (last, last);
    }

    fn kept(&self, Event { id, revision, kind, data }: Event) {
        let name = match kind {
            EventKind::Created => "created",
            EventKind::Changed => "changed",
            EventKind::Deleted => "deleted",
        };
        let data = match (kind, data) {
            (EventKind::Deleted, _) if is("says-null-for-deleted") => "null".to_owned(),
            (EventKind::Deleted, _) => format!("{{\"id\":{id}}}"),
            _ if is("sends-the-data-alone") => data.to_owned(),
            _ => format!("{{\"id\":{id},\"data\":{data}}}"),
        };
        let data = match serde_json::from_str::<Value>(&data) {
            Ok(value) if is("prints-over-several-lines") => format!("{value:#}"),
            Ok(value) if is("style-own-words") => format!("{value:#}").replace('\n', "\r\ndata:"),
            _ => data,
        };
        let id = if is("ids-of-records") { id } else { revision };
        let end = if is("no-empty-line") { "" } else { "\n" };
        let text = match () {
            () if is("no-names") => format!("id: {id}\ndata: {data}\n{end}"),
            () if is("no-ids") => format!("event: {name}\ndata: {data}\n{end}"),
            () if is("style-own-words") => {
                format!("data:{data}\r\nevent:{name}\r\nid:{id}\r\nretry: 5\r\n\r\n")
            }
            () => format!("event: {name}\nid: {id}\ndata: {data}\n{end}"),
        };
        if is("tells-of-additions-only") && kind != EventKind::Created {
            return;
        }
        self.push(text);
    }
}

struct Watcher {
    number: usize,
    changes: Arc<Changes>,
    /// `None` until it has been read from, for a watcher that is registered too late.
    seen: Option<u64>,
    ready: Cursor<Vec<u8>>,
}

impl Read for Watcher {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.seen.is_none() {
            thread::sleep(Duration::from_millis(20));
        }
        let seen = self.seen.unwrap_or_else(|| self.changes.lock().last);
        self.seen = Some(seen);
        if self.ready.position() == self.ready.get_ref().len() as u64 {
            let Some((seen, text)) = self.changes.next(seen) else {
                return match is("breaks-off") {
                    true => Err(io::Error::other("this is the end")),
                    false => Ok(0),
                };
            };
            self.changes.lock().positions[self.number] = Some(seen);
            self.changes.news.notify_all();
            (self.seen, self.ready) = (Some(seen), Cursor::new(text));
        }
        self.ready.read(buffer)
    }
}

/// Gives nothing before there are four kilobytes.
struct Collected(Watcher);

impl Read for Collected {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut count = 0;
        while count < buffer.len().min(4096) {
            match self.0.read(&mut buffer[count..])? {
                0 => break,
                more => count += more,
            }
        }
        Ok(count)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut state = self.changes.lock();
        state.positions[self.number] = None;
        if !is("never-forgets-a-watcher") {
            state.watchers -= 1;
        }
    }
}
