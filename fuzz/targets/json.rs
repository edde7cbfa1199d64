//! JSON that is taken comes back as it came: another library sees the same in it, and what is written is taken again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    let Ok(value) = json::parse(data) else { return };
    let theirs: Value = serde_json::from_slice(data).expect("what we take, others take");
    assert_eq!(value, theirs);
    let text = value.to_string();
    assert_eq!(json::parse(text.as_bytes()), Ok(value));
});
