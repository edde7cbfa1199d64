//! etcd's requests and answers, as JSON: keys and values are in base64, and numbers are texts.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// Below this prefix are the records, each with its id in twenty digits, so that they are in their order.
const RECORDS: &str = "records/";

/// The first key after all records: `0` comes after `/`.
const END_OF_RECORDS: &str = "records0";

/// Where the largest id is that has been used.
pub(crate) const LAST_ID: &str = "last-id";

/// Returns the key of a record.
pub(crate) fn key(id: u64) -> String {
    format!("{RECORDS}{id:020}")
}

fn id_of(key: &str) -> Option<u64> {
    key.strip_prefix(RECORDS)?.parse().ok()
}

/// What etcd has under a key.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    /// The id of the record; 0 if it is none.
    pub(crate) id: u64,
    /// The number of the change that made it, and of the one that made it what it is.
    pub(crate) created: u64,
    pub(crate) revision: u64,
    pub(crate) value: String,
}

/// Which change a transaction is for: that of a key whose last change has this number; 0 if there must be no such key.
pub(crate) struct If<'k> {
    pub(crate) key: &'k str,
    pub(crate) revision: u64,
}

/// What a transaction does.
pub(crate) enum Then<'t> {
    Put(&'t str, &'t str),
    Delete(&'t str),
}

fn encoded(text: &str) -> String {
    STANDARD.encode(text)
}

fn decoded(value: &Value) -> Option<String> {
    String::from_utf8(STANDARD.decode(value.as_str()?).ok()?).ok()
}

/// Asks for one key.
pub(crate) fn get(key: &str) -> Vec<u8> {
    json!({ "key": encoded(key) }).to_string().into_bytes()
}

/// Asks for the records after this one, in their order, as they were after the change with this number; 0 for now.
pub(crate) fn after(id: u64, limit: usize, revision: u64) -> Vec<u8> {
    let (first, end) = (encoded(&key(id.saturating_add(1))), encoded(END_OF_RECORDS));
    let (limit, revision) = (limit.to_string(), revision.to_string());
    let request = json!({ "key": first, "range_end": end, "limit": limit, "revision": revision });
    request.to_string().into_bytes()
}

/// Does all of this if the condition holds, and otherwise shows the key of the condition.
pub(crate) fn transaction(condition: &If, changes: &[Then]) -> Vec<u8> {
    let (key, revision) = (encoded(condition.key), condition.revision.to_string());
    let success: Vec<_> = changes.iter().map(change).collect();
    let compare =
        json!({ "key": key, "target": "MOD", "result": "EQUAL", "mod_revision": revision });
    let failure = json!({ "request_range": { "key": key } });
    json!({ "compare": [compare], "success": success, "failure": [failure] })
        .to_string()
        .into_bytes()
}

fn change(change: &Then) -> Value {
    match change {
        Then::Put(key, value) => {
            json!({ "request_put": { "key": encoded(key), "value": encoded(value) } })
        }
        Then::Delete(key) => json!({ "request_delete_range": { "key": encoded(key) } }),
    }
}

/// Asks to be told of all changes of records from this number on.
pub(crate) fn watch(revision: u64) -> Vec<u8> {
    let (first, end) = (encoded(RECORDS), encoded(END_OF_RECORDS));
    let start = revision.to_string();
    // Otherwise a thousand changes that were missed come as one line.
    let create =
        json!({ "key": first, "range_end": end, "start_revision": start, "fragment": true });
    json!({ "create_request": create }).to_string().into_bytes()
}

/// A number, which is a text in this JSON; 0 if it is not there.
fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Null => Some(0),
        Value::String(digits) => digits.parse().ok(),
        other => other.as_u64(),
    }
}

fn entry(value: &Value) -> Option<Entry> {
    let key = decoded(&value["key"])?;
    Some(Entry {
        id: id_of(&key).unwrap_or(0),
        created: number(&value["create_revision"])?,
        revision: number(&value["mod_revision"])?,
        value: if value["value"].is_null() { String::new() } else { decoded(&value["value"])? },
    })
}

/// What has been found, in the order of its keys.
pub(crate) struct Found {
    /// The number of the last change of all.
    pub(crate) revision: u64,
    pub(crate) entries: Vec<Entry>,
    pub(crate) has_more: bool,
}

/// Reads the answer to a question; `None` if it is none.
pub(crate) fn found(body: &[u8]) -> Option<Found> {
    found_in(&serde_json::from_slice(body).ok()?)
}

fn found_in(value: &Value) -> Option<Found> {
    let revision = number(&value["header"]["revision"])?;
    let none = Vec::new();
    let kvs = value["kvs"].as_array().unwrap_or(&none);
    let entries = kvs.iter().map(entry).collect::<Option<_>>()?;
    Some(Found { revision, entries, has_more: value["more"].as_bool().unwrap_or(false) })
}

/// What has become of a transaction.
pub(crate) enum Outcome {
    /// It has been done, by the change of this number.
    Done(u64),
    /// Its condition did not hold. This is what the key of the condition has; `None` if it has nothing.
    Not(Option<Entry>),
}

/// Reads the answer to a transaction; `None` if it is none.
pub(crate) fn outcome(body: &[u8]) -> Option<Outcome> {
    let value: Value = serde_json::from_slice(body).ok()?;
    if value["succeeded"].as_bool().unwrap_or(false) {
        return number(&value["header"]["revision"])
            .filter(|revision| *revision > 0)
            .map(Outcome::Done);
    }
    let mut range = value["responses"][0]["response_range"].clone();
    range["header"] = value["header"].clone();
    Some(Outcome::Not(found_in(&range)?.entries.pop()))
}

/// What a watch tells.
pub(crate) enum Told {
    /// Changes, in their order. A record that has gone has no value.
    Changes(Vec<Change>),
    /// The changes that were asked for are not known any more. All before this number are forgotten.
    Forgotten,
}

/// What has become of a record.
pub(crate) struct Change {
    pub(crate) entry: Entry,
    pub(crate) is_gone: bool,
}

/// Reads a line of a watch; `None` if it is none.
pub(crate) fn told(line: &[u8]) -> Option<Told> {
    let value: Value = serde_json::from_slice(line).ok()?;
    let result = value.get("result")?;
    if result["canceled"].as_bool().unwrap_or(false) {
        return Some(Told::Forgotten);
    }
    let none = Vec::new();
    let events = result["events"].as_array().unwrap_or(&none).iter();
    let change = |event: &Value| {
        let entry = entry(&event["kv"])?;
        Some(Change { entry, is_gone: event["type"] == "DELETE" })
    };
    events.map(change).collect::<Option<_>>().map(Told::Changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_in_their_order() {
        let keys: Vec<_> = [1, 2, 10, 99, u64::MAX].map(key).into();
        assert!(keys.is_sorted());
        assert!(keys.iter().all(|key| key.as_str() < END_OF_RECORDS && id_of(key).is_some()));
    }

    #[test]
    fn numbers_are_texts_and_zeros_are_left_out() {
        let kv = r#"{"key":"cmVjb3Jkcy8wNw==","create_revision":"3","mod_revision":"9007199254740993","value":"e30="}"#;
        let body = format!(r#"{{"header":{{"revision":"12"}},"kvs":[{kv}],"count":"1"}}"#);
        let found = found(body.as_bytes()).expect("an answer");
        let entry =
            Entry { id: 7, created: 3, revision: 9_007_199_254_740_993, value: "{}".into() };
        assert_eq!((found.revision, found.entries, found.has_more), (12, vec![entry], false));
        assert!(super::found(br#"{"header":{"revision":"x"}}"#).is_none());
        assert!(super::found(b"<html>").is_none());
        assert!(matches!(
            outcome(br#"{"header":{"revision":"4"},"succeeded":true}"#),
            Some(Outcome::Done(4))
        ));
        let not = br#"{"header":{"revision":"4"},"responses":[{"response_range":{"header":{}}}]}"#;
        assert!(matches!(outcome(not), Some(Outcome::Not(None))));
    }

    #[test]
    fn a_watch_tells_of_changes() {
        let line = br#"{"result":{"header":{"revision":"5"},"events":[
            {"type":"DELETE","kv":{"key":"cmVjb3Jkcy8wNw==","mod_revision":"5"}}]}}"#;
        let Some(Told::Changes(changes)) = told(line) else { panic!("it tells of changes") };
        assert!(changes[0].is_gone && changes[0].entry.id == 7 && changes[0].entry.revision == 5);
        let created = br#"{"result":{"header":{"revision":"5"},"created":true}}"#;
        assert!(matches!(told(created), Some(Told::Changes(changes)) if changes.is_empty()));
        let gone = br#"{"result":{"header":{},"canceled":true,"compact_revision":"9"}}"#;
        assert!(matches!(told(gone), Some(Told::Forgotten)));
        assert!(told(br#"{"error":{"code":14}}"#).is_none());
    }
}
