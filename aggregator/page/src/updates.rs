//! The live updates of one open page: what changed since the last look, as server-sent events.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde_json::{Map, Value, json};

use crate::moment;
use crate::page::Page;

/// The first lines of a stream: a browser that lost it comes back after this time, in milliseconds.
pub const RECONNECT: &str = "retry: 500\n\n";

/// What one browser has already.
#[derive(Debug, Default)]
pub struct Updates {
    /// Hash of each fragment's HTML, by id.
    sent: HashMap<&'static str, u64>,
}

// === impl Updates ===

impl Updates {
    /// An event with the fragments of `page` that the browser does not have. Never none: an event
    /// without fragments says that all is still the same.
    pub fn event(&mut self, page: &Page) -> String {
        let mut changed = Map::new();
        for fragment in page.fragments() {
            let html = fragment.html.0.as_str();
            let mut hasher = DefaultHasher::new();
            html.hash(&mut hasher);
            let hash = hasher.finish();
            if self.sent.insert(fragment.id, hash) != Some(hash) {
                changed.insert(fragment.id.to_owned(), Value::from(html));
            }
        }
        let at = moment::clock(page.now_unix_ms(), page.now_unix_ms());
        // On one line: JSON has no line breaks of its own here.
        format!("data: {}\n\n", json!({ "at": at, "fragments": changed }))
    }

    /// The event that says why there are none.
    pub fn failure(message: &str) -> String {
        format!("data: {}\n\n", json!({ "error": message }))
    }
}
