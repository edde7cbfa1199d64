//! What loops do with clients whose part changes: who watched and goes on, who was idle and begins to speak, and who comes
//! when there is no room.

mod server;

use std::thread;
use std::time::{Duration, Instant};

use common::Limits;

use server::{Server, send, skip_to, status};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn who_has_watched_may_ask_again() {
    let server = Server::start(Limits::default(), 10);
    let mut client = server.connect();
    send(&mut client, "GET /events HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(status(&mut client), 200);
    // More than the connection takes while nobody reads.
    (1..=40).for_each(|id| server.events.send(id, "large", &"x".repeat(1_000_000)));
    skip_to(&mut client, "event: large");
    server.events.begin(100); // what comes next is forgotten, so the answer ends
    skip_to(&mut client, "0");
    skip_to(&mut client, "");
    for id in 101..110 {
        send(&mut client, GET);
        assert_eq!(status(&mut client), 200, "after event {id}");
        server.events.send(id, "later", "x");
    }
}

#[test]
fn a_head_has_its_own_time_also_after_a_long_silence() {
    let limits = Limits {
        idle_timeout: Duration::from_secs(600),
        head_timeout: Duration::from_secs(1),
        ..Limits::default()
    };
    let server = Server::start(limits, 10);
    let mut client = server.connect();
    send(&mut client, GET);
    assert_eq!(status(&mut client), 200);
    let start = Instant::now();
    send(&mut client, "GET / HTTP/1.1\r\nHo");
    assert_eq!(status(&mut client), 408);
    assert!(start.elapsed() >= Duration::from_secs(1));
}

#[test]
fn no_more_are_served_than_there_are_places() {
    let limits = Limits { max_connections: 8, ..Limits::default() };
    let server = Server::start(limits, 10);
    let mut first: Vec<_> = (0..8).map(|_| server.connect()).collect();
    for client in &mut first {
        send(client, GET);
        assert_eq!(status(client), 200);
    }
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(400) {
        thread::yield_now(); // all of them have been idle for long enough then
    }
    // Each of these may have the place of one who was idle, and then is in the middle of a request itself.
    let (begin, rest) = GET.split_at(10);
    let begin_again = |_| {
        let mut client = server.connect();
        send(&mut client, begin);
        client
    };
    let mut later: Vec<_> = (0..60).map(begin_again).collect();
    later.iter_mut().for_each(|client| send(client, rest));
    let served = later.iter_mut().map(status).filter(|status| *status == 200).count();
    assert!((1..=8).contains(&served), "{served} are served, and there are 8 places");
}
