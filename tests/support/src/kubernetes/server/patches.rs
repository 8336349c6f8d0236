//! Patches: the two forms that are sent here.

use serde_json::{Value, json};

/// Changes `object` as the patch of this content type says; otherwise says why not.
pub(super) fn apply(
    object: &mut Value,
    content_type: Option<&str>,
    patch: &Value,
) -> Result<(), String> {
    match content_type {
        Some("application/merge-patch+json") => {
            merge(object, patch);
            Ok(())
        }
        Some("application/json-patch+json") => {
            let patch: json_patch::Patch =
                serde_json::from_value(patch.clone()).map_err(|error| error.to_string())?;
            json_patch::patch(object, &patch).map_err(|error| error.to_string())
        }
        other => Err(format!("{other:?} is not a patch that this server knows")),
    }
}

/// RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
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
