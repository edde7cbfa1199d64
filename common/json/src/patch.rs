//! A change of a part (stage 19's lasting form).

use serde_json::{Map, Value};

/// Returns the target with the members of a patch in the place of its own, at all levels; `null` removes one (RFC 7396,
/// section 2).
///
/// ```
/// use serde_json::json;
///
/// let target = json!({ "title": "milk", "more": { "x": 1, "y": 2 } });
/// let patch = json!({ "title": "bread", "more": { "x": null } });
/// assert_eq!(json::merged(target, patch), json!({ "title": "bread", "more": { "y": 2 } }));
/// ```
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (0..3).prop_map(Value::from)
        ];
        leaf.prop_recursive(4, 24, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map("[a-c]", inner, 0..3)
                    .prop_map(|members| members.into_iter().collect::<Value>()),
            ]
        })
    }

    proptest! {
        #[test]
        fn another_implementation_agrees(target in value(), patch in value()) {
            let mut expected = target.clone();
            json_patch::merge(&mut expected, &patch);
            prop_assert_eq!(merged(target, patch), expected);
        }
    }
}
