//! Many clients at once, and how much memory they cost. This command prints the figures of the chapter within
//! some minutes:
//!
//! ```text
//! CROWD=8000 cargo test --release --test crowds -- --nocapture --test-threads 1
//! ```
//!
//! Each client needs one file descriptor here and one in the server: `ulimit -n` must allow that.

#![cfg(target_os = "linux")] // which shows in a file how much memory a process uses

use std::env;

use harness::{Check, Connection, Failure, Server};

/// The stages that limit the number of their clients.
const LIMITED: [&str; 3] = ["stage12", "stage13", "stage22"];

/// The most memory that one client may cost, in KiB: twice the largest head, and the pages that a thread uses
/// of its stack.
const LIMIT_FOR_EACH: u64 = 64;

/// The number of clients.
fn crowd() -> usize {
    env::var("CROWD").ok().and_then(|number| number.parse().ok()).unwrap_or(300)
}

fn expect_little_memory(server: &Server, who: &str, before: u64) -> Check {
    let number = crowd() as u64;
    let used = server.peak_memory()? - before;
    println!("{number} {who}: {used} KiB, {:.1} KiB each", used as f64 / number as f64);
    if used < number * LIMIT_FOR_EACH {
        return Ok(());
    }
    Err(Failure::new(format!("{number} {who} cost {used} KiB of memory")))
}

fn on_each(check: impl Fn(&Server, &mut [Connection], u64) -> Check) -> Check {
    let number = crowd();
    for stage in LIMITED {
        let most = number.to_string();
        let long_timeouts =
            ["--max-connections", &most, "--idle-timeout", "600", "--head-timeout", "600"];
        let server = Server::start_own_with_args(stage, &long_timeouts)?;
        let first = server.connect()?; // wait until the server listens
        let before = server.peak_memory()?;
        drop(first);
        let clients = (0..number).map(|_| server.connect()).collect::<Result<Vec<_>, _>>();
        check(&server, &mut clients?, before)?;
    }
    Ok(())
}

#[test]
fn idle_clients_cost_little_memory() -> Check {
    on_each(|server, clients, before| {
        for client in &mut *clients {
            client.send(b"GET /echo/hello HTTP/1.1\r\nHost: a\r\n\r\n")?;
            client.expect_answers(2); // there is only one, but to make sure of that would take too long
        }
        for client in &mut *clients {
            let answer = server.answer(client).status(200).body("hello");
            answer.because("--max-connections allows all of these clients.")?;
        }
        expect_little_memory(server, "idle clients", before)
    })
}

#[test]
fn endless_heads_cost_little_memory() -> Check {
    on_each(|server, clients, before| {
        let endless = [&b"GET / HTTP/1.1\r\nHost: a\r\nX: "[..], &[b'a'; 16_000]].concat();
        for client in &mut *clients {
            client.send(&endless)?;
        }
        for client in &mut *clients {
            client.send(&[b'a'; 1000])?;
            client.expect_answers(2);
        }
        for client in &mut *clients {
            let answer = server.answer(client).status(431);
            answer.because("A head must have no more than 16 KiB.")?;
        }
        expect_little_memory(server, "clients with endless heads", before)
    })
}
