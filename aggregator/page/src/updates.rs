//! The live updates of one open page: what changed since the last look, as server-sent events.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher as _};

use serde_json::{Map, Value, json};

use crate::cells::split;
use crate::moment;
use crate::page::Page;

/// The first lines of a stream: a browser that lost it comes back after this time, in milliseconds.
pub const RECONNECT: &str = "retry: 500\n\n";

/// What one browser has already.
#[derive(Debug, Default)]
pub struct Updates {
    sent: HashMap<&'static str, Sent>,
}

/// Hashes of a fragment's HTML.
#[derive(Debug)]
struct Sent {
    /// Of all that is outside of table cells.
    frame: u64,
    /// Of what is inside each of them.
    cells: Vec<u64>,
}

// === impl Updates ===

impl Updates {
    /// An event with what of `page` the browser does not have: the cells of a fragment that is the
    /// same around them, else the fragment. Never none: an event without either says that all is
    /// still the same.
    pub fn event(&mut self, page: &Page) -> String {
        let (mut fragments, mut cells) = (Map::new(), Map::new());
        for fragment in page.fragments() {
            let html = fragment.html.0.as_str();
            let (frame, inside) = split(html);
            let now = Sent {
                frame: hash(&frame),
                cells: inside.iter().map(hash).collect(),
            };
            let before = self.sent.get(fragment.id);
            if let Some(before) = before.filter(|before| before.has_frame_of(&now)) {
                let pairs = before.cells.iter().zip(&now.cells);
                let changed = pairs.zip(&inside).enumerate();
                let changed = changed.filter(|(_, ((before, now), _))| before != now);
                let changed: Vec<_> = changed
                    .map(|(index, (_, html))| json!([index, html]))
                    .collect();
                if !changed.is_empty() {
                    cells.insert(fragment.id.to_owned(), Value::from(changed));
                }
            } else {
                fragments.insert(fragment.id.to_owned(), Value::from(html));
            }
            self.sent.insert(fragment.id, now);
        }
        let at = moment::clock(page.now_unix_ms(), page.now_unix_ms());
        // On one line: JSON has no line breaks of its own here.
        format!(
            "data: {}\n\n",
            json!({ "at": at, "fragments": fragments, "cells": cells })
        )
    }

    /// The event that says why there are none.
    pub fn failure(message: &str) -> String {
        format!("data: {}\n\n", json!({ "error": message }))
    }
}

// === impl Sent ===

impl Sent {
    /// True if the two differ in what is inside of cells only.
    fn has_frame_of(&self, other: &Self) -> bool {
        self.frame == other.frame && self.cells.len() == other.cells.len()
    }
}

fn hash(html: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    html.hash(&mut hasher);
    hasher.finish()
}
