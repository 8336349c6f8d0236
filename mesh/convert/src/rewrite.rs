//! What a gateway makes of path and host, and which routes of a router it then matches.

use mesh_control_plane::resources::PathChange;
use serde_json::{Value, json};

use crate::matches::{Match, Overlap, Path};
use crate::precedence::is_within;

#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Rewrite {
    /// `None` for that of the client.
    pub(crate) host: Option<String>,
    pub(crate) path: PathRewrite,
}

#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) enum PathRewrite {
    #[default]
    None,
    /// `to`, with a `/` at its end, takes the place of `from` and a `/` after it.
    Prefix {
        /// Without a `/` at the end; `/` for all paths.
        from: String,
        to: String,
    },
    Whole(String),
}

// === impl Rewrite ===

impl Rewrite {
    /// Of requests with this path; `None` if nothing changes.
    pub(crate) fn filter(&self, path: &Path) -> Option<Value> {
        let mut change = json!({});
        if let Some(host) = &self.host {
            change["hostname"] = json!(host);
        }
        if let Some(path) = self.path.of(path) {
            change["path"] = path;
        }
        let is_empty = change.as_object().is_none_or(serde_json::Map::is_empty);
        (!is_empty).then(|| json!({"type": "URLRewrite", "urlRewrite": change}))
    }
}

// === impl PathRewrite ===

impl PathRewrite {
    pub(crate) fn of_change(change: PathChange<'_>) -> Self {
        match change {
            PathChange::None => Self::None,
            PathChange::Whole(path) => Self::Whole(path.to_owned()),
            PathChange::Prefix(from, to) => {
                let from = from.trim_end_matches('/');
                Self::Prefix {
                    from: if from.is_empty() { "/" } else { from }.to_owned(),
                    to: to.to_owned(),
                }
            }
        }
    }

    fn of(&self, path: &Path) -> Option<Value> {
        let whole = |path: &str| json!({"type": "ReplaceFullPath", "replaceFullPath": path});
        match (self, path) {
            (Self::Whole(path), _) => Some(whole(path)),
            (Self::Prefix { from, to }, Path::Exact(path)) => {
                Some(whole(&format!("{to}{}", below(path, from))))
            }
            (Self::Prefix { from, to }, Path::Prefix(prefix)) => {
                let value = format!("{to}{}", below(prefix, from));
                Some(json!({"type": "ReplacePrefixMatch", "replacePrefixMatch": value}))
            }
            (Self::None, _) | (Self::Prefix { .. }, Path::Regex(_) | Path::Call { .. }) => None,
        }
    }

    /// Whether the filter can say it for requests with this path.
    pub(crate) fn is_sayable(&self, path: &Path) -> bool {
        let is_plain = matches!(path, Path::Exact(_) | Path::Prefix(_));
        is_plain || !matches!(self, Self::Prefix { .. })
    }

    /// The matches of a gateway's route, given the one that it has: the prefix itself is a match
    /// of its own, since it gets the `/` at the end of `to` as well.
    pub(crate) fn matches(&self, matched: Match) -> Vec<Match> {
        match (self, &matched.path) {
            (Self::Prefix { from, to }, Path::Prefix(_)) if to != "/" && from != "/" => {
                let itself = Match {
                    path: Path::Exact(from.clone()),
                    ..matched.clone()
                };
                vec![itself, matched]
            }
            _ => vec![matched],
        }
    }

    /// Requests that `own` of a gateway matches, and `theirs` of a router after the rewrite.
    pub(crate) fn composed(&self, own: &Match, theirs: &Match) -> Overlap<Vec<Match>> {
        let paths = match self.before(&own.path, &theirs.path) {
            Overlap::Both(paths) => paths,
            Overlap::None => return Overlap::None,
            Overlap::Unknown => return Overlap::Unknown,
        };
        let mut all = Vec::new();
        for path in paths {
            let [one, other] = [own, theirs].map(|matched| Match {
                path: path.clone(),
                ..matched.clone()
            });
            match one.and(&other) {
                Overlap::Both(both) => all.push(both),
                Overlap::None => return Overlap::None,
                Overlap::Unknown => return Overlap::Unknown,
            }
        }
        Overlap::Both(all)
    }

    /// Paths of `own` that become `theirs`.
    fn before(&self, own: &Path, theirs: &Path) -> Overlap<Vec<Path>> {
        let own_if = |is_matched: bool| {
            if is_matched {
                Overlap::Both(vec![own.clone()])
            } else {
                Overlap::None
            }
        };
        if theirs.is_everything() {
            return own_if(true);
        }
        match (self, own, theirs) {
            (Self::None, Path::Call { .. }, Path::Call { .. }) => one(own.and(theirs)),
            (_, Path::Call { .. }, _) | (_, _, Path::Call { .. }) => Overlap::Unknown,
            (Self::None, ..) => one(own.and(theirs)),
            (_, _, Path::Regex(_)) => Overlap::Unknown,
            (Self::Whole(path), _, Path::Exact(wanted)) => own_if(path == wanted),
            (Self::Whole(path), _, Path::Prefix(prefix)) => own_if(is_within(path, prefix)),
            (Self::Prefix { to, .. }, Path::Exact(_), Path::Exact(wanted)) => own_if(to == wanted),
            (Self::Prefix { to, .. }, Path::Exact(_), Path::Prefix(prefix)) => {
                own_if(is_within(to, prefix))
            }
            (Self::Prefix { to, .. }, _, Path::Prefix(prefix)) if is_within(to, prefix) => {
                own_if(true)
            }
            (Self::Prefix { from, to }, _, Path::Prefix(path) | Path::Exact(path)) => {
                let Some(rest) = path.strip_prefix(to.as_str()) else {
                    return Overlap::None;
                };
                let base = from.trim_end_matches('/');
                let before = format!("{base}/{rest}");
                Overlap::Both(match theirs {
                    Path::Prefix(_) => vec![Path::Prefix(before)],
                    // With and without the slash.
                    _ if rest.is_empty() && !base.is_empty() => {
                        vec![Path::Exact(base.to_owned()), Path::Exact(before)]
                    }
                    _ => vec![Path::Exact(before)],
                })
            }
        }
    }
}

fn one(overlap: Overlap<Path>) -> Overlap<Vec<Path>> {
    match overlap {
        Overlap::Both(path) => Overlap::Both(vec![path]),
        Overlap::None => Overlap::None,
        Overlap::Unknown => Overlap::Unknown,
    }
}

/// What is left of a path behind a prefix and a slash.
fn below<'a>(path: &'a str, prefix: &str) -> &'a str {
    let rest = path.strip_prefix(prefix.trim_end_matches('/'));
    let rest = rest.unwrap_or_default();
    rest.strip_prefix('/').unwrap_or(rest)
}
