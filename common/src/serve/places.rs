//! A limit for the number of connections (stage 12's lasting form).

use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How long a connection has to be idle before it may have to leave, in milliseconds. Before that, its next
/// request may well be on its way.
const LEAST_IDLE: u64 = 100;

/// How often to look whether all requests have been answered.
const PAUSE: Duration = Duration::from_millis(5);

/// So many places for connections, and no more. When all are taken, the connection that has been idle
/// longest has to leave its place to a new one, if it has been idle for a tenth of a second.
#[derive(Debug)]
pub(crate) struct Places {
    count: usize,
    start: Instant,
    registry: Mutex<Registry>,
}

#[derive(Debug, Default)]
struct Registry {
    /// What happens at each place, also at those whose connection has to leave.
    spots: Vec<Option<Arc<Spot>>>,
    free: Vec<usize>,
    taken: usize,
    /// Whether there are no more places for anybody.
    is_closed: bool,
}

/// What happens at one place.
#[derive(Debug)]
struct Spot {
    /// One of the constants below, or the time since when the connection has been idle.
    state: AtomicU64,
    stream: Arc<TcpStream>,
}

/// A request is being answered.
const BUSY: u64 = 0;
/// A request has begun to arrive.
const ARRIVING: u64 = 1;
/// The connection has to leave.
const EVICTED: u64 = 2;
/// Everything from here on is a time: milliseconds since the beginning, plus this.
const IDLE: u64 = 3;

/// A place that is taken. It is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    spot: Arc<Spot>,
    index: usize,
}

impl Places {
    pub(crate) fn new(count: usize) -> Arc<Places> {
        Arc::new(Places { count, start: Instant::now(), registry: Mutex::default() })
    }

    /// Takes a place, if there is one, or an idle connection that can leave one. The connection counts as
    /// busy at first.
    pub(crate) fn take(self: &Arc<Places>, stream: &Arc<TcpStream>) -> Option<Place> {
        let mut registry = self.lock();
        let has_room =
            registry.taken < self.count || !registry.is_closed && registry.evict_idlest(self.now());
        if registry.is_closed || !has_room {
            return None;
        }
        registry.taken += 1;
        let spot = Arc::new(Spot { state: AtomicU64::new(BUSY), stream: Arc::clone(stream) });
        let index = registry.add(Arc::clone(&spot));
        Some(Place { places: Arc::clone(self), spot, index })
    }

    /// Has the connection leave that has been idle longest, if one is idle: its descriptor will be free
    /// soon.
    pub(crate) fn evict_idlest(&self) -> bool {
        self.lock().evict_idlest(self.now())
    }

    /// The time, as the state of an idle connection.
    fn now(&self) -> u64 {
        let millis = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(0);
        IDLE.saturating_add(millis)
    }

    /// Lets nobody take a place any more, and has all leave that are not busy. Waits until nobody is, but
    /// no longer than `time`, and no longer than `is_urgent` allows. Returns whether all have left.
    pub(crate) fn close(&self, time: Duration, is_urgent: impl Fn() -> bool) -> bool {
        let deadline = Instant::now() + time;
        self.lock().is_closed = true;
        loop {
            if self.lock().evict_all() {
                return true;
            }
            if is_urgent() || Instant::now() > deadline {
                return false;
            }
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
        idle.retain(|(since, _)| *since >= IDLE && since.saturating_add(LEAST_IDLE) <= now);
        idle.sort_by_key(|(since, _)| *since);
        let evicted = idle.iter().any(|(since, spot)| spot.evict(*since));
        self.taken -= usize::from(evicted);
        evicted
    }

    /// Has all leave that are not busy. Returns whether nobody is left.
    fn evict_all(&mut self) -> bool {
        let mut nobody_is_busy = true;
        for spot in self.spots.iter().flatten() {
            let state = spot.state.load(Ordering::Acquire);
            if state == EVICTED {
                continue;
            }
            if state != BUSY && spot.evict(state) {
                self.taken -= 1;
            } else {
                nobody_is_busy = false;
            }
        }
        nobody_is_busy
    }
}

impl Spot {
    /// Has the connection leave, if nothing has happened since it was in this state.
    fn evict(&self, state: u64) -> bool {
        let is_unchanged = self
            .state
            .compare_exchange(state, EVICTED, Ordering::AcqRel, Ordering::Acquire)
            .is_ok();
        if is_unchanged {
            let _ = self.stream.shutdown(Shutdown::Both); // whoever waits for it will notice
        }
        is_unchanged
    }

    /// Returns whether the connection may stay.
    fn change(&self, to: u64) -> bool {
        let may_stay = |state| (state != EVICTED).then_some(to);
        self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, may_stay).is_ok()
    }
}

impl Place {
    /// Says that the connection waits for a request. Returns whether it may stay.
    pub(crate) fn rest(&self) -> bool {
        self.spot.change(self.places.now())
    }

    /// Says that a request has begun to arrive. Returns whether the connection may stay.
    pub(crate) fn begin(&self) -> bool {
        self.spot.change(ARRIVING)
    }

    /// Says that a request is being answered. Returns whether the connection may stay.
    pub(crate) fn work(&self) -> bool {
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

    /// A connection, and its other end.
    fn connection() -> (Arc<TcpStream>, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let peer = TcpStream::connect(address).expect("it listens");
        (Arc::new(listener.accept().expect("somebody has connected").0), peer)
    }

    /// Places at which somebody can have been idle for some seconds.
    fn opened_long_ago(count: usize) -> Arc<Places> {
        let start = Instant::now() - Duration::from_secs(10);
        Arc::new(Places { count, start, registry: Mutex::default() })
    }

    #[test]
    fn there_are_so_many_and_no_more() {
        let places = Places::new(2);
        let (stream, _peer) = connection();
        let (first, second) = (places.take(&stream), places.take(&stream));
        assert!(first.is_some() && second.is_some());
        assert!(places.take(&stream).is_none());
        drop(first);
        assert!(places.take(&stream).is_some());
    }

    #[test]
    fn the_one_that_has_been_idle_longest_leaves_its_place() {
        let places = opened_long_ago(3);
        let streams: Vec<_> = (0..4).map(|_| connection()).collect();
        let [busy, early, late] = [0, 1, 2].map(|it| places.take(&streams[it].0).expect("room"));
        assert!(early.rest() && late.rest());
        assert!(places.take(&streams[3].0).is_none(), "they have only just been served");
        early.spot.state.store(IDLE + 1, Ordering::Release);
        late.spot.state.store(IDLE + 2, Ordering::Release);
        let new = places.take(&streams[3].0).expect("one has to leave");
        assert!(busy.work() && !early.work() && late.work());
        assert!(!early.rest(), "it stays so");
        assert!(places.take(&streams[3].0).is_none());
        drop(early);
        assert!(places.take(&streams[3].0).is_none(), "its place was given away already");
        drop(new);
        assert!(places.take(&streams[3].0).is_some());
    }

    #[test]
    fn whoever_waits_for_bytes_notices_that_it_has_to_leave() {
        use std::io::Read;
        let places = opened_long_ago(1);
        let (stream, _peer) = connection();
        let place = places.take(&stream).expect("room");
        place.spot.state.store(IDLE, Ordering::Release);
        assert!(places.evict_idlest());
        assert_eq!((&*stream).read(&mut [0]).expect("it has ended"), 0);
    }

    #[test]
    fn closing_waits_for_those_who_are_busy_and_for_nobody_else() {
        let places = Places::new(3);
        let (stream, _peer) = connection();
        let [busy, idle, begun] = [0; 3].map(|_| places.take(&stream).expect("room"));
        assert!(idle.rest() && begun.begin());
        assert!(!places.close(Duration::from_millis(1), || false));
        assert!(!idle.work() && !begun.work() && busy.work());
        assert!(places.take(&stream).is_none());
        assert!(!places.close(Duration::from_secs(600), || true), "somebody is in a hurry");
        drop(busy);
        assert!(places.close(Duration::ZERO, || false));
    }
}
