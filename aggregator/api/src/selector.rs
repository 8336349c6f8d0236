//! Kubernetes label selectors: parsing and matching.
//!
//! Syntax, matching and error messages follow `k8s.io/apimachinery/pkg/labels/selector.go`. A
//! selector is a list of requirements that must all hold; the empty one matches everything.

mod lexer;
mod parser;
mod syntax;

use aggregator_core::pod::Labels;
use thiserror::Error;

pub use syntax::{SyntaxError, key_fault, value_fault};

/// Bytes of a selector. An HPA sends its target's `matchLabels`; 64 requirements of 63 bytes fit.
pub const SELECTOR_BYTES_MAX: usize = 4096;

pub const REQUIREMENTS_MAX: usize = 64;

#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Selector {
    requirements: Vec<Requirement>,
}

/// One condition on one label.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Requirement {
    pub key: String,
    pub condition: Condition,
}

/// Condition on the value of a label.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Condition {
    /// `key=value` and `key==value`.
    Equals(String),
    /// `key!=value`; holds without the label.
    NotEquals(String),
    /// `key in (a,b)`, sorted, without duplicates.
    In(Vec<String>),
    /// `key notin (a,b)`, sorted, without duplicates; holds without the label.
    NotIn(Vec<String>),
    /// `key`
    Exists,
    /// `!key`
    DoesNotExist,
    /// `key>number`; holds only for a label that is a number.
    GreaterThan(i64),
    /// `key<number`; holds only for a label that is a number.
    LessThan(i64),
}

/// Why a selector was refused.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum SelectorError {
    /// Longer than [`SELECTOR_BYTES_MAX`].
    #[error("the selector has {0} bytes, at most {SELECTOR_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// More than [`REQUIREMENTS_MAX`] requirements.
    #[error("the selector has more than {REQUIREMENTS_MAX} requirements")]
    TooMany,
    #[error(transparent)]
    Syntax(#[from] SyntaxError),
}

// === impl Selector ===

impl Selector {
    /// Parses a decoded query parameter.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        if text.len() > SELECTOR_BYTES_MAX {
            return Err(SelectorError::TooLong(text.len()));
        }
        let requirements = parser::parse(text)?;
        if requirements.len() > REQUIREMENTS_MAX {
            return Err(SelectorError::TooMany);
        }
        Ok(Self { requirements })
    }

    /// True if every requirement holds for `labels`.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.holds_for(|key| labels.get(key).map(String::as_str))
    }

    /// True if every requirement holds for the labels that `value_of` looks up.
    pub fn holds_for<'a>(&self, value_of: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.requirements
            .iter()
            .all(|requirement| requirement.condition.holds(value_of(&requirement.key)))
    }

    /// Labels that every match has, with their values.
    pub(crate) fn equalities(&self) -> impl Iterator<Item = (&str, &str)> {
        self.requirements
            .iter()
            .filter_map(|Requirement { key, condition }| match condition {
                Condition::Equals(value) => Some((key.as_str(), value.as_str())),
                Condition::In(values) => match &values[..] {
                    [value] => Some((key.as_str(), value.as_str())),
                    _ => None,
                },
                _ => None,
            })
    }

    pub(crate) fn of(requirements: Vec<Requirement>) -> Self {
        Self { requirements }
    }

    /// The requirements, in the order of the text.
    pub fn requirements(&self) -> &[Requirement] {
        &self.requirements
    }
}

// === impl Condition ===

impl Condition {
    fn holds(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        let is_among =
            |values: &[String]| value.is_some_and(|value| values.iter().any(|v| v == value));
        match self {
            Self::Equals(wanted) => value == Some(wanted),
            Self::NotEquals(unwanted) => value != Some(unwanted),
            Self::In(wanted) => is_among(wanted),
            Self::NotIn(unwanted) => !is_among(unwanted),
            Self::Exists => value.is_some(),
            Self::DoesNotExist => value.is_none(),
            Self::GreaterThan(bound) => number().is_some_and(|number| number > *bound),
            Self::LessThan(bound) => number().is_some_and(|number| number < *bound),
        }
    }
}

#[cfg(test)]
mod tests;
