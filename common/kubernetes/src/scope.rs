//! The namespaces in which objects are watched.

use std::collections::HashSet;
use std::fmt;

#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Scope {
    All,
    Namespace(String),
}

// === impl Scope ===

impl Scope {
    /// True if the object is in this scope and not among the `listed`.
    pub fn lacks(&self, listed: &HashSet<(String, String)>, namespace: &str, name: &str) -> bool {
        let inside = match self {
            Self::All => true,
            Self::Namespace(only) => only == namespace,
        };
        inside && !listed.contains(&(namespace.to_owned(), name.to_owned()))
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all namespaces"),
            Self::Namespace(namespace) => write!(f, "namespace {namespace}"),
        }
    }
}
