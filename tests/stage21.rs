//! Stage 21 · Live: whoever watches `/data/events` hears of each change of the records at once.
//!
//! The answer to `GET /data/events` has no end. It is made of server-sent events, as browsers read them.

use std::time::{Duration, Instant};

use harness::{Check, Event, Events, Exchange, Failure, Server, TIMEOUT, Value, json};
use tempfile::TempDir;

/// Sends a body of JSON.
fn send(server: &Server, method: &str, path: &str, body: &str) -> Exchange {
    server.request(method, path).header("Content-Type: application/json").body(body).send()
}

/// Adds a record, and returns its id.
fn add(server: &Server, data: &str) -> Result<u64, Failure> {
    let answer = send(server, "POST", "/data", data).status(201);
    let answer = answer.answer_because("POST /data adds a record, as in stage 19.")?;
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    Ok(body["id"].as_u64().unwrap_or_default())
}

/// Completes a failure of a watcher.
fn explained(server: &Server, failure: Failure, why: &str) -> Failure {
    server.finish(failure.why(why).read(server.chapter()))
}

/// Waits for the next event, which must have this name and this data. Returns its id.
fn expect(
    server: &Server,
    events: &mut Events,
    name: &str,
    data: &Value,
    why: &str,
) -> Result<u64, Failure> {
    let event = events.event().map_err(|failure| explained(server, failure, why))?;
    let fails = |problem| Err(explained(server, events.failure(problem), why));
    let Event { id, name: found, data: text, repeats } = event;
    if repeats {
        return fails(format!("the event with the id {id} came twice"));
    }
    if found != name {
        return fails(format!("the event is \"{found}\", not \"{name}\""));
    }
    match serde_json::from_str::<Value>(&text) {
        Ok(found) if found == *data => {}
        Ok(found) => return fails(format!("the data of the event is {found}, not {data}")),
        Err(_) => return fails(format!("the data of the event is no JSON: \"{text}\"")),
    }
    match id.parse() {
        Ok(id) => Ok(id),
        Err(_) => fails(format!("the id of the event is \"{id}\", which is no number")),
    }
}

#[test]
fn watchers_hear_of_each_change() -> Check {
    let server = Server::start("stage21")?;
    let mut watchers = [server.watch(None)?, server.watch(None)?];
    let id = add(&server, r#"{"title":"milk","n":9007199254740993,"t":"a\nb"}"#)?;
    let path = format!("/data/{id}");
    send(&server, "PUT", &path, r#"{"title":"bread"}"#).status(200).because("It is replaced.")?;
    send(&server, "PATCH", &path, "{no JSON}").refused().because("This is no JSON.")?;
    let stale = server.request("PUT", &path).header("Content-Type: application/json");
    let stale = stale.header("If-Match: \"another\"").body("{}").send();
    stale.status(412).because("The record is not the version that the client expects.")?;
    send(&server, "PATCH", &path, r#"{"done":true}"#).status(200).because("It is changed.")?;
    send(&server, "DELETE", &path, "").successful().because("It is removed.")?;
    let form = server.request("POST", "/data").body("title=form");
    let form = form.header("Content-Type: application/x-www-form-urlencoded").send();
    form.status(201).because("POST /data takes forms, too.")?;

    let why = "Every watcher hears of every change, in the order of the changes: created and changed with the record as \
               GET shows it, deleted with its id. What was refused is no change.";
    let number: Value =
        serde_json::from_str("9007199254740993").expect("this check knows a number");
    let first = json!({ "id": id, "data": { "title": "milk", "n": number, "t": "a\nb" } });
    for events in &mut watchers {
        let mut last = 0;
        for (name, data) in [
            ("created", first.clone()),
            ("changed", json!({ "id": id, "data": { "title": "bread" } })),
            ("changed", json!({ "id": id, "data": { "title": "bread", "done": true } })),
            ("deleted", json!({ "id": id })),
            ("created", json!({ "id": id + 1, "data": { "title": "form" } })),
        ] {
            let id = expect(&server, events, name, &data, why)?;
            if id <= last {
                let problem =
                    format!("the id of the event is {id}, and the one before it had {last}");
                let why = "The id says how far a watcher has come, so it grows with each change.";
                return Err(explained(&server, events.failure(problem), why));
            }
            last = id;
        }
    }
    Ok(())
}

#[test]
fn a_watcher_misses_nothing_after_the_head() -> Check {
    let server = Server::start("stage21")?;
    let why = "As soon as the head of the answer is here, a page fetches the list of all records. A change after that \
               must come as an event. Register the watcher first, and send the head then.";
    for number in 0..20 {
        let mut events = server.watch(None)?;
        let id = add(&server, &json!({ "number": number }).to_string())?;
        let data = json!({ "id": id, "data": { "number": number } });
        expect(&server, &mut events, "created", &data, why)?;
    }
    Ok(())
}

#[test]
fn who_comes_back_gets_what_was_missed() -> Check {
    let server = Server::start("stage21")?;
    let mut events = server.watch(None)?;
    let mut ids = Vec::new();
    for number in 0..5 {
        let id = add(&server, &json!({ "number": number }).to_string())?;
        let data = json!({ "id": id, "data": { "number": number } });
        let why = "Each record that is added is an event.";
        ids.push((expect(&server, &mut events, "created", &data, why)?, data));
    }
    drop(events);
    let why = "A browser that has lost its connection connects again, and says in Last-Event-ID which event was the \
               last that it has seen. Send those after it, each with its id, and then go on.";
    for seen in [1, 4] {
        let mut events = server.watch(Some(&ids[seen].0.to_string()))?;
        for (id, data) in &ids[seen + 1..] {
            let found = expect(&server, &mut events, "created", data, why)?;
            if found != *id {
                let problem = format!("the id of the event is {found}, and before it was {id}");
                return Err(explained(&server, events.failure(problem), why));
            }
        }
        let id = add(&server, r#"{"number":"next"}"#)?;
        let data = json!({ "id": id, "data": { "number": "next" } });
        ids.push((expect(&server, &mut events, "created", &data, why)?, data));
    }
    Ok(())
}

/// Replaces a record many times, with 50 requests on one connection.
fn replace_often(server: &Server, id: u64, count: usize, filling: &str) -> Check {
    let path = format!("/data/{id}");
    let requests = (0..count).map(|number| {
        let body = json!({ "number": number, "filling": filling }).to_string();
        let request = server.request("PUT", &path).header("Content-Type: application/json");
        [request.body(&body).head(), body.into_bytes()].concat()
    });
    let requests: Vec<_> = requests.collect();
    for some in requests.chunks(50) {
        let mut connection = server.connect()?;
        connection.send_requests(&some.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
        for _ in some {
            let answer = server.answer(&mut connection).status(200);
            answer.because("The record is replaced, whoever watches.")?;
        }
    }
    Ok(())
}

#[test]
fn says_so_when_it_cannot_know_what_was_missed() -> Check {
    let server = Server::start("stage21")?;
    let mut events = server.watch(None)?;
    let id = add(&server, r#"{"number":"first"}"#)?;
    let data = json!({ "id": id, "data": { "number": "first" } });
    let first = expect(&server, &mut events, "created", &data, "A record was added.")?;
    replace_often(&server, id, 1_000, "")?;
    let why = "The last 1,000 events are kept for those who come back. This watcher has seen the one before them.";
    let mut back = server.watch(Some(&first.to_string()))?;
    for number in 0..1_000 {
        let data = json!({ "id": id, "data": { "number": number, "filling": "" } });
        expect(&server, &mut back, "changed", &data, why)?;
    }
    replace_often(&server, id, 1, "")?;
    let why = "A watcher comes back with an id of which nobody can know what came after it. It must not believe that it \
               has missed nothing: send an event with the name reset first, with the id of the last change and with \
               some data, and then go on. The page fetches the list again.";
    for unknown in ["999999999", "yesterday", &first.to_string()] {
        let mut events = server.watch(Some(unknown))?;
        // Who still knows everything after the first event may send it.
        if unknown == first.to_string() && knows_all(&server, unknown)? {
            continue;
        }
        let event = events.next_event().map_err(|failure| explained(&server, failure, why))?;
        let found = event.as_ref().map_or("the answer ends".to_owned(), |event| {
            format!("the first event is \"{}\"", event.name)
        });
        let Some(event) = event.filter(|event| event.name == "reset") else {
            let problem = format!("Last-Event-ID was {unknown}, and {found}, not a reset");
            return Err(explained(&server, events.failure(problem), why));
        };
        // Whoever comes back with the id of the reset has missed nothing.
        let mut again = server.watch(Some(&event.id))?;
        replace_often(&server, id, 1, unknown)?;
        let data = json!({ "id": id, "data": { "number": 0, "filling": unknown } });
        for events in [&mut events, &mut again] {
            expect(&server, events, "changed", &data, why)?;
        }
    }
    Ok(())
}

/// Whether the answer to this `Last-Event-ID` begins with the very next change.
fn knows_all(server: &Server, last_event_id: &str) -> Result<bool, Failure> {
    let event = server.watch(Some(last_event_id))?.next_event()?;
    Ok(event.is_some_and(|event| event.data.contains(r#""number":0"#)))
}

#[test]
fn ids_go_on_after_a_restart() -> Check {
    let directory = TempDir::new()
        .map_err(|error| Failure::new(format!("this check cannot prepare its files: {error}")))?;
    let file = directory.path().join("records").display().to_string();
    let start = || Server::start_with_args("stage21", &["--store", &file]);
    let server = start()?;
    let mut events = server.watch(None)?;
    let (id, gone) = (add(&server, r#"{"number":1}"#)?, add(&server, "{}")?);
    send(&server, "DELETE", &format!("/data/{gone}"), "").successful().because("It is removed.")?;
    let why = "Two records were added, and one of them was removed.";
    for (name, data) in [
        ("created", json!({ "id": id, "data": { "number": 1 } })),
        ("created", json!({ "id": gone, "data": {} })),
    ] {
        expect(&server, &mut events, name, &data, why)?;
    }
    let last = expect(&server, &mut events, "deleted", &json!({ "id": gone }), why)?;
    drop(server); // kills it
    let server = start()?;
    let why = "The server was killed, and started again with the same --store. This watcher has seen the last change, \
               which was the removal of a record, so it has missed nothing, and the next event is the next change. Its id is larger than all before it, \
               also those before the restart.";
    let mut events = server.watch(Some(&last.to_string()))?;
    send(&server, "PATCH", &format!("/data/{id}"), r#"{"number":2}"#)
        .status(200)
        .because("The record is there after a restart, as in stage 20.")?;
    let data = json!({ "id": id, "data": { "number": 2 } });
    let next = expect(&server, &mut events, "changed", &data, why)?;
    if next <= last {
        let problem =
            format!("the id of the event is {next}, and before the restart it was {last}");
        return Err(explained(&server, events.failure(problem), why));
    }
    Ok(())
}

#[test]
fn a_silent_answer_has_comments() -> Check {
    let server = Server::start_with_args("stage21", &["--heartbeat", "1"])?;
    let why = "Your server was started with --heartbeat 1. When there is no event for a second, send a comment: a line \
               that begins with a colon, and an empty line. It keeps the connection open through proxies, and your \
               server finds out whether the watcher is still there.";
    let mut events = server.watch(None)?;
    for _ in 0..2 {
        events.comment().map_err(|failure| explained(&server, failure, why))?;
    }
    let id = add(&server, "{}")?;
    expect(&server, &mut events, "created", &json!({ "id": id, "data": {} }), why).map(drop)
}

#[test]
fn a_slow_watcher_delays_nobody() -> Check {
    let server = Server::start("stage21")?;
    let id = add(&server, "{}")?;
    let mut slow = server.watch(None)?;
    let mut quick = server.watch(None)?;
    let filling = "x".repeat(10_000);
    let why = "Two clients watch, and one of them reads nothing. The changes are answered, and the other watcher hears of \
               them, without any delay.";
    let data =
        |number| json!({ "id": id, "data": { "number": number, "filling": filling.as_str() } });
    const ROUNDS: usize = 18;
    for _ in 0..ROUNDS {
        replace_often(&server, id, 100, &filling)?;
        for number in 0..100 {
            expect(&server, &mut quick, "changed", &data(number), why)?;
        }
    }
    let why = "This watcher has read nothing during 1,800 changes, 18 MB in all. Your server need not keep them for it: \
               it may end the answer. But what it sends has no gap: a watcher that has not heard of a change, and does \
               not know that, shows what is no longer true.";
    for count in 0..ROUNDS * 100 {
        let found = slow.next_event().map_err(|failure| explained(&server, failure, why))?;
        let Some(event) = found.filter(|event| event.name != "reset") else { return Ok(()) };
        let found: Value = serde_json::from_str(&event.data).unwrap_or_default();
        let (found, number) = (&found["data"]["number"], count % 100);
        if *found != number {
            let problem =
                format!("a change is missing: number {number} should come, and {found} has come");
            return Err(explained(&server, Failure::new(problem), why));
        }
    }
    Ok(())
}

#[test]
fn only_so_many_may_watch() -> Check {
    let server = Server::start_with_args("stage21", &["--max-watchers", "2", "--heartbeat", "1"])?;
    let watchers = [server.watch(None)?, server.watch(None)?];
    let why = "Your server was started with --max-watchers 2, and there are two watchers. Answer 503 to a third, and say \
               in Retry-After when to try again.";
    server.ask_to_watch()?.status(503).with("Retry-After").because(why)?;
    add(&server, "{}").map_err(|failure| {
        failure.why("Other requests are answered, however many clients watch.")
    })?;
    drop(watchers);
    let why = "The two watchers have left. Your server notices that at the next event or comment that it sends to them, \
               and then there is room for others.";
    let start = Instant::now();
    loop {
        match server.watch(None) {
            Ok(_) => return Ok(()),
            Err(failure) if start.elapsed() > TIMEOUT => {
                return Err(explained(&server, failure, why));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

#[cfg(unix)]
#[test]
fn lets_its_watchers_go_when_it_is_stopped() -> Check {
    let server = Server::start("stage21")?;
    let mut events = server.watch(None)?;
    let processes = server.ask_to_stop();
    let why = "Your server got the signal SIGTERM while somebody watched. An answer without an end would keep it from \
               stopping: end it properly, with the last chunk, so that the watcher knows that nothing is broken.";
    events.end().map_err(|failure| failure.why(why).read(server.chapter()))?;
    if server.all_ended_within(&processes, TIMEOUT) {
        return Ok(());
    }
    let failure = Failure::new("your server does not end after its last watcher has gone");
    Err(failure.why(why).read(server.chapter()))
}
