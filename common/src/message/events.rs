//! Events for all who watch: server-sent events (stage 21's lasting form; HTML, section 9.2).

use std::collections::VecDeque;
use std::fmt::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use crate::message::chunked::chunk;

/// How many events are remembered for those who come back, and how many bytes of them.
const MAX_EVENTS: usize = 1_000;
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// The first words to a watcher: if the connection breaks, come back after a second (1,000 milliseconds).
const WELCOME: &[u8] = b"retry: 1000\n\n";

/// A line that is no event. It keeps the connection alive, and finds out whether anybody is there.
const COMMENT: &[u8] = b":\n\n";

/// Events that are told to all who watch, in their order. A watcher has no queue of its own, only a place in the list of
/// the last 1,000 events (and 64 MiB): who falls behind that is let go, and nobody waits for anybody.
///
/// ```
/// use common::{App, Events, Response};
/// use std::time::Duration;
///
/// let events = Events::new(100, Duration::from_secs(15));
/// let mut app = App::new();
/// let watched = events.clone();
/// app.get("/events", move |request| {
///     let watch = watched.watch(request.header("Last-Event-ID"));
///     Ok(watch.map_or_else(|| Response::new(503), Response::events))
/// });
/// events.send(1, "greeting", "hello");
/// let ended = events.clone();
/// app.at_stop(move || ended.close());
/// ```
#[derive(Clone)]
pub struct Events {
    shared: Arc<Shared>,
}

struct Shared {
    max_watchers: usize,
    heartbeat: Duration,
    state: Mutex<State>,
    /// Signalled when there is an event, and when there will be no more.
    news: Condvar,
}

#[derive(Default)]
struct State {
    /// The last events with their ids, as they are sent.
    events: VecDeque<(u64, Piece)>,
    bytes: usize,
    /// The id of the last event that is no longer among them.
    forgotten: u64,
    /// The id of the last event.
    last: u64,
    watchers: usize,
    is_closed: bool,
    /// Who is called when there is something new.
    wakers: Vec<Weak<Waker>>,
}

/// Wakes somebody up who looks after watchers. It must be quick.
pub type Waker = dyn Fn() + Send + Sync;

/// Something to be sent to watchers. Copies share it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    chunk: Arc<[u8]>,
    /// How many bytes the size of the chunk takes.
    size: usize,
}

impl Piece {
    fn new(text: &[u8]) -> Piece {
        let chunk = chunk(text);
        Piece { size: chunk.len() - text.len() - 2, chunk: Arc::from(chunk) }
    }

    /// Returns it as a chunk.
    pub fn chunk(&self) -> &[u8] {
        &self.chunk
    }

    /// Returns it as it is.
    pub fn text(&self) -> &[u8] {
        &self.chunk[self.size..self.chunk.len() - 2]
    }
}

impl Events {
    /// Creates a list without events, for at most this many watchers at a time. Those who hear nothing for the time of a
    /// heartbeat are sent a comment.
    pub fn new(max_watchers: usize, heartbeat: Duration) -> Events {
        let (state, news) = (Mutex::default(), Condvar::new());
        Events { shared: Arc::new(Shared { max_watchers, heartbeat, state, news }) }
    }

    /// Forgets all events. The next one has a larger id than this.
    pub fn begin(&self, id: u64) {
        let mut state = self.shared.lock();
        state.events.clear();
        (state.bytes, state.forgotten, state.last) = (0, id, id);
        self.shared.wake(state);
    }

    /// Tells all who watch of an event. Its id must be larger than those before it. The data may have several lines.
    pub fn send(&self, id: u64, name: &str, data: &str) {
        let piece = Piece::new(encoded(id, name, data).as_bytes());
        let mut state = self.shared.lock();
        state.last = id;
        state.bytes += piece.chunk.len();
        state.events.push_back((id, piece));
        while state.events.len() > MAX_EVENTS || state.bytes > MAX_BYTES {
            let Some((id, piece)) = state.events.pop_front() else { break };
            state.bytes -= piece.chunk.len();
            state.forgotten = id;
        }
        self.shared.wake(state);
    }

    /// Begins to watch: from now on, or from the event on that the client has seen last, by its `Last-Event-ID`. If
    /// nobody knows what came after that one, the first event is `reset`. Returns `None` if there are too many watchers.
    pub fn watch(&self, last_event_id: Option<&[u8]>) -> Option<Watch> {
        let mut state = self.shared.lock();
        if state.watchers == self.shared.max_watchers {
            return None;
        }
        state.watchers += 1;
        let (mut seen, mut greeting) = (state.last, WELCOME.to_vec());
        if let Some(id) = last_event_id {
            match str::from_utf8(id).ok().and_then(|id| id.parse().ok()) {
                Some(id) if (state.forgotten..=state.last).contains(&id) => seen = id,
                _ => greeting.extend_from_slice(encoded(seen, "reset", "null").as_bytes()),
            }
        }
        let greeting = Piece::new(&greeting);
        let shared = Arc::clone(&self.shared);
        Some(Watch { shared, seen, greeting: Some(greeting), silence: Duration::ZERO })
    }

    /// Lets all watchers go, when they have heard of the last event.
    pub fn close(&self) {
        let mut state = self.shared.lock();
        state.is_closed = true;
        self.shared.wake(state);
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let state = self.shared.lock();
        write!(f, "{} events, {} watchers", state.events.len(), state.watchers)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes up all who wait for something new.
    fn wake(&self, mut state: MutexGuard<State>) {
        let wakers: Vec<_> = state.wakers.iter().filter_map(Weak::upgrade).collect();
        state.wakers.retain(|waker| waker.strong_count() > 0);
        drop(state);
        self.news.notify_all();
        wakers.iter().for_each(|wake| wake());
    }
}

/// An event as it is sent: its fields, and an empty line.
fn encoded(id: u64, name: &str, data: &str) -> String {
    let mut text = format!("id: {id}\nevent: {name}\n");
    for line in data.split('\n') {
        let _ = writeln!(text, "data: {line}"); // a `String` takes everything
    }
    text.push('\n');
    text
}

/// Somebody who watches. Dropping it ends that.
pub struct Watch {
    shared: Arc<Shared>,
    /// The id of the last event that has been taken.
    seen: u64,
    /// What comes before all events.
    greeting: Option<Piece>,
    /// For how long there has been nothing to send.
    silence: Duration,
}

/// What there is for a watcher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// Something to be sent.
    Piece(Piece),
    /// Nothing yet.
    Nothing,
    /// Nothing more: the list is closed, or the watcher has fallen behind.
    End,
}

impl Watch {
    /// Takes what is to be sent next.
    pub fn take(&mut self) -> Heard {
        let next = self.peek();
        match &next {
            Heard::Piece(_) => self.silence = Duration::ZERO,
            Heard::Nothing if self.silence >= self.shared.heartbeat => {
                self.silence = Duration::ZERO;
                return Heard::Piece(Piece::new(COMMENT));
            }
            _ => {}
        }
        next
    }

    fn peek(&mut self) -> Heard {
        if let Some(greeting) = self.greeting.take() {
            return Heard::Piece(greeting);
        }
        let state = self.shared.lock();
        if self.seen < state.forgotten {
            return Heard::End;
        }
        let next = state.events.partition_point(|(id, _)| *id <= self.seen);
        match state.events.get(next) {
            Some((id, piece)) => {
                self.seen = *id;
                Heard::Piece(piece.clone())
            }
            None if state.is_closed => Heard::End,
            None => Heard::Nothing,
        }
    }

    /// Waits until there is something, up to this time.
    pub(crate) fn wait(&mut self, time: Duration) {
        let time = time.min(self.shared.heartbeat - self.silence.min(self.shared.heartbeat));
        let is_nothing_new = |state: &mut State| state.last == self.seen && !state.is_closed;
        let state = self.shared.lock();
        let waited = self.shared.news.wait_timeout_while(state, time, is_nothing_new);
        let (state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        drop(state);
        if waited.timed_out() {
            self.silence += time;
        }
    }

    /// Returns for how long there may be nothing to send. Then [`Watch::probe`] is due.
    pub fn heartbeat(&self) -> Duration {
        self.shared.heartbeat
    }

    /// Has this called when there is something new for any watcher. The same waker is called once for all its watchers.
    pub fn wake_with(&self, waker: &Arc<Waker>) {
        let waker = Arc::downgrade(waker);
        let mut state = self.shared.lock();
        if !state.wakers.iter().any(|known| known.ptr_eq(&waker)) {
            state.wakers.push(waker);
        }
    }

    /// Lets a comment be the next that is sent, if there is no event: the client may have left.
    pub fn probe(&mut self) {
        self.silence = self.shared.heartbeat;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.lock().watchers -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    const SHORT: Duration = Duration::from_millis(1);

    /// What there is for a watcher now.
    fn heard(watch: &mut Watch) -> (String, bool) {
        let mut text = Vec::new();
        loop {
            match watch.take() {
                Heard::Piece(more) => text.extend_from_slice(more.text()),
                end => return (String::from_utf8(text).expect("text"), end == Heard::End),
            }
        }
    }

    fn ids(watch: &mut Watch) -> Vec<u64> {
        let (text, _) = heard(watch);
        text.lines().filter_map(|line| line.strip_prefix("id: ")?.parse().ok()).collect()
    }

    #[test]
    fn each_watcher_hears_of_each_event() {
        let events = Events::new(9, Duration::MAX);
        events.send(1, "early", "nobody hears it");
        let mut watchers = [events.watch(None), events.watch(None)].map(|it| it.expect("room"));
        events.send(3, "greeting", "two\nlines");
        let expected = "retry: 1000\n\nid: 3\nevent: greeting\ndata: two\ndata: lines\n\n";
        for watch in &mut watchers {
            assert_eq!(heard(watch), (expected.to_owned(), false));
        }
        events.send(4, "last", "");
        events.close();
        for watch in &mut watchers {
            assert_eq!(heard(watch), ("id: 4\nevent: last\ndata: \n\n".to_owned(), true));
        }
    }

    #[test]
    fn who_comes_back_hears_what_was_missed_or_that_nobody_knows() {
        let events = Events::new(9, Duration::MAX);
        events.begin(10);
        events.send(11, "a", "");
        events.send(13, "b", "");
        let since = |id: &str| {
            let mut watch = events.watch(Some(id.as_bytes())).expect("room");
            let (text, _) = heard(&mut watch);
            let ids = text.lines().filter_map(|line| line.strip_prefix("id: "));
            (ids.collect::<Vec<_>>().join(" "), text.contains("event: reset"))
        };
        for (id, expected) in [("10", "11 13"), ("11", "13"), ("12", "13"), ("13", "")] {
            assert_eq!(since(id), (expected.to_owned(), false), "{id}");
        }
        for id in ["9", "14", "", "x", "\u{e9}", "99999999999999999999"] {
            assert_eq!(since(id), ("13".to_owned(), true), "{id}");
        }
    }

    #[test]
    fn who_falls_behind_is_let_go() {
        let events = Events::new(9, Duration::MAX);
        let mut slow = events.watch(None).expect("room");
        let mut quick = events.watch(None).expect("room");
        for id in 1..=1_000 {
            events.send(id, "e", "");
        }
        assert_eq!(ids(&mut quick), (1..=1_000).collect::<Vec<_>>());
        events.send(1_001, "e", "");
        let (text, has_ended) = heard(&mut slow);
        assert_eq!((text.as_bytes(), has_ended), (WELCOME, true));
        assert_eq!((ids(&mut quick), heard(&mut quick).1), (vec![1_001], false));
        let large = "x".repeat(MAX_BYTES / 3);
        (1_002..1_006).for_each(|id| events.send(id, "e", &large));
        assert_eq!(events.shared.lock().events.len(), 2);
        events.begin(2_000);
        assert!(heard(&mut quick).1, "nobody knows what came before 2,000");
    }

    #[test]
    fn silence_is_interrupted_by_comments() {
        let events = Events::new(9, 3 * SHORT);
        let mut watch = events.watch(None).expect("room");
        assert_eq!(heard(&mut watch).0.as_bytes(), WELCOME);
        (0..2).for_each(|_| watch.wait(SHORT));
        assert_eq!(watch.take(), Heard::Nothing);
        watch.wait(Duration::MAX);
        assert_eq!(
            (watch.take(), watch.take()),
            (Heard::Piece(Piece::new(COMMENT)), Heard::Nothing)
        );
        watch.probe();
        assert_eq!(watch.take(), Heard::Piece(Piece::new(COMMENT)));
        events.send(1, "e", "");
        watch.wait(Duration::MAX);
        assert_eq!(ids(&mut watch), [1]);
    }

    #[test]
    fn a_place_is_free_when_its_watcher_has_gone() {
        let events = Events::new(1, Duration::MAX);
        let watch = events.watch(None);
        assert!(watch.is_some() && events.watch(None).is_none());
        drop(watch);
        assert!(events.watch(None).is_some());
    }
}
