//! Stage 20 · A store: what was answered is there, whatever happens.
//!
//! With `--store FILE`, the records of stage 19 are in a file. The server can be killed at any moment: when it is started
//! again, everything is there that it has answered with 200, 201 or 204.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use harness::{Check, Exchange, Failure, Server, TIMEOUT, Value, json};
use tempfile::TempDir;

fn cannot(error: io::Error) -> Failure {
    Failure::new(format!("this check cannot prepare its files: {error}"))
}

/// A file for records, in a directory that is removed at the end.
struct Place {
    _directory: TempDir,
    file: PathBuf,
}

impl Place {
    fn new() -> Result<Place, Failure> {
        let directory = TempDir::new().map_err(cannot)?;
        let file = directory.path().join("records");
        Ok(Place { _directory: directory, file })
    }

    fn start(&self) -> Result<Server, Failure> {
        Server::start_with_args("stage20", &["--store", &self.file.display().to_string()])
    }
}

/// Sends a body of JSON.
fn send(server: &Server, method: &str, path: &str, body: &str) -> Exchange {
    server.request(method, path).header("Content-Type: application/json").body(body).send()
}

/// Adds a record, and returns its path.
fn add(server: &Server, data: &str) -> Result<String, Failure> {
    let answer = send(server, "POST", "/data", data).status(201).with("Location");
    let answer = answer.answer_because("POST /data adds a record, as in stage 19.")?;
    let location = answer.header("Location").unwrap_or_default();
    Ok(location.find("/data").map_or("", |at| &location[at..]).to_owned())
}

/// All records of a server, by their id.
fn all(server: &Server, why: &str) -> Result<BTreeMap<u64, Value>, Failure> {
    let mut records = BTreeMap::new();
    let mut after = 0;
    loop {
        let answer = server.get(&format!("/data?limit=1000&after={after}")).status(200);
        let answer = answer.answer_because(why)?;
        let page: Vec<Value> = serde_json::from_slice(&answer.body).unwrap_or_default();
        if page.is_empty() {
            return Ok(records);
        }
        for record in page {
            after = record["id"].as_u64().unwrap_or_default();
            records.insert(after, record["data"].clone());
        }
    }
}

fn fails(server: &Server, problem: String, why: &str) -> Failure {
    server.finish(Failure::new(problem).why(why).read(server.chapter()))
}

#[test]
fn records_survive_a_restart() -> Check {
    let place = Place::new()?;
    let server = place.start()?;
    let text = r#"{"title":"milk","n":9007199254740993,"t":"\u0000é\n"}"#;
    let (first, second) = (add(&server, text)?, add(&server, "{}")?);
    let gone = add(&server, r#"{"this":"goes"}"#)?;
    send(&server, "PATCH", &second, r#"{"done":true}"#).status(200).because("It is changed.")?;
    send(&server, "DELETE", &gone, "").successful().because("It is removed.")?;
    let tag = server.get(&second).status(200).with("ETag").answer_because("It has an ETag.")?;
    let tag = tag.header("ETag").unwrap_or_default().to_owned();
    drop(server); // kills it

    let why = "The server was killed, and started again with the same --store. Everything that it has answered is as it \
               was.";
    let server = place.start()?;
    let data: Value = serde_json::from_str(text).expect("this check sends JSON");
    let records = all(&server, why)?;
    let expected = [data, json!({ "done": true })];
    if !records.values().eq(expected.iter()) {
        let found: Vec<_> = records.values().map(ToString::to_string).collect();
        let problem = format!(
            "the records are {}, not {} and {}",
            found.join(", "),
            expected[0],
            expected[1]
        );
        return Err(fails(&server, problem, why));
    }
    server.get(&first).status(200).because(why)?;
    server.get(&gone).status(404).because("What was removed is gone, also after a restart.")?;
    let answer = server.request("GET", &second).header(format!("If-None-Match: {tag}")).send();
    answer.status(304).because("The record has not changed, so its ETag is the same.")?;
    let next = add(&server, "{}")?;
    if next == gone {
        let problem = format!("the new record is {next}, which was another one");
        return Err(fails(
            &server,
            problem,
            "An id is never used again, also not after a restart.",
        ));
    }
    let changed = send(&server, "PATCH", &second, r#"{"done":false}"#).status(200).with("ETag");
    let changed =
        changed.expect("a new ETag", |answer| match answer.header("ETag") == Some(&tag) {
            true => Err(Failure::new(format!("ETag is {tag}, as before the change"))),
            false => Ok(()),
        });
    changed.because(
        "The record has changed. If the count began anew with each start, a version could get the ETag of an older \
         one.",
    )
}

/// Adds and changes records until the server is gone. Returns what was answered: the data by id, `None` for what was
/// asked and not answered.
fn write_until_killed(
    server: &Server,
    writer: usize,
    known: &Mutex<BTreeMap<u64, Vec<Value>>>,
    answers: &AtomicU64,
) {
    let mut last: Option<String> = None;
    for number in 0.. {
        let data =
            json!({ "writer": writer, "number": number, "filling": "x".repeat(number % 7 * 300) });
        let (method, path) = match &last {
            Some(path) if number % 3 == 2 => ("PUT", path.clone()),
            _ => ("POST", "/data".to_owned()),
        };
        let id_of = |path: &str| path.rsplit('/').next().and_then(|id| id.parse().ok());
        if method == "PUT" {
            // Without an answer, the record may have either value.
            let id = id_of(&path).unwrap_or_default();
            known.lock().expect("no writer panics").entry(id).or_default().push(data.clone());
        }
        let answer = match send(server, method, &path, &data.to_string()).answer() {
            Ok(answer) if matches!(answer.status, 200 | 201) => answer,
            _ => return,
        };
        let location = answer.header("Location").map(str::to_owned);
        let path = location.unwrap_or(path);
        let id = id_of(&path).unwrap_or_default();
        known.lock().expect("no writer panics").insert(id, vec![data]);
        answers.fetch_add(1, Ordering::Relaxed);
        last = Some(format!("/data/{id}"));
    }
}

#[test]
fn a_hundred_kills_lose_nothing_that_was_answered() -> Check {
    let place = Place::new()?;
    let why = "The server is killed while four clients write, and started again, a hundred times. What it has answered \
               with 201 or 200 must be there: written, and handed to the system, before the answer is sent. What it has \
               not answered may be there or not.";
    let known: Mutex<BTreeMap<u64, Vec<Value>>> = Mutex::default();
    for round in 0..100_u64 {
        let server = place.start()?;
        let found = all(&server, why)?;
        let mut answered = known.lock().expect("no writer panics");
        for (id, values) in answered.iter_mut() {
            match found.get(id) {
                Some(data) if values.contains(data) => *values = vec![data.clone()],
                found => {
                    let what = if found.is_some() { "a change of record" } else { "record" };
                    let problem =
                        format!("{what} {id} was answered, and is lost, after {round} kills");
                    return Err(fails(&server, problem, why));
                }
            }
        }
        drop(answered);
        let answers = AtomicU64::new(0);
        thread::scope(|scope| {
            let writers: Vec<_> = (0..4)
                .map(|writer| {
                    let (server, known, answers) = (&server, &known, &answers);
                    scope.spawn(move || write_until_killed(server, writer, known, answers))
                })
                .collect();
            // At another moment each time, and soon after an answer.
            let start = Instant::now();
            while answers.load(Ordering::Relaxed) < 1 + round % 5 && start.elapsed() < TIMEOUT {
                thread::yield_now();
            }
            thread::sleep(Duration::from_micros(round % 5 * 200));
            server.kill();
            writers.into_iter().for_each(|writer| drop(writer.join()));
        });
    }
    Ok(())
}

/// Waits until a server has refused to start, or can be reached. Returns whether it has refused: with a sentence, an exit
/// code that is not 0, and this file as it was.
fn has_refused(server: &Server, file: &Path, content: &[u8], why: &str) -> Result<bool, Failure> {
    let start = Instant::now();
    while start.elapsed() < TIMEOUT && !server.accepts() {
        let Some(status) = server.ended() else {
            thread::sleep(Duration::from_millis(10));
            continue;
        };
        let problem = match () {
            () if status.success() => "your server has ended with the exit code 0",
            () if server.output().trim().is_empty() => "your server has ended without a word",
            () if fs::read(file).map_err(cannot)? != content => {
                "your server has refused the file, and changed it"
            }
            () => return Ok(true),
        };
        return Err(Failure::new(problem).output(&server.output()).why(why).read(server.chapter()));
    }
    Ok(false)
}

/// A store with ten records, and what they are.
fn filled(place: &Place) -> Result<BTreeMap<u64, Value>, Failure> {
    let server = place.start()?;
    for number in 0..10 {
        add(&server, &json!({ "number": number, "filling": "a filling ".repeat(20) }).to_string())?;
    }
    all(&server, "GET /data lists the records.")
}

#[test]
fn an_end_that_is_missing_is_no_disaster() -> Check {
    let place = Place::new()?;
    let expected = filled(&place)?;
    let last = expected.keys().next_back().copied().unwrap_or_default();
    let length = fs::metadata(&place.file).map_err(cannot)?.len();
    let why = "The last bytes of the file are missing, as when a server is killed while it writes. Start without the \
               record that was being written, and with all others; or refuse to start, if your file is of another kind.";
    for cut in [1, 30, 100] {
        let file = fs::File::options().write(true).open(&place.file).map_err(cannot)?;
        file.set_len(length - cut).map_err(cannot)?;
        let content = fs::read(&place.file).map_err(cannot)?;
        let server = place.start()?;
        if has_refused(&server, &place.file, &content, why)? {
            continue;
        }
        let found = all(&server, why)?;
        let lost: Vec<_> =
            expected.keys().filter(|id| **id != last && !found.contains_key(id)).collect();
        if !lost.is_empty() {
            return Err(fails(
                &server,
                format!("{} records are lost, without a word", lost.len()),
                why,
            ));
        }
        let path = add(&server, r#"{"after":"the accident"}"#)?;
        drop(server);
        let server = place.start()?;
        let why = format!(
            "The last {cut} bytes of the file were missing. Your server was started, a record was added, and your server \
             was killed and started again. What was added after the accident is there."
        );
        server.get(&path).status(200).because(&why)?;
        drop(server);
        fs::remove_file(&place.file).map_err(cannot)?;
        filled(&place)?;
    }
    Ok(())
}

#[test]
fn a_damaged_file_is_refused() -> Check {
    let why = "Some bytes in the middle of the file have changed. Nobody can tell what they were. To go on with the rest \
               would be a silent loss: say which file is damaged, and end with an exit code that is not 0.";
    for bytes in [&b"o"[..], &[0; 64], b"\n"] {
        let place = Place::new()?;
        let expected = filled(&place)?;
        let mut content = fs::read(&place.file).map_err(cannot)?;
        // In the text of a record, if texts are in the file as they are.
        let filling = b"a filling a filling";
        let texts = content.windows(filling.len()).enumerate().filter(|(_, text)| text == filling);
        let start = texts.map(|(at, _)| at).nth(90).unwrap_or(content.len() / 2);
        content[start..start + bytes.len()].copy_from_slice(bytes);
        fs::write(&place.file, &content).map_err(cannot)?;
        let server = place.start()?;
        let has_refused = has_refused(&server, &place.file, &content, why)?;
        if !has_refused && all(&server, why)? != expected {
            return Err(fails(
                &server,
                "your server has started, and the records are not what they were".into(),
                why,
            ));
        }
    }
    Ok(())
}

#[test]
fn another_file_is_not_touched() -> Check {
    let why = "--store names a file that is something else. Do not write to it: it may be somebody's diary. Say that, \
               and end with an exit code that is not 0.";
    let contents: [&[u8]; 3] = [
        b"Dear diary,\nthis is no store of records.\n",
        b"a note without a line end",
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
    ];
    for content in contents {
        let place = Place::new()?;
        fs::write(&place.file, content).map_err(cannot)?;
        let server = place.start()?;
        if !has_refused(&server, &place.file, content, why)? {
            let problem = "your server has started with a file that is no store";
            return Err(fails(&server, problem.into(), why));
        }
    }
    Ok(())
}

#[test]
fn the_file_does_not_grow_forever() -> Check {
    let place = Place::new()?;
    let server = place.start()?;
    let path = add(&server, "{}")?;
    let filling = "x".repeat(100_000);
    for number in 0..104 {
        let body = json!({ "number": number, "filling": filling }).to_string();
        send(&server, "PUT", &path, &body).status(200).because("The record is replaced.")?;
    }
    let why = "One record of 100 kB was replaced 104 times, 10 MB in all. What is old need not be kept: write the \
               file anew when most of it is old, and put it in the place of the old one when it is complete.";
    let length: u64 = files_like(&place.file).map_err(cannot)?;
    if length > 5_000_000 {
        return Err(fails(&server, format!("the files of the store have {length} bytes"), why));
    }
    drop(server);
    let server = place.start()?;
    let answer = server.get(&path).status(200).expect("the last version", |answer| {
        let found: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        match found["data"]["number"] == 103 {
            true => Ok(()),
            false => {
                Err(Failure::new(format!("\"number\" is {}, not 103", found["data"]["number"])))
            }
        }
    });
    answer.because("The last version is in the new file.")
}

/// How many bytes the file and its neighbours have.
fn files_like(file: &Path) -> io::Result<u64> {
    let folder = file.parent().unwrap_or(Path::new("."));
    fs::read_dir(folder)?.map(|entry| Ok(entry?.metadata()?.len())).sum()
}
