//! Placeholders `${NAME}` of templates. Pure.

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

// === impl Placeholders ===

impl Placeholders {
    /// Whether templates are read at all.
    pub(super) fn are_expected(&self) -> bool {
        self.tolerated || !self.values.is_empty()
    }

    pub(super) fn replace(&self, text: &str) -> String {
        let mut replaced = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, name, after)) = next(rest) {
            replaced.push_str(before);
            match self.values.get(name) {
                Some(value) => replaced.push_str(value),
                None if self.tolerated => {
                    replaced.push_str(&name.to_ascii_lowercase().replace('_', "-"));
                }
                None => {
                    replaced.push_str("${");
                    replaced.push_str(name);
                    replaced.push('}');
                }
            }
            rest = after;
        }
        replaced.push_str(rest);
        replaced
    }
}

/// The first placeholder of `text`: what is before it, its name, and what is behind it.
pub(super) fn next(text: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    while let Some(found) = text.get(from..)?.find("${") {
        let begin = from + found;
        let behind = text.get(begin + 2..)?;
        if let Some((name, after)) = behind.split_once('}')
            && is_name(name)
        {
            return Some((text.get(..begin)?, name, after));
        }
        from = begin + 2;
    }
    None
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
                "$NS ${} ${a b} ${prod",
                "$NS ${} ${a b} ${prod",
            ),
            ("", "", ""),
        ] {
            assert_eq!(replaced.replace(text), with_value);
            assert_eq!(tolerated.replace(text), with_all);
        }
    }
}
