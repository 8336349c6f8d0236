//! URLs of the page: parsed for the server, written for links. What is written parses to the same.

use std::fmt::Write as _;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use thiserror::Error;

/// Characters that stand for themselves in a query and in a segment of a path.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Bytes of a query: the longest names of Kubernetes, percent-encoded, fit.
const QUERY_BYTES_MAX: usize = 4_096;

/// A page, or its live updates: what is asked below `/apis/view.meshmeter.io/v1`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Address {
    /// `None` for all namespaces.
    pub namespace: Option<String>,
    pub view: View,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub enum View {
    /// Namespaces and workloads.
    Overview(Listing),
    Pods(Listing),
    /// Only for all namespaces.
    System,
    /// Only in a namespace.
    Workload {
        kind: String,
        name: String,
    },
    /// Only in a namespace. `before` cuts the table, in Unix milliseconds.
    Hpa {
        name: String,
        range: Range,
        before: Option<u64>,
    },
    /// Only in a namespace. `at` is in Unix milliseconds.
    Explanation {
        hpa: String,
        at: u64,
    },
}

/// Which part of a list, in which order.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Listing {
    pub sort: Sort,
    /// Where the list goes on; empty for its beginning.
    pub continue_token: String,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Sort {
    pub column: Column,
    pub descending: bool,
}

/// What lists can be sorted by.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Column {
    #[default]
    Name,
    Requests,
    Inflight,
    Errors,
    Skew,
    Age,
}

/// How far back a timeline goes.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Range {
    QuarterHour,
    #[default]
    Hour,
    SixHours,
    Day,
}

#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum AddressError {
    #[error("there is no page {0:?}: see the list of pages in docs/PAGE.md")]
    Unknown(String),
    #[error("the page needs the parameter {0}")]
    Missing(&'static str),
    #[error("the parameter {name} cannot be {value:?}")]
    Invalid { name: &'static str, value: String },
    #[error("the query has more than {QUERY_BYTES_MAX} bytes")]
    TooLong,
}

// === impl Address ===

impl Address {
    /// Parses the segment behind `page/` (empty for `page` itself) and the query. The segment
    /// `events` stands for the live updates of the page that the parameter `view` names.
    pub fn parse(namespace: Option<&str>, page: &str, query: &str) -> Result<Self, AddressError> {
        if query.len() > QUERY_BYTES_MAX {
            return Err(AddressError::TooLong);
        }
        let parameters = Parameters::new(query);
        let page = match page {
            "events" => parameters.required("view")?,
            page => page.to_owned(),
        };
        let unknown = || AddressError::Unknown(page.clone());
        let view = match (page.as_str(), namespace) {
            ("" | "overview", _) => View::Overview(parameters.listing()?),
            ("pods", _) => View::Pods(parameters.listing()?),
            ("system", None) => View::System,
            ("workload", Some(_)) => View::Workload {
                kind: parameters.required("kind")?,
                name: parameters.required("name")?,
            },
            ("hpa", Some(_)) => match parameters.number("at")? {
                Some(at) => View::Explanation {
                    hpa: parameters.required("name")?,
                    at,
                },
                None => View::Hpa {
                    name: parameters.required("name")?,
                    range: parameters.range()?,
                    before: parameters.number("before")?,
                },
            },
            _ => return Err(unknown()),
        };
        Ok(Self {
            namespace: namespace.map(str::to_owned),
            view,
        })
    }

    pub fn new(namespace: Option<&str>, view: View) -> Self {
        Self {
            namespace: namespace.map(str::to_owned),
            view,
        }
    }

    /// A link on this page to another one. Relative, so that it holds below any prefix.
    pub(crate) fn link(&self, to: &Self) -> String {
        format!("{}{}", self.root(), to.path())
    }

    /// A link on this page to a file beside it: whoever may see one namespace gets it there.
    pub(crate) fn asset(&self, name: &str) -> String {
        format!("{}{}/{name}", self.root(), self.base())
    }

    /// A link on this page to its live updates; `None` for a page that does not change.
    pub(crate) fn events(&self) -> Option<String> {
        let (name, parameters) = match &self.view {
            View::Overview(listing) => ("overview", listing.parameters()),
            View::Explanation { .. } => return None,
            view => view.parts(),
        };
        // What is before a time does not change either.
        if matches!(
            self.view,
            View::Hpa {
                before: Some(_),
                ..
            }
        ) {
            return None;
        }
        let base = self.root().to_owned() + &self.base() + "/events?view=" + name;
        Some(with(base, '&', &parameters))
    }

    /// The way from the folder of this page's URL to the version of the API group.
    fn root(&self) -> &'static str {
        let is_page_itself = matches!(self.view, View::Overview(_));
        match (&self.namespace, is_page_itself) {
            (None, true) => "",
            (None, false) => "../",
            (Some(_), true) => "../../",
            (Some(_), false) => "../../../",
        }
    }

    /// `page`, or `namespaces/NS/page`.
    fn base(&self) -> String {
        match &self.namespace {
            None => "page".to_owned(),
            Some(namespace) => format!("namespaces/{}/page", segment(namespace)),
        }
    }

    /// The URL below the version of the API group, without a slash at its beginning.
    pub fn path(&self) -> String {
        let (name, parameters) = self.view.parts();
        let base = match name {
            "" => self.base(),
            name => self.base() + "/" + name,
        };
        with(base, '?', &parameters)
    }
}

/// `base` and `parameters`, the first behind `mark`.
fn with(mut base: String, mark: char, parameters: &[(&str, String)]) -> String {
    let mut mark = mark;
    for (name, value) in parameters {
        // Writing into a string cannot fail.
        let _ = write!(base, "{mark}{name}={}", utf8_percent_encode(value, ENCODED));
        mark = '&';
    }
    base
}

/// A segment of a path. The names `.` and `..` would be steps of it, however they are encoded.
fn segment(name: &str) -> String {
    match name {
        "" | "." | ".." => "-".to_owned(),
        name => utf8_percent_encode(name, ENCODED).to_string(),
    }
}

// === impl View ===

impl View {
    /// The segment behind `page/`, and the parameters.
    fn parts(&self) -> (&'static str, Vec<(&'static str, String)>) {
        match self {
            Self::Overview(listing) => ("", listing.parameters()),
            Self::Pods(listing) => ("pods", listing.parameters()),
            Self::System => ("system", Vec::new()),
            Self::Workload { kind, name } => (
                "workload",
                vec![("kind", kind.clone()), ("name", name.clone())],
            ),
            Self::Hpa {
                name,
                range,
                before,
            } => {
                let mut parameters = vec![("name", name.clone())];
                if *range != Range::default() {
                    parameters.push(("range", range.as_str().to_owned()));
                }
                parameters.extend(before.map(|before| ("before", before.to_string())));
                ("hpa", parameters)
            }
            Self::Explanation { hpa, at } => {
                ("hpa", vec![("name", hpa.clone()), ("at", at.to_string())])
            }
        }
    }
}

// === impl Listing ===

impl Listing {
    fn parameters(&self) -> Vec<(&'static str, String)> {
        let mut parameters = Vec::new();
        if self.sort != Sort::default() {
            parameters.push(("sort", self.sort.to_parameter()));
        }
        if !self.continue_token.is_empty() {
            parameters.push(("continue", self.continue_token.clone()));
        }
        parameters
    }
}

// === impl Sort ===

impl Sort {
    fn to_parameter(self) -> String {
        let sign = if self.descending { "-" } else { "" };
        format!("{sign}{}", self.column.as_str())
    }

    fn from_parameter(text: &str) -> Option<Self> {
        let name = text.strip_prefix('-');
        let column = name.unwrap_or(text);
        Some(Self {
            column: *Column::ALL.iter().find(|known| known.as_str() == column)?,
            descending: name.is_some(),
        })
    }
}

// === impl Column ===

impl Column {
    const ALL: [Self; 6] = [
        Self::Name,
        Self::Requests,
        Self::Inflight,
        Self::Errors,
        Self::Skew,
        Self::Age,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Requests => "requests",
            Self::Inflight => "inflight",
            Self::Errors => "errors",
            Self::Skew => "skew",
            Self::Age => "age",
        }
    }
}

// === impl Range ===

impl Range {
    pub(crate) const ALL: [Self; 4] = [Self::QuarterHour, Self::Hour, Self::SixHours, Self::Day];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::QuarterHour => "15m",
            Self::Hour => "1h",
            Self::SixHours => "6h",
            Self::Day => "24h",
        }
    }

    /// Length in milliseconds.
    pub fn millis(self) -> u64 {
        let minutes = match self {
            Self::QuarterHour => 15,
            Self::Hour => 60,
            Self::SixHours => 6 * 60,
            Self::Day => 24 * 60,
        };
        minutes * 60_000
    }
}

/// The parameters of a query. The last of a name counts; unknown ones are ignored.
struct Parameters(Vec<(String, String)>);

// === impl Parameters ===

impl Parameters {
    fn new(query: &str) -> Self {
        let decoded = |text: &str| {
            let text = text.replace('+', " ");
            percent_decode_str(&text).decode_utf8_lossy().into_owned()
        };
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .map(|(name, value)| (decoded(name), decoded(value)))
                .collect(),
        )
    }

    fn get(&self, name: &str) -> Option<&str> {
        let mut found = self.0.iter().rev().filter(|(known, _)| known == name);
        found
            .next()
            .map(|(_, value)| value.as_str())
            .filter(|value| !value.is_empty())
    }

    fn required(&self, name: &'static str) -> Result<String, AddressError> {
        let found = self.get(name).map(str::to_owned);
        found.ok_or(AddressError::Missing(name))
    }

    fn checked<T>(
        &self,
        name: &'static str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, AddressError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let invalid = || AddressError::Invalid {
            name,
            value: value.to_owned(),
        };
        parse(value).map(Some).ok_or_else(invalid)
    }

    fn number(&self, name: &'static str) -> Result<Option<u64>, AddressError> {
        self.checked(name, |value| value.parse().ok())
    }

    fn range(&self) -> Result<Range, AddressError> {
        let known = |value: &str| Range::ALL.into_iter().find(|range| range.as_str() == value);
        Ok(self.checked("range", known)?.unwrap_or_default())
    }

    fn listing(&self) -> Result<Listing, AddressError> {
        Ok(Listing {
            sort: self
                .checked("sort", Sort::from_parameter)?
                .unwrap_or_default(),
            continue_token: self.get("continue").unwrap_or_default().to_owned(),
        })
    }
}

#[cfg(test)]
mod tests;
