//! Requests, and what becomes of them.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use regex::Regex;

thread_local! {
    /// Compiling takes longer than all else.
    static COMPILED: RefCell<HashMap<String, Regex>> = RefCell::default();
}

/// Whether the expression matches a part of the text.
pub(crate) fn is_match(expression: &str, text: &str) -> bool {
    COMPILED.with_borrow_mut(|compiled| {
        let regex = compiled.entry(expression.to_owned());
        let regex = regex.or_insert_with(|| Regex::new(expression).unwrap());
        regex.is_match(text)
    })
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    pub(crate) path: &'static str,
    pub(crate) method: &'static str,
    pub(crate) headers: BTreeMap<&'static str, &'static str>,
    pub(crate) parameters: BTreeMap<&'static str, &'static str>,
}

/// `None` if no route matches.
pub(crate) type Outcome = Option<Answer>;

#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Answer {
    /// Weights by Service and port.
    pub(crate) targets: BTreeMap<(String, u64), u64>,
    /// In milliseconds; 0 for none. Of HTTP.
    pub(crate) timeout: u64,
    pub(crate) per_try: u64,
    pub(crate) retries: u64,
    /// Status codes that are retried.
    pub(crate) codes: BTreeSet<u64>,
}

/// A request of `GET` with headers and query parameters by name.
pub(crate) fn get(
    path: &'static str,
    headers: &[(&'static str, &'static str)],
    parameters: &[(&'static str, &'static str)],
) -> Request {
    Request {
        path,
        method: "GET",
        headers: headers.iter().copied().collect(),
        parameters: parameters.iter().copied().collect(),
    }
}
