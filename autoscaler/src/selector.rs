//! Label selectors, as requests have them and as the controller prints them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Deserialize;

/// A `LabelSelector`.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Selector {
    pub match_labels: BTreeMap<String, String>,
    pub match_expressions: Vec<Requirement>,
}

/// One of its expressions.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Requirement {
    pub key: String,
    pub operator: Operator,
    #[serde(default)]
    pub values: Vec<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
pub enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

// === impl Selector ===

impl Selector {
    /// As the controller sends it: requirements sorted by key, such as `model=m-1,route in (a,b)`.
    pub fn query(&self) -> String {
        let labels = self
            .match_labels
            .iter()
            .map(|(key, value)| (key, format!("{key}={value}")));
        let expressions = self
            .match_expressions
            .iter()
            .map(|one| (&one.key, one.query()));
        let mut parts: Vec<_> = labels.chain(expressions).collect();
        parts.sort_by(|one, other| one.0.cmp(other.0));
        let parts: Vec<_> = parts.into_iter().map(|(_, part)| part).collect();
        parts.join(",")
    }

    /// As Go prints it, and with it the conditions and Events of the controller.
    pub fn as_go(&self) -> String {
        let mut text = "&LabelSelector{MatchLabels:map[string]string{".to_owned();
        for (key, value) in &self.match_labels {
            // Writing to a string cannot fail.
            let _ = write!(text, "{key}: {value},");
        }
        text.push_str("},MatchExpressions:[]LabelSelectorRequirement{");
        for one in &self.match_expressions {
            let values = one.values.join(" ");
            let (key, operator) = (&one.key, one.operator);
            let _ = write!(
                text,
                "LabelSelectorRequirement{{Key:{key},Operator:{operator:?},Values:[{values}],}},"
            );
        }
        text.push_str("},}");
        text
    }
}

// === impl Requirement ===

impl Requirement {
    fn query(&self) -> String {
        let key = &self.key;
        let mut values = self.values.clone();
        values.sort();
        let values = values.join(",");
        match self.operator {
            Operator::In => format!("{key} in ({values})"),
            Operator::NotIn => format!("{key} notin ({values})"),
            Operator::Exists => key.clone(),
            Operator::DoesNotExist => format!("!{key}"),
        }
    }
}
