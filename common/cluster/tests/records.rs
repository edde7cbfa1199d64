//! Records in a cluster: a small one of the harness, whose members can be told to fail, and a real one, if `ETCD` is set.

use std::collections::BTreeSet;
use std::env;
use std::io;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use cluster::{Cluster, MAX_ANSWER};
use common::{Members, Refused};
use harness::{Etcd, Mood, RealEtcd, Value, json};
use json::{Change, Event, EventKind, Observer, Problem, Record, Room, Store};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);

const ALL: Room = Room { records: 1_000, bytes: 100_000_000 };

/// The members of a cluster, by their addresses.
fn members(urls: &str) -> Members {
    let names: Vec<_> =
        urls.split(',').map(|url| url.trim_start_matches("http://").to_owned()).collect();
    Members::new(&names, Duration::from_millis(1_500), MAX_ANSWER)
}

/// Runs a test with a small cluster, and with a real one if `ETCD` is set.
fn with_each(test: impl Fn(&str)) {
    let etcd = Etcd::start(3).expect("free ports");
    test(&etcd.urls());
    if env::var_os("ETCD").is_some() {
        let etcd = RealEtcd::start(3).expect("etcd is installed");
        test(&etcd.urls());
    }
}

fn put(store: &Cluster, id: u64, data: &Value) -> Result<Option<Record>, Problem> {
    store.change(id, &mut |_| Ok(Change::Replace(data.clone())))
}

fn delete(store: &Cluster, id: u64) -> Result<Option<Record>, Problem> {
    store.change(id, &mut |_| Ok(Change::Delete))
}

fn status<T>(outcome: io::Result<T>) -> u16 {
    match outcome {
        Ok(_) => 200,
        Err(error) => Refused::inside(&error).map_or(500, |refused| refused.status),
    }
}

#[test]
fn records_are_the_same_on_all_machines() {
    with_each(|urls| {
        let (here, there) = (Cluster::new(members(urls)), Cluster::new(members(urls)));
        let data = json!({ "a": [1, "\u{e9}\n", null], "large": u64::MAX });
        let added = here.add(data.clone()).expect("there is room");
        assert_eq!(there.get(added.id).expect("readable"), Some(added.clone()));
        let changed = put(&there, added.id, &json!(2)).expect("nobody minds").expect("it is there");
        assert!(changed.revision > added.revision);
        assert_eq!(here.get(added.id).expect("readable"), Some(changed.clone()));
        let gone = delete(&here, added.id).expect("nobody minds");
        assert_eq!(gone, Some(changed));
        assert_eq!(there.get(added.id).expect("readable"), None);
        assert!(delete(&there, added.id).expect("nobody minds").is_none());
        let next = there.add(json!({})).expect("there is room");
        assert!(next.id > added.id, "a number is never used again");
    });
}

#[test]
fn many_machines_add_at_the_same_time() {
    with_each(|urls| {
        let stores: Vec<_> = (0..3).map(|_| Arc::new(Cluster::new(members(urls)))).collect();
        let before = stores[0].add(json!("before")).expect("there is room").id;
        let threads: Vec<_> = (0..9)
            .map(|number| {
                let store = Arc::clone(&stores[number % 3]);
                thread::spawn(move || {
                    let add = |round| store.add(json!([number, round])).expect("there is room").id;
                    (0..20).map(add).collect::<Vec<_>>()
                })
            })
            .collect();
        let ids = threads.into_iter().flat_map(|thread| thread.join().expect("no panic"));
        let ids: BTreeSet<_> = ids.collect();
        assert_eq!(ids, (before + 1..=before + 180).collect(), "each has a number of its own");
        let page = stores[1].page(before, ALL).expect("readable");
        assert!(page.records.iter().map(|record| record.id).eq(ids.iter().copied()));
        let some =
            stores[2].page(before, Room { records: 50, bytes: 1_000_000 }).expect("readable");
        assert_eq!((some.records.len(), some.has_more), (50, true));
        let last = stores[2].page(before + 170, ALL).expect("readable");
        assert_eq!((last.records.len(), last.has_more), (10, false));
        for id in before..=before + 180 {
            delete(&stores[0], id).expect("nobody minds");
        }
    });
}

#[test]
fn one_of_those_who_compare_and_swap_wins() {
    with_each(|urls| {
        let stores: Vec<_> = (0..3).map(|_| Arc::new(Cluster::new(members(urls)))).collect();
        let record = stores[0].add(json!(0)).expect("there is room");
        let (id, revision) = (record.id, record.revision);
        let threads: Vec<_> = (0..9)
            .map(|number| {
                let store = Arc::clone(&stores[number % 3]);
                thread::spawn(move || {
                    let swapped = store.change(id, &mut |now| match now.revision == revision {
                        true => Ok(Change::Replace(json!(number))),
                        false => Err(Problem::new(412, "somebody was quicker")),
                    });
                    swapped.is_ok()
                })
            })
            .collect();
        let winners = threads.into_iter().filter(|_| true).map(|it| it.join().expect("no panic"));
        assert_eq!(winners.filter(|has_won| *has_won).count(), 1);
        // And nobody's change is lost of those who count up.
        let counted = stores[0].add(json!(0)).expect("there is room").id;
        let threads: Vec<_> = (0..6)
            .map(|number| {
                let store = Arc::clone(&stores[number % 3]);
                thread::spawn(move || {
                    for _ in 0..10 {
                        let mut up = |now: &Record| {
                            Ok(Change::Replace(json!(now.data.as_u64().unwrap_or_default() + 1)))
                        };
                        store.change(counted, &mut up).expect("nobody minds");
                    }
                })
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        let sum = stores[1].get(counted).expect("readable").expect("it is there").data;
        assert_eq!(sum, json!(60));
        for id in [id, counted] {
            delete(&stores[2], id).expect("nobody minds");
        }
    });
}

/// The number of a change, the record, and what has become of it.
type Told = (u64, u64, EventKind, String);

/// What has been heard, and after which change.
#[derive(Default)]
struct Heard(Mutex<(u64, Vec<Told>)>);

impl Observer for Heard {
    fn begin(&self, revision: u64) {
        *self.0.lock().expect("no panic") = (revision, Vec::new());
    }

    fn kept(&self, event: Event) {
        let Event { id, revision, kind, data } = event;
        self.0.lock().expect("no panic").1.push((revision, id, kind, data.to_owned()));
    }
}

fn wait_until(is_true: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_true() {
        assert!(start.elapsed() < LONG, "it does not happen");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A store that tells what it hears, from now on.
fn observed(urls: &str) -> (Cluster, Arc<Heard>) {
    let heard = Arc::new(Heard::default());
    let observer = Arc::clone(&heard) as Arc<dyn Observer>;
    let store = Cluster::new(members(urls)).observed_by(observer).expect("a thread");
    wait_until(|| heard.0.lock().expect("no panic").0 > 0);
    (store, heard)
}

#[test]
fn everybody_hears_of_all_changes() {
    with_each(|urls| {
        let (here, heard_here) = observed(urls);
        let (_there, heard_there) = observed(urls);
        let first = here.add(json!("a")).expect("there is room");
        let second =
            put(&here, first.id, &json!({ "b": 1 })).expect("nobody minds").expect("it is there");
        delete(&here, first.id).expect("nobody minds");
        for heard in [heard_here, heard_there] {
            wait_until(|| heard.0.lock().expect("no panic").1.len() == 3);
            let events = &heard.0.lock().expect("no panic").1;
            let expected = [
                (first.revision, first.id, EventKind::Created, "\"a\"".to_owned()),
                (second.revision, first.id, EventKind::Changed, "{\"b\":1}".to_owned()),
                (second.revision + 1, first.id, EventKind::Deleted, "null".to_owned()),
            ];
            assert_eq!(events[..], expected);
        }
    });
}

#[test]
fn another_member_takes_over() {
    let etcd = Etcd::start(3).expect("free ports");
    let (store, heard) = observed(&etcd.urls());
    let mut ids = Vec::new();
    for mood in [Mood::Gone, Mood::Silent, Mood::WithoutLeader, Mood::InPieces] {
        for number in 0..3 {
            etcd.member(number).becomes(mood);
            ids.push(store.add(json!(number)).expect("two members are well").id);
            assert!(store.get(ids[ids.len() - 1]).expect("two members are well").is_some());
            etcd.member(number).becomes(Mood::Well);
        }
    }
    wait_until(|| heard.0.lock().expect("no panic").1.len() == ids.len());
    let events =
        heard.0.lock().expect("no panic").1.iter().map(|event| event.1).collect::<Vec<_>>();
    assert_eq!(events, ids, "nothing is missing, and nothing comes twice");
}

#[test]
fn what_nobody_knows_the_outcome_of_happens_once() {
    let etcd = Etcd::start(2).expect("free ports");
    let store = Cluster::new(members(&etcd.urls()));
    for mood in [Mood::CutsAfter, Mood::CutsBefore] {
        let cut = || (0..2).for_each(|number| etcd.member(number).becomes(mood));
        etcd.member(0).becomes(mood);
        let added = store.add(json!("first")).expect("the other member is well");
        etcd.all(Mood::Well);
        let page = store.page(added.id - 1, ALL).expect("readable");
        assert_eq!(page.records.len(), 1, "{mood:?}: it was added once");
        etcd.member(0).becomes(mood);
        etcd.member(1).becomes(mood);
        let changed = put(&store, added.id, &json!("second"));
        etcd.all(Mood::Well);
        if let Ok(Some(record)) = changed {
            assert_eq!(store.get(added.id).expect("readable"), Some(record));
        }
        cut();
        let gone = delete(&store, added.id);
        etcd.all(Mood::Well);
        if gone.is_ok() {
            assert_eq!(store.get(added.id).expect("readable"), None);
        }
        delete(&store, added.id).expect("all is well");
    }
}

#[test]
fn nobody_waits_long_when_nobody_answers() {
    let etcd = Etcd::start(3).expect("free ports");
    let store = Arc::new(Cluster::new(members(&etcd.urls())));
    let id = store.add(json!(1)).expect("all is well").id;
    for mood in [Mood::Gone, Mood::WithoutLeader, Mood::Silent] {
        etcd.all(mood);
        let start = Instant::now();
        let threads: Vec<_> = (0..20)
            .map(|number| {
                let store = Arc::clone(&store);
                thread::spawn(move || match number % 3 {
                    0 => status(store.get(id)),
                    1 => status(store.add(json!(2))),
                    _ => match put(&store, id, &json!(3)) {
                        Ok(_) => 200,
                        Err(problem) => problem.response().map_or(500, |it| it.status()),
                    },
                })
            })
            .collect();
        let statuses = threads.into_iter().map(|thread| thread.join().expect("no panic"));
        assert!(statuses.collect::<Vec<_>>().iter().all(|status| *status == 503), "{mood:?}");
        assert!(start.elapsed() < Duration::from_secs(15), "{mood:?}: {:?}", start.elapsed());
        etcd.all(Mood::Well);
        assert_eq!(status(store.get(id)), 200, "{mood:?} is over");
    }
}

#[test]
fn a_record_that_is_too_large_is_refused() {
    with_each(|urls| {
        let store = Cluster::new(members(urls));
        let text = |length| json!("x".repeat(length));
        let large = store.add(text(1_000_000)).expect("there is room");
        assert_eq!(store.get(large.id).expect("readable"), Some(large.clone()));
        assert_eq!(status(store.add(text(1_600_000))), 413);
        delete(&store, large.id).expect("nobody minds");
    });
}
