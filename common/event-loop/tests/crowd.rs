//! What a client costs that waits for events. Alone in its program, so that nobody else's memory is counted.

#![cfg(target_os = "linux")] // which shows in a file how much memory a process uses

mod server;

use std::fs;
use std::io::BufReader;

use common::Limits;

use server::{Server, send, skip_to, status};

const WATCHERS: usize = 400;

/// The most memory for each of them, in bytes: both ends of the connection are in this program.
const MOST: usize = 2_500;

/// How much memory this program has, in bytes.
fn memory() -> usize {
    let text = fs::read_to_string("/proc/self/status").expect("Linux has this file");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("and this line");
    let kib = line.trim().trim_end_matches(" kB").parse::<usize>();
    kib.expect("it is a number") * 1024
}

#[test]
fn a_watcher_takes_little_memory() {
    let limits = Limits { max_connections: 2 * WATCHERS, ..Limits::default() };
    let server = Server::start(limits, 2 * WATCHERS);
    let watch = || {
        let mut client = server.connect();
        send(&mut client, "GET /events HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(status(&mut client), 200);
        client.into_inner() // without the buffer, which is not the server's
    };
    let first: Vec<_> = (0..20).map(|_| watch()).collect(); // what is needed once, is there
    let before = memory();
    let watchers: Vec<_> = (0..WATCHERS).map(|_| watch()).collect();
    let each = memory().saturating_sub(before) / WATCHERS;
    assert!(each < MOST, "{each} bytes for each");
    server.events.send(1, "change", "x");
    let all = first.into_iter().chain(watchers).map(|watcher| {
        let mut watcher = BufReader::new(watcher);
        skip_to(&mut watcher, "event: change");
        watcher
    });
    let all: Vec<_> = all.collect();
    drop(server); // before they leave, so that nothing is said of that
    drop(all);
}
