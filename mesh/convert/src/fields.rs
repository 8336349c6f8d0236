//! What becomes of each field of the custom resources: the table `fields.tsv`.

use std::sync::LazyLock;

use mesh_control_plane::fields::{Row, nearest, rows};
use mesh_control_plane::lint::{Outcome, Report};

use crate::Channel;
use crate::finding::{self, Finding, Lack};

/// A field, and everything below it.
pub type Field = Row<Fate>;

common_names::named! {
    pub enum Fate {
        /// It is in the output, or decides what is.
        Converted = "converted",
        /// As converted, with the resources of the experimental channel only.
        Experimental = "experimental",
        /// A route with it is left out.
        LeavesOut = "leaves out",
        NoCounterpart = "no counterpart",
        /// As without a counterpart, and traffic is not what it was.
        NotConverted = "not converted",
        /// It did nothing that could be lost.
        NoEffect = "no effect",
    }
}

/// All fields of all kinds.
pub static FIELDS: LazyLock<Vec<Field>> =
    LazyLock::new(|| rows(include_str!("fields.tsv"), Fate::parse));

/// The row of a field, or the nearest one above it. Indices of lists in `path` are ignored.
pub fn field(kind: &str, path: &str) -> Option<&'static Field> {
    nearest(&FIELDS, kind, path, |_| true)
}

/// The reason in the table; "" for a field without one.
pub(crate) fn reason(kind: &str, path: &str) -> &'static str {
    field(kind, path).map_or("", |field| field.reason)
}

/// Findings for all fields that are set and that Gateway API has nothing for.
pub(crate) fn without_counterpart(report: &Report, channel: Channel) -> Vec<Finding> {
    let mut findings = Vec::new();
    for resource in &report.resources {
        if resource.outcome == Outcome::Refused {
            continue;
        }
        let what = finding::name(&resource.kind, &resource.namespace, &resource.name);
        for set in &resource.fields {
            let Some(row) = field(&resource.kind, &set.path) else {
                continue;
            };
            let lack = match row.state {
                Fate::NotConverted => Lack::NotConverted,
                Fate::NoCounterpart => Lack::NoCounterpart,
                Fate::Experimental if channel == Channel::Standard => Lack::NoCounterpart,
                _ => continue,
            };
            let path = shortened(&set.path, row.path);
            findings.push(Finding::new(lack, &what, path, row.reason));
        }
    }
    findings.dedup();
    findings
}

/// As much of `path` as `row` is of, so that a field with several below it is named once.
fn shortened<'a>(path: &'a str, row: &str) -> &'a str {
    let segments = row.split('.').count();
    let mut ends = path.match_indices('.').map(|(end, _)| end);
    ends.nth(segments - 1)
        .and_then(|end| path.get(..end))
        .unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn rows_are_whole() {
        let rows = include_str!("fields.tsv").lines().skip(1);
        assert_eq!(FIELDS.len(), rows.count(), "a row cannot be read");
        let mut seen = BTreeSet::new();
        for field in FIELDS.iter() {
            assert!(seen.insert((field.kind, field.path)), "{field:?} is twice");
            let has_reason = !field.reason.is_empty();
            assert_eq!(has_reason, field.state != Fate::Converted, "{field:?}");
        }
    }

    #[test]
    fn findings_name_the_field_of_the_row() {
        for (path, row, expected) in [
            (
                "spec.listeners[0].tls.mode",
                "spec.listeners[].tls",
                "spec.listeners[0].tls",
            ),
            ("spec.logging", "spec.logging", "spec.logging"),
            ("spec.a.b", "spec", "spec"),
        ] {
            assert_eq!(shortened(path, row), expected);
        }
    }
}
