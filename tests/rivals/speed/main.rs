//! What `cargo bench` runs: how fast the stages are, and what they cost, beside servers in common use. Everything runs on
//! the loopback interface, and takes less than ten minutes.
//!
//! The servers take turns for several rounds, so that a noisy machine disturbs all of them alike. Requests per second are the
//! median of the rounds. The time of the processors is the least, because disturbance only adds to it.

mod load;
mod report;
mod routers;
mod servers;

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;

use load::{Kind, Scenario, measure, memory_with};
use report::{Results, Table};
use servers::Contestant;

const ROUNDS: usize = 5;
const TIME: Duration = Duration::from_millis(400);

/// How many rounds there are where it is looked at how the cost grows.
const ROUNDS_OF_GROWTH: usize = 3;

/// Whose cost is looked at as it grows.
const GROWING: [&str; 5] = ["hyper", "nginx", "stage 16", "stage 22", "event-loop"];

/// More clients than any measurement has.
const MOST: usize = 11_000;

fn main() {
    let directory = TempDir::new().expect("a temporary directory");
    for (name, size) in [("1k", 1 << 10), ("100k", 100 << 10), ("10m", 10 << 20)] {
        fs::write(directory.path().join(name), vec![b'x'; size]).expect("it can be written");
    }
    for (name, size) in SIZES {
        let file = File::create(directory.path().join(name)).expect("it can be created");
        file.set_len(size).expect("it takes no space");
    }
    rlimit::increase_nofile_limit(2 * MOST as u64).expect("the system says its limit");
    if env::args().any(|arg| arg == "tls") {
        return println!("{}", secured(directory.path()));
    }
    compare_all(directory.path());
}

/// Makes all tables, and draws the pictures.
fn compare_all(directory: &Path) {
    let contestants = servers::start(directory, MOST);
    let mut report = String::new();
    let small = play_all(&contestants, scenarios(), ROUNDS);
    report += &small.ratios("requests per second, relative to hyper", "hyper");
    report += &small.table("requests per second", Table::Rate);
    report += &small.table("microseconds of processor for a request", Table::Processor);
    let growing: Vec<_> = contestants.into_iter().filter(|it| GROWING.contains(&it.name)).collect();
    let grown = play_all(&growing, growth(), ROUNDS_OF_GROWTH);
    report +=
        &grown.table("microseconds of processor for a request, as it grows", Table::Processor);
    drop(growing);
    report += &secured(directory);
    let memory = memory(directory);
    report +=
        &memory.table("KiB of memory of a new server, beside idle connections", Table::Memory);
    report += &routers::compare();
    println!("{report}");
    let folder = PathBuf::from("target/speed");
    let drawn = fs::create_dir_all(&folder).map_err(|error| error.to_string()).and_then(|()| {
        small.draw_rates(&folder.join("requests.svg"))?;
        memory.draw_memory(&folder.join("memory.svg"))
    });
    match drawn {
        Ok(()) => println!("The pictures are in {}.", folder.display()),
        Err(error) => eprintln!("cannot draw the pictures: {error}"),
    }
}

/// The tables of the servers that speak TLS. `cargo bench -- tls` makes only these.
fn secured(directory: &Path) -> String {
    let secured = play_all(&servers::start_secured(directory), over_tls(), ROUNDS);
    let rates = secured.table("requests per second, over TLS", Table::Rate);
    let what = "microseconds of processor for a request, over TLS";
    rates + &secured.table(what, Table::Processor)
}

/// The requests of the first tables.
fn scenarios() -> Vec<Scenario> {
    let small = |name, connections| Scenario::get(name, "/echo/hello", connections);
    let head = "POST /files/upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1048576\r\n\r\n";
    let upload = [head.as_bytes(), &vec![b'x'; 1 << 20]].concat();
    let closing = "GET /echo/hello HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    vec![
        small("small answers, 64 connections", 64),
        small("small answers, 512 connections", 512),
        Scenario { depth: 16, ..small("small answers, 16 at once", 64) },
        Scenario {
            persists: false,
            request: closing.into(),
            kind: Kind::Closing,
            ..small("a connection for each", 64)
        },
        Scenario { kind: Kind::Routed, ..Scenario::get("JSON by a route", "/user/10", 64) },
        Scenario::get("files of 1 KiB", "/files/1k", 64),
        Scenario::get("files of 100 KiB", "/files/100k", 64),
        Scenario::get("files of 10 MiB", "/files/10m", 4),
        Scenario { request: upload, ..small("uploads of 1 MiB", 8) },
    ]
}

/// The requests through TLS: many on a connection, or a handshake for each.
fn over_tls() -> Vec<Scenario> {
    let get = Scenario::get;
    let closing = "GET /echo/hello HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let handshake = Scenario {
        persists: false,
        request: closing.into(),
        ..get("a handshake for each", "/echo/hello", 16)
    };
    let resumed =
        Scenario { name: "the same, with a ticket".into(), resumes: true, ..handshake.clone() };
    vec![
        get("small answers, 64 connections", "/echo/hello", 64),
        handshake,
        resumed,
        get("files of 1 KiB", "/files/1k", 64),
        get("files of 100 KiB", "/files/100k", 64),
        get("files of 10 MiB", "/files/10m", 4),
    ]
}

/// The files whose size grows. They are sparse: their content takes no space.
const SIZES: [(&str, u64); 5] =
    [("s1k", 1 << 10), ("s32k", 1 << 15), ("s1m", 1 << 20), ("s32m", 1 << 25), ("s1g", 1 << 30)];

/// The requests whose number, size or connections grow.
fn growth() -> Vec<Scenario> {
    let small = |name: String, connections| Scenario::get(name, "/echo/hello", connections);
    let connections = [1, 10, 100, 1_000, 10_000];
    let by_connections = connections.map(|count| small(format!("{count} connections"), count));
    let names = ["1 KiB", "32 KiB", "1 MiB", "32 MiB", "1 GiB"];
    let by_size = SIZES.iter().zip(names).map(|((path, _), name)| {
        Scenario::get(format!("a file of {name}"), &format!("/files/{path}"), 2)
    });
    let by_depth = [1, 2, 4, 8, 16]
        .map(|depth| Scenario { depth, ..small(format!("{depth} at once, 64 connections"), 64) });
    by_connections.into_iter().chain(by_size).chain(by_depth).collect()
}

/// Lets all servers take turns in all scenarios.
fn play_all(contestants: &[Contestant], scenarios: Vec<Scenario>, rounds: usize) -> Results {
    let names = contestants.iter().map(|contestant| contestant.name).collect();
    let mut results = Results::new(names, scenarios.iter().map(|it| it.name.clone()).collect());
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        for (row, scenario) in scenarios.iter().enumerate() {
            for contestant in contestants.iter().filter(|it| (it.takes_part)(scenario)) {
                match measure(contestant, scenario, TIME) {
                    Ok(found) => results.add(row, contestant.name, found),
                    Err(error) => eprintln!("{}: {}: {error}", contestant.name, scenario.name),
                }
            }
        }
    }
    results
}

/// How much memory new servers take, with more and more idle connections.
fn memory(directory: &Path) -> Results {
    let contestants = servers::start(directory, MOST);
    let contestants: Vec<_> =
        contestants.into_iter().filter(|it| GROWING.contains(&it.name)).collect();
    let counts = [10, 100, 1_000, 10_000];
    let names = contestants.iter().map(|contestant| contestant.name).collect();
    let mut results =
        Results::new(names, counts.map(|count| format!("{count} connections")).into());
    for (row, count) in counts.into_iter().enumerate() {
        let scenario = Scenario::get("", "/echo/hello", count);
        for contestant in contestants.iter().filter(|it| (it.takes_part)(&scenario)) {
            match memory_with(contestant, count) {
                Ok(Some(memory)) => results.add_memory(row, contestant.name, memory),
                Ok(None) => {}
                Err(error) => eprintln!("{}: {count} connections: {error}", contestant.name),
            }
        }
    }
    results
}
