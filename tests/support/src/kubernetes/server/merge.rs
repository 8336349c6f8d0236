//! Merge patches.

use serde_json::{Value, json};

/// RFC 7386.
pub(super) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, change) in changes {
        match (change, target.as_object_mut()) {
            (Value::Null, Some(fields)) => {
                fields.remove(key);
            }
            _ => merge(&mut target[key], change),
        }
    }
}
