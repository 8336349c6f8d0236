//! Placeholders `${NAME}` and `$NAME` of templates, as `envsubst` reads them. Pure.

use std::collections::BTreeMap;

/// Longest name of a placeholder, in bytes.
const NAME_MAX: usize = 64;

/// What stands in for the placeholders of a template.
#[derive(Clone, Debug, Default)]
pub struct Placeholders {
    /// Values by name.
    pub values: BTreeMap<String, String>,
    /// Each other name stands for itself, as a Kubernetes name: `mesh-name` for `${MESH_NAME}`.
    pub tolerated: bool,
}

/// A placeholder in a text.
#[derive(Clone, Copy, Debug)]
struct Found<'a> {
    before: &'a str,
    /// As it stands there.
    placeholder: &'a str,
    name: &'a str,
    after: &'a str,
}

// === impl Placeholders ===

impl Placeholders {
    /// Whether templates are read at all.
    pub(super) fn are_expected(&self) -> bool {
        self.tolerated || !self.values.is_empty()
    }

    pub(super) fn replace(&self, text: &str) -> String {
        let mut replaced = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(found) = next(rest) {
            replaced.push_str(found.before);
            match self.values.get(found.name) {
                Some(value) => replaced.push_str(value),
                None if self.tolerated => {
                    replaced.push_str(&found.name.to_ascii_lowercase().replace('_', "-"));
                }
                None => replaced.push_str(found.placeholder),
            }
            rest = found.after;
        }
        replaced.push_str(rest);
        replaced
    }
}

/// The first placeholder of `text`.
fn next(text: &str) -> Option<Found<'_>> {
    let mut from = 0;
    while let Some(found) = text.get(from..)?.find('$') {
        let begin = from + found;
        let behind = text.get(begin + 1..)?;
        let name = match behind.strip_prefix('{') {
            Some(braced) => braced.split_once('}').map(|(name, _)| name),
            None => Some(bare_name(behind)),
        };
        if let Some(name) = name.filter(|name| is_name(name)) {
            let braces = if behind.starts_with('{') { 2 } else { 0 };
            let end = begin + 1 + name.len() + braces;
            return Some(Found {
                before: text.get(..begin)?,
                placeholder: text.get(begin..end)?,
                name,
                after: text.get(end..)?,
            });
        }
        from = begin + 1;
    }
    None
}

/// The name of the first placeholder in braces: one without may be the end of a regular expression.
pub(super) fn braced(text: &str) -> Option<&str> {
    let mut rest = text;
    while let Some(found) = next(rest) {
        if found.placeholder.ends_with('}') {
            return Some(found.name);
        }
        rest = found.after;
    }
    None
}

/// The name that `text` begins with: a letter or `_` first, for `$1` is part of a regular
/// expression.
fn bare_name(text: &str) -> &str {
    if text.starts_with(|first: char| first.is_ascii_digit()) {
        return "";
    }
    let of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(|c| !of_name(c)).next().unwrap_or_default()
}

fn is_name(name: &str) -> bool {
    let of_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !name.is_empty() && name.len() <= NAME_MAX && name.bytes().all(of_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (template, with one value, with all tolerated).
    #[test]
    fn placeholders_are_replaced_or_tolerated() {
        let values = BTreeMap::from([("NS".to_owned(), "prod".to_owned())]);
        let replaced = Placeholders {
            values: values.clone(),
            tolerated: false,
        };
        let tolerated = Placeholders {
            values,
            tolerated: true,
        };
        for (text, with_value, with_all) in [
            ("a.${NS}.svc", "a.prod.svc", "a.prod.svc"),
            ("${NS}${NS}", "prodprod", "prodprod"),
            ("${MESH_NAME}-x", "${MESH_NAME}-x", "mesh-name-x"),
            (
                "$NS ${} ${a b} ${${NS}",
                "prod ${} ${a b} ${prod",
                "prod ${} ${a b} ${prod",
            ),
            ("$NS.svc/$NSX", "prod.svc/$NSX", "prod.svc/nsx"),
            ("^/a$ $1 $", "^/a$ $1 $", "^/a$ $1 $"),
            ("", "", ""),
        ] {
            assert_eq!(replaced.replace(text), with_value);
            assert_eq!(tolerated.replace(text), with_all);
        }
        assert_eq!(braced("$NS ${MESH} ${NS}"), Some("MESH"));
        assert_eq!(braced("^$NS"), None);
    }
}
