//! What becomes of each field of the custom resources: the table `fields.tsv`.

use std::sync::LazyLock;

/// A row of a table of fields, by tabs: what becomes of a field of a kind.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Row<S> {
    pub kind: &'static str,
    /// Path from `spec`; items of a list are `[]`: `spec.listeners[].portMapping.port`.
    pub path: &'static str,
    pub state: S,
    /// "" if there is nothing to explain.
    pub reason: &'static str,
}

/// A field, or with `refused` and `no effect` everything below one. The reason says why it is not
/// served, and what to do instead.
pub type Field = Row<FieldState>;

common_names::named! {
    pub enum FieldState {
        /// Changes Envoy's configuration, or which object it is made of.
        Served = "served",
        /// Has no equal without AWS, and something else takes its place.
        Mapped = "mapped",
        /// Accepted, and changes nothing.
        NoEffect = "no effect",
        /// An object with it is refused.
        Refused = "refused",
    }
}

/// All fields of all kinds.
pub static FIELDS: LazyLock<Vec<Field>> =
    LazyLock::new(|| rows(include_str!("fields.tsv"), FieldState::parse));

/// The rows of a table below its headings; one whose state is unknown is left out.
pub fn rows<S>(table: &'static str, state: fn(&str) -> Option<S>) -> Vec<Row<S>> {
    let row = |row: &'static str| {
        let mut columns = row.split('\t');
        let [kind, path] = [columns.next()?, columns.next()?];
        Some(Row {
            kind,
            path,
            state: state(columns.next()?)?,
            reason: columns.next()?,
        })
    };
    table.lines().skip(1).filter_map(row).collect()
}

/// The row of a field, or the nearest one above it that holds for everything below. Indices of
/// lists in `path` are ignored.
pub fn field(kind: &str, path: &str) -> Option<&'static Field> {
    nearest(&FIELDS, kind, path, |row| {
        matches!(row.state, FieldState::NoEffect | FieldState::Refused)
    })
}

/// The row of a field, or the nearest one above it of those that hold for everything below.
pub fn nearest<'a, S>(
    rows: &'a [Row<S>],
    kind: &str,
    path: &str,
    holds_below: impl Fn(&Row<S>) -> bool,
) -> Option<&'a Row<S>> {
    let path = without_indices(path);
    let is_above = |row: &Row<S>| {
        let below = path.strip_prefix(row.path);
        below.is_some_and(|below| below.starts_with(['.', '[']))
    };
    let rows = rows.iter().filter(|row| row.kind == kind);
    let matching = rows.filter(|row| row.path == path || (is_above(row) && holds_below(row)));
    matching.max_by_key(|row| row.path.len())
}

/// `listeners[0]` as `listeners[]`.
fn without_indices(path: &str) -> String {
    let mut in_index = false;
    let is_kept = |c: &char| {
        in_index = (in_index || *c == '[') && *c != ']';
        !in_index || *c == '['
    };
    path.chars().filter(is_kept).collect()
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
            assert_eq!(has_reason, field.state != FieldState::Served, "{field:?}");
        }
    }

    #[test]
    fn the_nearest_row_holds() {
        for (kind, path, state) in [
            ("Mesh", "spec.meshOwner", Some(FieldState::Refused)),
            (
                "VirtualNode",
                "spec.listeners[3].tls.certificate.acm.certificateARN",
                Some(FieldState::Mapped),
            ),
            (
                "VirtualNode",
                "spec.listeners[12].portMapping.port",
                Some(FieldState::Served),
            ),
            ("VirtualNode", "spec.listeners[].portMapping.port.x", None),
            ("VirtualNode", "spec.listeners[0].tls", None),
            ("VirtualNode", "spec.listeners[0].tlsMode", None),
            ("GatewayRoute", "spec.priority", Some(FieldState::Served)),
            ("Mesh", "spec.nothing", None),
        ] {
            let found = field(kind, path).map(|field| field.state);
            assert_eq!(found, state, "{kind} {path}");
        }
    }
}
