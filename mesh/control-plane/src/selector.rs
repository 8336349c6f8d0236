//! Kubernetes label selectors.

use std::collections::BTreeMap;

use serde::Deserialize;

pub type Labels = BTreeMap<String, String>;

/// An empty selector matches all objects.
/// <https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#resources-that-support-set-based-requirements>
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Selector {
    pub match_labels: Labels,
    pub match_expressions: Vec<Expression>,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Expression {
    pub key: String,
    pub operator: Operator,
    /// Values of [`Operator::In`] and [`Operator::NotIn`].
    #[serde(default)]
    pub values: Vec<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
pub enum Operator {
    In,
    /// Matches also without the label.
    NotIn,
    Exists,
    DoesNotExist,
}

// === impl Selector ===

impl Selector {
    pub fn selects(&self, labels: &Labels) -> bool {
        let mut pairs = self.match_labels.iter();
        pairs.all(|(key, value)| labels.get(key) == Some(value))
            && self
                .match_expressions
                .iter()
                .all(|rule| rule.matches(labels))
    }
}

// === impl Expression ===

impl Expression {
    fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        let listed = value.is_some_and(|value| self.values.contains(value));
        match self.operator {
            Operator::In => listed,
            Operator::NotIn => !listed,
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selects_as_kubernetes_does() {
        let labels = |pairs: &[(&str, &str)]| -> Labels {
            let pairs = pairs.iter();
            pairs
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect()
        };
        let (jazz, bare) = (labels(&[("app", "jazz"), ("version", "v1")]), labels(&[]));
        for (text, of_jazz, of_bare) in [
            ("{}", true, true),
            (r#"{"matchLabels": {"app": "jazz"}}"#, true, false),
            (
                r#"{"matchLabels": {"app": "jazz", "version": "v2"}}"#,
                false,
                false,
            ),
            (
                r#"{"matchExpressions": [{"key": "app", "operator": "In", "values": ["jazz", "metal"]}]}"#,
                true,
                false,
            ),
            (
                r#"{"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["jazz"]}]}"#,
                false,
                true,
            ),
            (
                r#"{"matchExpressions": [{"key": "app", "operator": "Exists"}]}"#,
                true,
                false,
            ),
            (
                r#"{"matchLabels": {"app": "jazz"}, "matchExpressions": [{"key": "version", "operator": "DoesNotExist"}]}"#,
                false,
                false,
            ),
        ] {
            let selector: Selector = serde_json::from_str(text).unwrap();
            assert_eq!(selector.selects(&jazz), of_jazz, "{text}");
            assert_eq!(selector.selects(&bare), of_bare, "{text}");
        }
    }
}
