//! What of a resource is not in the output, or does something else there.

use std::fmt;

common_names::named! {
    /// In the order of how much it matters.
    pub enum Lack {
        /// Requests that it was for go elsewhere, or fail.
        NotConverted = "not converted",
        /// Some requests go elsewhere, or are treated in another way.
        Different = "different",
        /// Gateway API leaves it to the implementation.
        Unspecified = "unspecified",
        /// Nothing in Gateway API does it; requests go where they went.
        NoCounterpart = "no counterpart",
    }
}

#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Finding {
    pub lack: Lack,
    /// Kind, namespace and name, or a file.
    pub what: String,
    /// From `spec`, with indices; "" for all of it.
    pub path: String,
    pub why: String,
}

// === impl Finding ===

impl Finding {
    pub(crate) fn new(lack: Lack, what: &str, path: &str, why: &str) -> Self {
        Self {
            lack,
            what: what.to_owned(),
            path: path.to_owned(),
            why: why.to_owned(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let space = if self.path.is_empty() { "" } else { " " };
        let Self {
            lack,
            what,
            path,
            why,
        } = self;
        write!(f, "{}: {what}{space}{path}: {why}", lack.as_str())
    }
}

/// `VirtualRouter prod/jazz`; without a namespace `Mesh dj-app`.
pub(crate) fn name(kind: &str, namespace: &str, name: &str) -> String {
    match namespace {
        "" => format!("{kind} {name}"),
        _ => format!("{kind} {namespace}/{name}"),
    }
}
