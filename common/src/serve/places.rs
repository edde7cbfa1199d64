//! A limit on the number of connections (stage 12's lasting form).

use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long a connection must be idle before it may be evicted, in milliseconds. Before that, its next
/// request may well be on its way.
const MIN_IDLE_MILLIS: u64 = 100;

/// The time between two checks whether all requests have been answered.
const PAUSE: Duration = Duration::from_millis(5);

/// A fixed number of places for connections. When all are taken, a new connection evicts the one that has
/// been idle longest, if that one has been idle for a tenth of a second.
#[derive(Debug)]
pub(crate) struct Places {
    count: usize,
    start: Instant,
    registry: Mutex<Registry>,
}

#[derive(Debug, Default)]
struct Registry {
    /// What happens at each place, even if its connection has been evicted.
    spots: Vec<Option<Arc<Spot>>>,
    free: Vec<usize>,
    taken: usize,
    /// Whether no more places are given out.
    is_closed: bool,
}

/// A connection, and what it is doing.
#[derive(Debug)]
struct Spot {
    /// One of the constants below, or the time at which the connection became idle.
    state: AtomicU64,
    stream: Arc<TcpStream>,
    /// What of the connection ends when it is evicted.
    how: Shutdown,
}

/// A request is being answered.
const BUSY: u64 = 0;
/// A request has begun to arrive.
const ARRIVING: u64 = 1;
/// The connection has been evicted.
const EVICTED: u64 = 2;
/// Values from here on are times: this constant plus the milliseconds since `Places::start`.
const IDLE: u64 = 3;

/// A place that is taken. Dropping it frees the place.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    spot: Arc<Spot>,
    index: usize,
}

/// How long a stop waits for evicted connections to be closed properly, when nobody else is waited for.
const GOODBYE: Duration = Duration::from_millis(500);

impl Places {
    pub(crate) fn new(count: usize) -> Arc<Places> {
        Arc::new(Places { count, start: Instant::now(), registry: Mutex::default() })
    }

    /// Takes a free place, or the place of an idle connection, which is evicted. Returns `None` if neither
    /// exists, and after [`Places::close`]. The new connection counts as busy at first.
    ///
    /// If there is a filter, the thread of an evicted connection still says goodbye: only reading ends.
    pub(crate) fn take(
        self: &Arc<Places>,
        stream: &Arc<TcpStream>,
        has_filter: bool,
    ) -> Option<Place> {
        let mut registry = self.lock();
        let has_room =
            registry.taken < self.count || !registry.is_closed && registry.evict_idlest(self.now());
        if registry.is_closed || !has_room {
            return None;
        }
        registry.taken += 1;
        let how = if has_filter && cfg!(unix) { Shutdown::Read } else { Shutdown::Both };
        let spot = Arc::new(Spot { state: AtomicU64::new(BUSY), stream: Arc::clone(stream), how });
        let index = registry.add(Arc::clone(&spot));
        Some(Place { places: Arc::clone(self), spot, index })
    }

    /// Evicts the connection that has been idle longest, if any has been idle long enough: its descriptor
    /// will be free soon. Returns whether one was evicted.
    pub(crate) fn evict_idlest(&self) -> bool {
        self.lock().evict_idlest(self.now())
    }

    /// Returns the time, as the state of a connection that becomes idle now.
    fn now(&self) -> u64 {
        let millis = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(0);
        IDLE.saturating_add(millis)
    }

    /// Gives out no more places, and evicts all connections that are not busy. Waits until none is busy,
    /// for up to `time`, or until `is_urgent` returns `true`. Returns whether none is busy any more.
    pub(crate) fn close(&self, time: Duration, is_urgent: impl Fn() -> bool) -> bool {
        let deadline = Instant::now() + time;
        self.lock().is_closed = true;
        loop {
            if self.lock().evict_all() {
                self.wait_for_goodbyes(deadline.min(Instant::now() + GOODBYE));
                return true;
            }
            if is_urgent() || Instant::now() > deadline {
                return false;
            }
            thread::sleep(PAUSE);
        }
    }

    /// Waits until all evicted connections have been closed, but no longer than this.
    fn wait_for_goodbyes(&self, deadline: Instant) {
        while Instant::now() < deadline && self.lock().has_evicted() {
            thread::sleep(PAUSE);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registry {
    fn add(&mut self, spot: Arc<Spot>) -> usize {
        if let Some(index) = self.free.pop() {
            self.spots[index] = Some(spot);
            return index;
        }
        self.spots.push(Some(spot));
        self.spots.len() - 1
    }

    fn evict_idlest(&mut self, now: u64) -> bool {
        let spots = self.spots.iter().flatten();
        let mut idle: Vec<_> =
            spots.map(|spot| (spot.state.load(Ordering::Acquire), spot)).collect();
        idle.retain(|(since, _)| *since >= IDLE && since.saturating_add(MIN_IDLE_MILLIS) <= now);
        idle.sort_by_key(|(since, _)| *since);
        let evicted = idle.iter().any(|(since, spot)| spot.evict(*since));
        self.taken -= usize::from(evicted);
        evicted
    }

    /// Whether a connection has been evicted, and its thread has not closed it yet.
    fn has_evicted(&self) -> bool {
        self.spots.iter().flatten().any(|spot| spot.state.load(Ordering::Acquire) == EVICTED)
    }

    /// Evicts all connections that are not busy. Returns whether none is left.
    fn evict_all(&mut self) -> bool {
        let mut none_busy = true;
        for spot in self.spots.iter().flatten() {
            let state = spot.state.load(Ordering::Acquire);
            if state == EVICTED {
                continue;
            }
            if state != BUSY && spot.evict(state) {
                self.taken -= 1;
            } else {
                none_busy = false;
            }
        }
        none_busy
    }
}

impl Spot {
    /// Evicts the connection, if it is still in this state. Returns whether it was.
    fn evict(&self, state: u64) -> bool {
        let is_unchanged = self
            .state
            .compare_exchange(state, EVICTED, Ordering::AcqRel, Ordering::Acquire)
            .is_ok();
        if is_unchanged {
            let _ = self.stream.shutdown(self.how); // wakes up the thread that waits for it
        }
        is_unchanged
    }

    /// Changes the state, unless the connection has been evicted. Returns whether the connection may stay.
    fn change(&self, to: u64) -> bool {
        let may_stay = |state| (state != EVICTED).then_some(to);
        self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, may_stay).is_ok()
    }
}

impl Place {
    /// Marks the connection as idle. Returns whether it may stay.
    pub(crate) fn mark_idle(&self) -> bool {
        self.spot.change(self.places.now())
    }

    /// Marks the connection as receiving a request. Returns whether it may stay.
    pub(crate) fn mark_receiving(&self) -> bool {
        self.spot.change(ARRIVING)
    }

    /// Marks the connection as answering a request. Returns whether it may stay.
    pub(crate) fn mark_busy(&self) -> bool {
        self.spot.change(BUSY)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut registry = self.places.lock();
        registry.spots[self.index] = None;
        registry.free.push(self.index);
        let was_evicted = self.spot.state.load(Ordering::Acquire) == EVICTED;
        registry.taken -= usize::from(!was_evicted);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{Ipv4Addr, TcpListener};

    /// Returns a connection, and its other end.
    fn connection() -> (Arc<TcpStream>, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("the socket is bound");
        let peer = TcpStream::connect(address).expect("the socket listens");
        (Arc::new(listener.accept().expect("the peer has connected").0), peer)
    }

    /// Returns places at which a connection can have been idle for some seconds.
    fn opened_long_ago(count: usize) -> Arc<Places> {
        let start = Instant::now() - Duration::from_secs(10);
        Arc::new(Places { count, start, registry: Mutex::default() })
    }

    #[test]
    fn the_number_of_places_is_fixed() {
        let places = Places::new(2);
        let (stream, _peer) = connection();
        let (first, second) = (places.take(&stream, false), places.take(&stream, false));
        assert!(first.is_some() && second.is_some());
        assert!(places.take(&stream, false).is_none());
        drop(first);
        assert!(places.take(&stream, false).is_some());
    }

    #[test]
    fn the_longest_idle_connection_is_evicted() {
        let places = opened_long_ago(3);
        let streams: Vec<_> = (0..4).map(|_| connection()).collect();
        let [busy, early, late] =
            [0, 1, 2].map(|it| places.take(&streams[it].0, false).expect("room"));
        assert!(early.mark_idle() && late.mark_idle());
        assert!(places.take(&streams[3].0, false).is_none(), "they have only just been served");
        early.spot.state.store(IDLE + 1, Ordering::Release);
        late.spot.state.store(IDLE + 2, Ordering::Release);
        let new = places.take(&streams[3].0, false).expect("one is evicted");
        assert!(busy.mark_busy() && !early.mark_busy() && late.mark_busy());
        assert!(!early.mark_idle(), "it stays evicted");
        assert!(places.take(&streams[3].0, false).is_none());
        drop(early);
        assert!(places.take(&streams[3].0, false).is_none(), "its place was given away already");
        drop(new);
        assert!(places.take(&streams[3].0, false).is_some());
    }

    #[test]
    fn eviction_wakes_the_reading_thread() {
        use std::io::Read;
        let places = opened_long_ago(1);
        let (stream, _peer) = connection();
        let place = places.take(&stream, false).expect("room");
        place.spot.state.store(IDLE, Ordering::Release);
        assert!(places.evict_idlest());
        assert_eq!((&*stream).read(&mut [0]).expect("the stream has ended"), 0);
    }

    #[test]
    fn closing_waits_for_busy_connections_only() {
        let places = Places::new(3);
        let (stream, _peer) = connection();
        let [busy, idle, begun] = [0; 3].map(|_| places.take(&stream, false).expect("room"));
        assert!(idle.mark_idle() && begun.mark_receiving());
        assert!(!places.close(Duration::from_millis(1), || false));
        assert!(!idle.mark_busy() && !begun.mark_busy() && busy.mark_busy());
        assert!(places.take(&stream, false).is_none());
        assert!(!places.close(Duration::from_secs(600), || true), "the close is urgent");
        drop(busy);
        assert!(places.close(Duration::ZERO, || false));
    }
}
