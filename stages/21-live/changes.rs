//! What has changed, for all who watch: server-sent events (HTML, section 9.2).

use std::collections::VecDeque;
use std::io::{self, Cursor, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use common::{Request, Response};
use json::{Event, EventKind, Observer};

/// How many events are remembered for those who come back, and how many bytes of them.
const MAX_EVENTS: usize = 1_000;
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// The first words to a watcher: if the connection breaks, come back after a second (1,000 milliseconds).
const WELCOME: &str = "retry: 1000\n\n";

/// A line that is no event. It keeps the connection alive, and finds out whether anybody is there.
const COMMENT: &str = ":\n\n";

pub struct Changes {
    max_watchers: usize,
    heartbeat: Duration,
    state: Mutex<State>,
    /// Signalled when there is an event, and when there will be no more.
    news: Condvar,
}

#[derive(Default)]
struct State {
    /// The last events, in their order, as they are sent.
    events: VecDeque<(u64, Arc<[u8]>)>,
    bytes: usize,
    /// The id of the last event that is no longer among them.
    forgotten: u64,
    /// The id of the last event.
    last: u64,
    watchers: usize,
    is_closed: bool,
}

impl Changes {
    pub fn new(max_watchers: usize, heartbeat: Duration) -> Changes {
        Changes { max_watchers, heartbeat, state: Mutex::default(), news: Condvar::new() }
    }

    /// The answer to somebody who wants to watch. It has no end.
    pub fn events(self: &Arc<Changes>, request: &Request) -> Response {
        match self.watcher(request.header("Last-Event-ID")) {
            Some(watcher) => {
                Response::stream("text/event-stream", watcher).header("Cache-Control", "no-store")
            }
            None => Response::new(503).header("Retry-After", "5"),
        }
    }

    /// Somebody who watches from now on, or from the last event on that they have seen. `None` if there are too many.
    fn watcher(self: &Arc<Changes>, last_event_id: Option<&[u8]>) -> Option<Watcher> {
        let mut state = self.lock();
        if state.watchers == self.max_watchers {
            return None;
        }
        state.watchers += 1;
        let (mut seen, mut ready) = (state.last, WELCOME.to_owned());
        if let Some(id) = last_event_id {
            match str::from_utf8(id).ok().and_then(|id| id.parse().ok()) {
                Some(id) if (state.forgotten..=state.last).contains(&id) => seen = id,
                _ => ready += &format!("id: {seen}\nevent: reset\ndata: null\n\n"),
            }
        }
        let ready = Cursor::new(Arc::from(ready.into_bytes()));
        Some(Watcher { changes: Arc::clone(self), seen, ready })
    }

    /// Waits for the event after this one. `None` if there will be none, and if it has been forgotten: the watcher was
    /// too slow.
    fn next(&self, seen: u64) -> Option<(u64, Arc<[u8]>)> {
        let is_nothing_new = |state: &mut State| state.last == seen && !state.is_closed;
        let waited = self.news.wait_timeout_while(self.lock(), self.heartbeat, is_nothing_new);
        let (state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            return Some((seen, Arc::from(COMMENT.as_bytes())));
        }
        if seen < state.forgotten {
            return None;
        }
        let next = state.events.partition_point(|(id, _)| *id <= seen);
        state.events.get(next).cloned()
    }

    /// Lets all watchers go.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.news.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Changes {
    /// What was before this change is unknown.
    fn begin(&self, revision: u64) {
        let mut state = self.lock();
        state.events.clear();
        (state.bytes, state.forgotten, state.last) = (0, revision, revision);
        self.news.notify_all();
    }

    fn kept(&self, event: Event) {
        let text: Arc<[u8]> = Arc::from(text(&event).into_bytes());
        let mut state = self.lock();
        state.last = event.revision;
        state.bytes += text.len();
        state.events.push_back((event.revision, text));
        while state.events.len() > MAX_EVENTS || state.bytes > MAX_BYTES {
            let Some((id, text)) = state.events.pop_front() else { break };
            state.bytes -= text.len();
            state.forgotten = id;
        }
        self.news.notify_all();
    }
}

/// An event as it is sent: three fields, and an empty line.
fn text(event: &Event) -> String {
    let Event { id, revision, kind, data } = event;
    let record = format!("{{\"data\":{data},\"id\":{id}}}");
    let (name, data) = match kind {
        EventKind::Created => ("created", record),
        EventKind::Changed => ("changed", record),
        EventKind::Deleted => ("deleted", format!("{{\"id\":{id}}}")),
    };
    format!("id: {revision}\nevent: {name}\ndata: {data}\n\n")
}

/// Somebody who watches. What is read from it are the events, as they come.
struct Watcher {
    changes: Arc<Changes>,
    /// The id of the last event that has been read.
    seen: u64,
    /// What is being read.
    ready: Cursor<Arc<[u8]>>,
}

impl Read for Watcher {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.ready.position() == self.ready.get_ref().len() as u64 {
            let Some((seen, text)) = self.changes.next(self.seen) else { return Ok(0) };
            (self.seen, self.ready) = (seen, Cursor::new(text));
        }
        self.ready.read(buffer)
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.changes.lock().watchers -= 1;
    }
}
