//! Parameters of the API group `view.meshmeter.io`.

use std::collections::BTreeMap;

use super::{FormError, PARAMETERS_MAX, decode};

/// Items of a page, by default and at most.
pub(crate) const PAGE_MAX: usize = 500;

/// Bytes of a `continue` token: a namespace, a name and a kind.
const TOKEN_BYTES_MAX: usize = 1024;

/// Parameters, checked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct ViewParameters {
    pub(crate) label_selector: String,
    /// 1 to [`PAGE_MAX`].
    pub(crate) limit: usize,
    /// `continue`: where the page begins.
    pub(crate) token: String,
    /// False leaves out histories, which are most of a list.
    pub(crate) history: bool,
    /// Unix milliseconds.
    pub(crate) from: Option<u64>,
    pub(crate) to: Option<u64>,
    pub(crate) at: Option<u64>,
    pub(crate) hpa: Option<String>,
    /// True for what this replica alone knows.
    pub(crate) only_self: bool,
}

impl ViewParameters {
    /// Parses the part of a URL after `?`. Strangers' parameters are ignored, as Kubernetes does.
    pub(crate) fn parse(query: &str) -> Result<Self, FormError> {
        let given = known(query)?;
        let text = |name: &str| given.get(name).cloned().unwrap_or_default();
        let limit = number(&given, "limit")?.filter(|limit| *limit > 0);
        let limit = limit.map_or(PAGE_MAX, |limit| {
            usize::try_from(limit).unwrap_or(PAGE_MAX).min(PAGE_MAX)
        });
        let sort = text("sort");
        if !matches!(sort.as_str(), "" | "name") {
            return Err(FormError::Value {
                name: "sort",
                value: sort,
                rule: "lists are sorted by name, so that pages are stable; sort what you have read",
            });
        }
        let replica = text("replica");
        if !matches!(replica.as_str(), "" | "self") {
            return Err(FormError::Value {
                name: "replica",
                value: replica,
                rule: "self, or nothing for all replicas",
            });
        }
        let token = text("continue");
        if token.len() > TOKEN_BYTES_MAX {
            return Err(FormError::Value {
                name: "continue",
                value: token.chars().take(32).collect(),
                rule: "what metadata.continue of the page before says",
            });
        }
        Ok(Self {
            label_selector: text("labelSelector"),
            limit,
            token,
            history: text("history") != "false",
            from: number(&given, "from")?,
            to: number(&given, "to")?,
            at: number(&given, "at")?,
            hpa: given.get("hpa").filter(|hpa| !hpa.is_empty()).cloned(),
            only_self: replica == "self",
        })
    }
}

const KNOWN: [&str; 10] = [
    "labelSelector",
    "limit",
    "continue",
    "sort",
    "history",
    "from",
    "to",
    "at",
    "hpa",
    "replica",
];

/// The known parameters by name, decoded.
fn known(query: &str) -> Result<BTreeMap<&'static str, String>, FormError> {
    let mut given = BTreeMap::new();
    for (index, pair) in query.split('&').filter(|pair| !pair.is_empty()).enumerate() {
        if index >= PARAMETERS_MAX {
            return Err(FormError::TooMany);
        }
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (key, value) = (decode(key)?, decode(value)?);
        if key == "fieldSelector" && !value.is_empty() {
            return Err(FormError::Unsupported("fieldSelector"));
        }
        if let Some(known) = KNOWN.into_iter().find(|known| *known == key)
            && given.insert(known, value).is_some()
        {
            return Err(FormError::Twice(known));
        }
    }
    Ok(given)
}

fn number(
    given: &BTreeMap<&'static str, String>,
    name: &'static str,
) -> Result<Option<u64>, FormError> {
    let Some(text) = given.get(name).filter(|text| !text.is_empty()) else {
        return Ok(None);
    };
    let number = text.parse().map_err(|_| FormError::Value {
        name,
        value: text.chars().take(32).collect(),
        rule: match name {
            "limit" => "a number of items",
            _ => "milliseconds since 1970",
        },
    })?;
    Ok(Some(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing means everything; a page is bounded, whatever is asked for.
    #[test]
    fn has_defaults() {
        for query in [
            "",
            "limit=0",
            "limit=100000",
            "timeout=32s&sort=name&history=true",
        ] {
            let parameters = ViewParameters::parse(query).unwrap();
            assert_eq!(parameters.limit, PAGE_MAX, "{query}");
            assert!(parameters.history && !parameters.only_self);
        }
        let query = "limit=7&continue=a%2Fb&from=1&to=2&at=3&hpa=jazz&replica=self&history=false&labelSelector=a%3Db";
        let parameters = ViewParameters::parse(query).unwrap();
        let expected = ViewParameters {
            label_selector: "a=b".to_owned(),
            limit: 7,
            token: "a/b".to_owned(),
            history: false,
            from: Some(1),
            to: Some(2),
            at: Some(3),
            hpa: Some("jazz".to_owned()),
            only_self: true,
        };
        assert_eq!(parameters, expected);
    }

    /// What cannot be understood is refused by name, with the rule.
    #[test]
    fn refuses_by_name() {
        for (query, expected) in [
            ("limit=x", "limit: \"x\": a number of items"),
            ("at=12:00", "at: \"12:00\": milliseconds since 1970"),
            ("replica=other", "replica: \"other\": self"),
            ("sort=age", "sort: \"age\": lists are sorted by name"),
            ("hpa=a&hpa=b", "hpa is given more than once"),
            ("fieldSelector=a", "fieldSelector is not supported"),
        ] {
            let error = ViewParameters::parse(query).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{query}: {error}");
        }
    }
}
