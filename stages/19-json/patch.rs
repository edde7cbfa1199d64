//! A change of a part (RFC 7396).

use serde_json::{Map, Value};

/// The target with the members of a patch in the place of its own, at all levels; `null` removes one.
pub fn merged(mut target: Value, patch: Value) -> Value {
    merge(&mut target, patch);
    target
}

fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(members) = target else { return };
    for (name, value) in patch {
        match value {
            Value::Null => drop(members.remove(&name)),
            value => merge(members.entry(name).or_insert(Value::Null), value),
        }
    }
}
