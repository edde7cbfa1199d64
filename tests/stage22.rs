//! Stage 22 · An event loop: thousands of clients, and few threads.
//!
//! From outside, a loop is a server like others. So its checks are those of all stages before, and these, which are about
//! many clients at the same time. Nothing here asks for a loop: a thread for each client passes as well, if it can.

use std::fs;
use std::io;
use std::time::{Duration, Instant};

use harness::{Check, Connection, Failure, Server, TIMEOUT, json};

/// A blink: the time for an answer while many others wait.
const BLINK: Duration = Duration::from_secs(2);

fn cannot(error: io::Error) -> Failure {
    Failure::new(format!("this check cannot prepare its files: {error}"))
}

/// Asks for an answer, which must come in a blink.
fn in_a_blink(server: &Server, why: &str) -> Check {
    let start = Instant::now();
    server.get("/echo/quick").status(200).body("quick").because(why)?;
    let time = start.elapsed();
    if time < BLINK {
        return Ok(());
    }
    let problem = format!("the answer took {} milliseconds", time.as_millis());
    Err(server.finish(Failure::new(problem).why(why).read(server.chapter())))
}

#[test]
fn idle_clients_cost_little() -> Check {
    let count = most_clients();
    let limit = (count + 100).to_string();
    let args = ["--max-connections", &limit, "--idle-timeout", "600"];
    let server = Server::start_with_args("stage22", &args)?;
    let why = format!(
        "{count} clients are connected, and each has had an answer and says nothing more. The next one is answered in a \
         blink."
    );
    let mut idle: Vec<Connection> = Vec::new();
    for _ in 0..count {
        let mut client = server.connect()?;
        client.expect_answers(3); // one of them comes later
        client.send(b"GET /echo/a HTTP/1.1\r\nHost: a\r\n\r\n")?;
        client.answer().map_err(|failure| server.finish(failure.why(why.as_str())))?;
        idle.push(client);
    }
    for _ in 0..20 {
        in_a_blink(&server, &why)?;
    }
    let why = "Each of them may ask again: the connections are still open.";
    for client in idle.iter_mut().step_by(count / 20) {
        client.send(b"GET /echo/again HTTP/1.1\r\nHost: a\r\n\r\n")?;
        server.answer(client).status(200).body("again").because(why)?;
    }
    Ok(())
}

/// How many clients this check can be, when each takes a descriptor here, and one or two in the server.
fn most_clients() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    soft.map_or(100, |descriptors: usize| (descriptors.saturating_sub(700)).clamp(100, 10_000))
}

#[test]
fn one_slow_reader_delays_nobody() -> Check {
    let server = Server::start_with_directory("stage22")?;
    let content: Vec<u8> = (0..4_000_000u32).flat_map(u32::to_le_bytes).collect();
    fs::write(server.directory().join("large"), &content).map_err(cannot)?;
    let mut slow = Vec::new();
    for _ in 0..4 {
        let mut client = server.connect()?;
        client.send(b"GET /files/large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
        slow.push(client);
    }
    let why = "Four clients have asked for a file of 16 MB, and read nothing. Their connections are full, so your server \
               must wait for them, and answer all others meanwhile.";
    for _ in 0..20 {
        in_a_blink(&server, why)?;
    }
    let why = "Now the four clients read. When a connection was full, only a part of what was written has been taken. Go \
               on with the rest when there is room.";
    for mut client in slow {
        let answer = server.answer(&mut client).status(200);
        answer.body(&content).because(why)?;
    }
    Ok(())
}

#[test]
fn a_flood_of_requests_is_no_reason_to_forget_others() -> Check {
    let server = Server::start("stage22")?;
    let request = &b"GET /echo/flood HTTP/1.1\r\nHost: a\r\n\r\n"[..];
    let long = format!("GET /echo/flood HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(450));
    for (request, count) in [(long.as_bytes(), 10), (long.as_bytes(), 100), (request, 3_000)] {
        let mut batch = server.connect()?;
        batch.send(request)?;
        server.answer(&mut batch).status(200).because("This is an ordinary request.")?;
        batch.send_requests(&vec![request; count])?;
        let why = format!(
            "A client has sent {count} requests at once, {} bytes, and is silent now. Read on until nothing is left: the \
             system may tell only once that something has come.",
            count * request.len()
        );
        for _ in 0..count {
            server.answer(&mut batch).status(200).body("flood").because(&why)?;
        }
    }
    let flood = server.flood(&request.repeat(1_000))?;
    let why = "A client sends requests without end, and reads all answers. It has its turn, and then the others have \
               theirs, before it goes on.";
    for _ in 0..20 {
        in_a_blink(&server, why)?;
    }
    drop(flood);
    Ok(())
}

#[test]
fn who_has_said_all_is_let_go() -> Check {
    let server = Server::start("stage22")?;
    let why = "A client has sent its last request, and has closed its side of the connection at once. After the answer, \
               nothing is left to say, so your server closes its side as well, long before its --idle-timeout.";
    for _ in 0..10 {
        let mut client = server.connect()?;
        client.send(b"GET /echo/a HTTP/1.1\r\nHost: a\r\n\r\n")?;
        server.answer(&mut client).status(200).because("This is an ordinary request.")?;
        client.expect_answers(2);
        client.send(b"GET /echo/last HTTP/1.1\r\nHost: a\r\n\r\n")?;
        let answer = client.leave().map_err(|failure| server.finish(failure.why(why)))?;
        if !answer.ends_with(b"\r\n\r\nlast") {
            let problem = "the last request has no answer";
            return Err(server.finish(Failure::new(problem).why(why).read(server.chapter())));
        }
    }
    Ok(())
}

#[test]
fn a_body_in_a_thousand_pieces() -> Check {
    let server = Server::start_with_directory("stage22")?;
    let mut slow = server.connect()?;
    slow.send(b"POST /files/slow HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n")?;
    let why = "A client uploads a file, byte by byte. The other clients are answered in between.";
    for number in 0..1_000u32 {
        slow.send(&[b'0' + (number % 10) as u8])?;
        if number % 50 == 0 {
            in_a_blink(&server, why)?;
        }
    }
    server.answer(&mut slow).status(201).because("All of it has come.")?;
    let stored = fs::read(server.directory().join("slow")).unwrap_or_default();
    match stored == b"0123456789".repeat(100) {
        true => Ok(()),
        false => Err(server.finish(Failure::new("the file is not what was sent").why(why))),
    }
}

#[test]
fn everybody_has_a_deadline_of_their_own() -> Check {
    let args = ["--idle-timeout", "2", "--head-timeout", "2"];
    let server = Server::start_with_args("stage22", &args)?;
    let why = "Your server was started with --idle-timeout 2. This client asks every half second, so it is never idle for \
               so long.";
    let mut busy = server.connect()?;
    let mut idle = server.connect()?;
    idle.send(b"GET /echo/a HTTP/1.1\r\nHost: a\r\n\r\n")?;
    server.answer(&mut idle).status(200).because("This is an ordinary request.")?;
    for _ in 0..8 {
        busy.send(b"GET /echo/b HTTP/1.1\r\nHost: a\r\n\r\n")?;
        server.answer(&mut busy).status(200).body("b").because(why)?;
        busy.expect_idle(Duration::from_millis(500))
            .map_err(|failure| server.finish(failure.why(why)))?;
    }
    let why = "And this one has said nothing for four seconds.";
    idle.expect_close(Duration::from_millis(100)).map_err(|failure| server.finish(failure.why(why)))
}

#[test]
fn thousands_of_changes_reach_all_who_watch() -> Check {
    let server = Server::start_with_args("stage22", &["--max-watchers", "60"])?;
    let mut watchers = (0..50).map(|_| server.watch(None)).collect::<Result<Vec<_>, _>>()?;
    let why = "Fifty clients watch, and there are 200 changes. All of them hear of all changes, in their order.";
    for number in 0..200 {
        let body = json!({ "number": number }).to_string();
        let request = server.request("POST", "/data").header("Content-Type: application/json");
        request.body(body).send().status(201).because("A record is added.")?;
    }
    for events in &mut watchers {
        for number in 0..200 {
            let event = events.event().map_err(|failure| server.finish(failure.why(why)))?;
            if !event.data.contains(&format!("\"number\":{number}}}")) {
                let problem = format!("the event is {}, and not about number {number}", event.data);
                return Err(server.finish(events.failure(problem).why(why)));
            }
        }
    }
    Ok(())
}

#[cfg(target_os = "linux")]
#[test]
fn who_waits_does_nothing() -> Check {
    let server = Server::start_with_directory("stage22")?;
    let content = vec![b'x'; 16_000_000];
    fs::write(server.directory().join("large"), &content).map_err(cannot)?;
    let mut idle = server.connect()?;
    idle.send(b"GET /echo/a HTTP/1.1\r\nHost: a\r\n\r\n")?;
    server.answer(&mut idle).status(200).because("This is an ordinary request.")?;
    let mut half = server.connect()?;
    half.send(b"GET / HTTP/1.1\r\nHo")?;
    let mut slow = server.connect()?;
    slow.shrink_receive_buffer();
    slow.send(b"GET /files/large HTTP/1.1\r\nHost: a\r\n\r\n")?;
    let _watching = server.watch(None)?;
    slow.wait_for_more(TIMEOUT).map_err(|failure| server.finish(failure))?;
    let why = "A client is idle, one has sent half a request, one does not read, and one watches. Nobody can do anything, \
               so your server should sleep. It uses the processor all the time: it asks the system again and again.";
    let before = server.processor_time()?;
    std::thread::sleep(Duration::from_secs(2)); // the time that is measured
    let used = server.processor_time()?.saturating_sub(before);
    match used < Duration::from_millis(100) {
        true => Ok(()),
        false => {
            let problem =
                format!("your server has used {} ms of processor in 2 seconds", used.as_millis());
            Err(server.finish(Failure::new(problem).why(why).read(server.chapter())))
        }
    }
}
