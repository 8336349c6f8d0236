//! YAML documents with comments.

use serde_json::Value;
use serde_saphyr::SerializerOptions;

use crate::checks::{self, Refused};

/// Columns of a comment, `#` included.
const COMMENT_COLUMNS: usize = 110;
/// Larger than any text: folded JSON and YAML within strings would be hard to read.
const FOLDED_FROM_CHARS: usize = 1_000_000;

pub(crate) struct Output {
    head: Vec<&'static str>,
    documents: Vec<(Vec<&'static str>, Value)>,
}

// === impl Output ===

impl Output {
    /// `head` comments on all documents. Comments are static texts: a user's value could end one.
    pub(crate) fn new(head: &[&'static str]) -> Self {
        Self {
            head: head.to_vec(),
            documents: Vec::new(),
        }
    }

    /// Adds a document and comments on it.
    #[must_use]
    pub(crate) fn with(mut self, about: &[&'static str], document: Value) -> Self {
        self.documents.push((about.to_vec(), document));
        self
    }

    #[must_use]
    pub(crate) fn with_some(self, about: &[&'static str], document: Option<Value>) -> Self {
        match document {
            Some(document) => self.with(about, document),
            None => self,
        }
    }

    pub(crate) fn text(&self) -> Result<String, Refused> {
        let mut text = String::new();
        for sentence in &self.head {
            comment(&mut text, sentence);
        }
        for (about, document) in &self.documents {
            text.push_str("---\n");
            for sentence in about {
                comment(&mut text, sentence);
            }
            text.push_str(&yaml(document)?);
        }
        Ok(text)
    }
}

pub(crate) fn yaml(value: &Value) -> Result<String, Refused> {
    let mut options = SerializerOptions::default();
    options.folded_wrap_chars = FOLDED_FROM_CHARS;
    // Fails only for a number or string that YAML cannot represent; only `plugin-config` can have
    // one, as the other options are checked.
    serde_saphyr::to_string_with_options(value, options)
        .map_err(|error| checks::value("plugin-config", error.to_string()))
}

fn comment(text: &mut String, sentence: &str) {
    let mut columns = 0;
    for word in sentence.split_whitespace() {
        if columns == 0 || columns + word.len() >= COMMENT_COLUMNS {
            if columns > 0 {
                text.push('\n');
            }
            text.push('#');
            columns = 1;
        }
        text.push(' ');
        text.push_str(word);
        columns += 1 + word.len();
    }
    text.push('\n');
}
