//! Stage 24 · Many machines: several servers, and one store that is none of them.
//!
//! The store is etcd, or what looks like it: these checks have a small one of their own, whose members can be told to fail.
//! Your server asks it, through JSON over HTTP/1.1, so now it is a client as well.

use std::fs;
use std::io;
use std::time::{Duration, Instant};

use harness::{Check, Etcd, Exchange, Failure, Mood, Server, TIMEOUT, Value, json};

fn cannot(error: io::Error) -> Failure {
    Failure::new(format!("this check cannot prepare what it needs: {error}"))
}

/// Starts a cluster, and a server with it.
fn start(members: usize, more: &[&str]) -> Result<(Etcd, Server), Failure> {
    let etcd = Etcd::start(members).map_err(cannot)?;
    let urls = etcd.urls();
    let server = Server::start_with_args("stage24", &[&["--store", &urls], more].concat())?;
    Ok((etcd, server))
}

fn send(server: &Server, method: &str, path: &str, body: &str) -> Exchange {
    let request = server.request(method, path).header("Content-Type: application/json");
    request.body(body).send()
}

/// Adds a record, and returns its path.
fn add(server: &Server, body: &str, why: &str) -> Result<String, Failure> {
    let answer =
        send(server, "POST", "/data", body).status(201).with("Location").answer_because(why)?;
    Ok(answer.header("Location").unwrap_or_default().to_owned())
}

fn failed(server: &Server, problem: impl Into<String>, why: &str) -> Failure {
    server.finish(Failure::new(problem).why(why).read(server.chapter()))
}

/// All records, as one machine shows them.
fn all(server: &Server, why: &str) -> Result<Vec<Value>, Failure> {
    let answer = server.get("/data").status(200).answer_because(why)?;
    Ok(serde_json::from_slice(&answer.body).unwrap_or_default())
}

#[test]
fn machines_have_the_same_records() -> Check {
    let (etcd, first) = start(3, &["--max-json", "4000000"])?;
    let second = first.start_another(&["--store", &etcd.urls()])?;
    let why = "Two servers were started with the same --store, which is a cluster. What was added on one machine is on the \
               other one, with the same id, the same data and the same ETag, at once.";
    let path = add(&first, r#"{"title":"milk"}"#, why)?;
    let id: u64 = path.rsplit('/').next().and_then(|id| id.parse().ok()).unwrap_or_default();
    let record = json!({ "id": id, "data": { "title": "milk" } });
    let tag = |server: &Server| -> Result<String, Failure> {
        let shown = server.get(&path).status(200).json(&record).with("ETag");
        Ok(shown.answer_because(why)?.header("ETag").unwrap_or_default().to_owned())
    };
    let tags = (tag(&first)?, tag(&second)?);
    if tags.0 != tags.1 {
        let problem = format!("the ETag is {} on one machine and {} on the other", tags.0, tags.1);
        return Err(failed(&second, problem, why));
    }
    let other = add(&second, "{}", why)?;
    if other == path {
        let why =
            "Two records have the same id: each machine counts by itself. Let the store count.";
        return Err(failed(&second, "an id has been given twice", why));
    }
    send(&second, "PUT", &path, r#"{"title":"bread"}"#).status(200).because(why)?;
    let record = json!({ "id": id, "data": { "title": "bread" } });
    first.get(&path).status(200).json(&record).because(why)?;
    send(&first, "DELETE", &other, "").status(204).because(why)?;
    second.get(&other).status(404).because(why)?;
    let found = all(&second, why)?;
    if found != [record] {
        let problem = format!("/data lists {} records, and not the one that is left", found.len());
        return Err(failed(&second, problem, why));
    }
    let large = json!({ "text": "x".repeat(1_700_000) }).to_string();
    let why = "etcd takes requests of 1.5 MiB and no more. A record that is larger is refused with 413: the client can do \
               something about that.";
    send(&first, "POST", "/data", &large).status(413).because(why)
}

#[test]
fn one_of_two_wins() -> Check {
    let (etcd, first) = start(3, &[])?;
    let second = first.start_another(&["--store", &etcd.urls()])?;
    let why = "Two clients have seen the same version of a record, and change it on two machines at the same moment, with \
               If-Match. One of them is answered 200, the other one 412: let the store compare the version and make the \
               change in one step, a transaction.";
    let path = add(&first, r#"{"round":0}"#, why)?;
    for round in 1..=20 {
        let answer = first.get(&path).status(200).with("ETag").answer_because(why)?;
        let tag = answer.header("ETag").unwrap_or_default().to_owned();
        let swap = |server: &Server| {
            let request = server.request("PUT", &path).header("Content-Type: application/json");
            let request = request.header(format!("If-Match: {tag}"));
            request.body(json!({ "round": round }).to_string()).send()
        };
        let both = std::thread::scope(|scope| {
            let other = scope.spawn(|| swap(&second));
            (swap(&first), other.join().expect("no panic"))
        });
        let won = [&both.0, &both.1].iter().filter(|exchange| exchange.has_status(200)).count();
        let lost = [&both.0, &both.1].iter().filter(|exchange| exchange.has_status(412)).count();
        if (won, lost) != (1, 1) {
            let problem =
                format!("{won} of the two changes were made, and {lost} refused with 412");
            return Err(failed(&second, problem, why));
        }
    }
    Ok(())
}

#[test]
fn tells_of_changes_on_other_machines() -> Check {
    let etcd = Etcd::start(2).map_err(cannot)?;
    let url = |number: usize| format!("http://{}", etcd.member(number).address());
    let first = Server::start_with_args("stage24", &["--store", &url(0)])?;
    let second = first.start_another(&["--store", &url(1)])?;
    let why = "A client watches one machine, and a record is changed on another one. The watcher hears of it: your server \
               watches the store. The member that it knows goes for a moment, and the watcher hears afterwards of what \
               has changed meanwhile.";
    let mut events = second.watch(None)?;
    let path = add(&first, r#"{"n":1}"#, why)?;
    send(&first, "PUT", &path, r#"{"n":2}"#).status(200).because(why)?;
    send(&first, "DELETE", &path, "").status(204).because(why)?;
    etcd.member(1).becomes(Mood::Gone);
    add(&first, r#"{"n":3}"#, "The member that this machine knows is well.")?;
    etcd.member(1).becomes(Mood::Well);
    let mut last = 0;
    for (name, text) in [
        ("created", "\"n\":1"),
        ("changed", "\"n\":2"),
        ("deleted", "\"id\":"),
        ("created", "\"n\":3"),
    ] {
        let event = events.event().map_err(|failure| second.finish(failure.why(why)))?;
        let id: u64 = event.id.parse().unwrap_or_default();
        if event.name != name || !event.data.contains(text) || id <= last {
            let found = format!("{} with the id \"{}\": {}", event.name, event.id, event.data);
            let problem = format!("the event is {found}; it should be {name}, with {text}");
            return Err(second.finish(events.failure(problem).why(why).read(second.chapter())));
        }
        last = id;
    }
    Ok(())
}

#[test]
fn says_when_the_store_cannot_be_reached() -> Check {
    let (etcd, server) = start(2, &[])?;
    let path = add(&server, "{}", "All is well.")?;
    for (mood, what) in [(Mood::Gone, "has gone"), (Mood::Silent, "does not answer")] {
        etcd.all(mood);
        let why = format!(
            "The store {what}. Answer 503 to whoever wants a record, or a change, and say in Retry-After when to try \
             again. Do not show what was true a while ago, and do not wait for longer than some seconds."
        );
        server.get(&path).status(503).with("Retry-After").because(&why)?;
        send(&server, "POST", "/data", "{}").status(503).with("Retry-After").because(&why)?;
        let why = "What needs no store is answered as before.";
        server.get("/echo/abc").status(200).body("abc").because(why)?;
        etcd.all(Mood::Well);
        let why = "The store is back.";
        let start = Instant::now();
        while !server.get(&path).has_status(200) && start.elapsed() < TIMEOUT {
            std::thread::sleep(Duration::from_millis(50));
        }
        server.get(&path).status(200).because(why)?;
    }
    Ok(())
}

#[test]
fn goes_to_another_member() -> Check {
    let (etcd, server) = start(3, &[])?;
    let mut path = add(&server, "{}", "All is well.")?;
    for (mood, what) in [
        (Mood::Gone, "ends all connections"),
        (Mood::WithoutLeader, "answers 503, because it knows of no leader"),
        (Mood::InPieces, "answers in chunks of one byte"),
    ] {
        let why = format!(
            "A member of the cluster {what}. Nobody notices: your server asks another one."
        );
        for number in 0..3 {
            etcd.member(number).becomes(mood);
            server.get(&path).status(200).because(&why)?;
            path = add(&server, "{}", &why)?;
            etcd.member(number).becomes(Mood::Well);
        }
    }
    let why = "All of these were different records.";
    match all(&server, why)?.len() {
        10 => Ok(()),
        count => Err(failed(&server, format!("there are {count} records, not 10"), why)),
    }
}

#[test]
fn a_change_happens_once() -> Check {
    for (mood, what) in [(Mood::CutsAfter, "after"), (Mood::CutsBefore, "before")] {
        let (etcd, server) = start(2, &[])?;
        let why = format!(
            "A member ends the connection {what} it has added the record, and sends no answer. Nobody can know which of the \
             two it was. Try again only in such a way that it cannot happen twice, or answer 503."
        );
        // One of them does that, then the other one, and then both.
        for (round, members) in [&[0][..], &[1], &[0, 1]].into_iter().enumerate() {
            members.iter().for_each(|number| etcd.member(*number).becomes(mood));
            let added = send(&server, "POST", "/data", &json!({ "round": round }).to_string());
            let is_added = added.has_status(201);
            if !is_added {
                added.status(503).because(&why)?;
            }
            etcd.all(Mood::Well);
            let found = all(&server, &why)?;
            let count = found.iter().filter(|record| record["data"]["round"] == round).count();
            if count > 1 || is_added && count == 0 {
                let problem = format!("there are {count} such records now");
                return Err(failed(&server, problem, &why));
            }
        }
    }
    Ok(())
}

#[cfg(unix)]
#[test]
fn leaves_before_it_stops() -> Check {
    let server = Server::start_with_args("stage24", &["--drain", "2"])?;
    let why =
        "A balancer asks for /readyz now and then, and sends requests to those who answer 200.";
    server.get("/readyz").status(200).because(why)?;
    let processes = server.ask_to_stop();
    let start = Instant::now();
    let why = "Your server was started with --drain 2, and asked to stop. The balancer does not know that yet. So /readyz is \
               503 from now on, and all else is answered for two seconds more, with Connection: close.";
    while server.get("/readyz").has_status(200) && start.elapsed() < Duration::from_secs(1) {
        std::thread::sleep(Duration::from_millis(10)); // the signal is on its way
    }
    server.get("/readyz").status(503).because(why)?;
    server.get("/echo/abc").status(200).body("abc").header("Connection", "close").because(why)?;
    server.get("/healthz").status(200).because("It is alive, and that is another question.")?;
    let why = "After these two seconds, it stops as before.";
    match server.all_ended_within(&processes, TIMEOUT) {
        true if start.elapsed() < Duration::from_millis(1_500) => {
            Err(failed(&server, "your server has ended too early", why))
        }
        true => Ok(()),
        false => Err(failed(&server, "your server does not end", why)),
    }
}

#[test]
fn a_file_is_the_same_everywhere() -> Check {
    let args = ["--site-date", "1700000000"];
    let first = Server::start_with_site("stage24", &args, &[("a.txt", b"the same")])?;
    let folder = first.outside().map(|outside| outside.join("copy")).unwrap_or_default();
    fs::create_dir(&folder)
        .and_then(|()| fs::write(folder.join("a.txt"), "the same"))
        .and_then(|()| fs::File::options().write(true).open(folder.join("a.txt")))
        .and_then(|file| {
            file.set_modified(std::time::SystemTime::now() - Duration::from_secs(5_000))
        })
        .map_err(cannot)?;
    let second =
        first.start_another(&[&args[..], &["--site", &folder.to_string_lossy()]].concat())?;
    let why = "Two servers were started with --site-date 1700000000, each with its own copy of the same files, which were \
               copied at different times. A client that has a file from one machine asks another one whether it has \
               changed: the ETag and Last-Modified are the same on both.";
    let date = "Tue, 14 Nov 2023 22:13:20 GMT";
    let exchange = first.get("/a.txt").status(200).header("Last-Modified", date).with("ETag");
    let answer = exchange.answer_because(why)?;
    let tag = answer.header("ETag").unwrap_or_default();
    second
        .get("/a.txt")
        .status(200)
        .header("ETag", tag)
        .header("Last-Modified", date)
        .because(why)?;
    let request = second.request("GET", "/a.txt").header(format!("If-None-Match: {tag}"));
    request.send().status(304).because(why)
}
