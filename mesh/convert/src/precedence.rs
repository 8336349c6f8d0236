//! The order in which rules are tried. App Mesh has one, by priority. Gateway API takes the most
//! specific match instead, and the order of the rules between equals only.
//!
//! A rule whose requests a later one would take by being more specific gets the matches that both
//! have in common: those are at least as specific as the later rule's, so that it has them again.
//! <https://gateway-api.sigs.k8s.io/reference/spec/#httprouterule>,
//! <https://gateway-api.sigs.k8s.io/reference/spec/#grpcrouterule>

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use crate::matches::{CONDITIONS_MAX, Condition, Match, Overlap, Path};

/// Matches of a rule at most.
pub(crate) const MATCHES_MAX: usize = 64;

/// Matches that are added to all rules of a route at most: each one is compared with all others.
const ADDED_MAX: usize = 1024;

/// Times that all rules are compared at most: a match that was added may need another one.
const PASSES_MAX: usize = 16;

/// What cannot be said, by indices of the rules that were given.
#[derive(Debug, Default, Eq, PartialEq)]
pub(crate) struct Settled {
    /// Rules that another one before them leaves no request.
    pub(crate) unreachable: BTreeSet<usize>,
    /// (earlier, later): which of them gets the requests of both is not the order's.
    pub(crate) unsettled: BTreeSet<(usize, usize)>,
}

/// Adds matches so that the first rule that matches gets a request. `is_same` says whether it makes
/// no difference which of two gets it.
pub(crate) fn settle(rules: &mut [Vec<Match>], is_same: impl Fn(usize, usize) -> bool) -> Settled {
    let mut settled = Settled::default();
    for later in 0..rules.len() {
        let is_covered = |own: &Match| {
            let mut earlier = rules.iter().take(later).flatten();
            earlier.any(|before| covers(before, own))
        };
        if rules[later].iter().all(is_covered) {
            settled.unreachable.insert(later);
        }
    }
    let reachable = (0..rules.len()).filter(|index| !settled.unreachable.contains(index));
    let reachable: Vec<_> = reachable.collect();
    let mut room = ADDED_MAX;
    for pass in 0..PASSES_MAX {
        let before = room;
        for (nth, &later) in reachable.iter().enumerate() {
            for &earlier in reachable.iter().take(nth) {
                if is_same(earlier, later) {
                    continue;
                }
                let (added, is_settled) = missing(&rules[earlier], &rules[later]);
                let fits = rules[earlier].len() + added.len() <= MATCHES_MAX
                    && added.len() <= room
                    && (added.is_empty() || pass + 1 < PASSES_MAX);
                if !is_settled || !fits {
                    settled.unsettled.insert((earlier, later));
                }
                if fits {
                    room -= added.len();
                    rules[earlier].extend(added);
                }
            }
        }
        if room == before {
            break;
        }
    }
    settled
}

/// Matches that `earlier` needs to have what `later` would take, and whether they are all.
fn missing(earlier: &[Match], later: &[Match]) -> (Vec<Match>, bool) {
    let mut added: Vec<Match> = Vec::new();
    let mut is_settled = true;
    for theirs in later {
        for own in earlier {
            let ranking = ranking(theirs, own);
            if ranking.is_some_and(Ordering::is_le) {
                continue;
            }
            match (own.and(theirs), ranking) {
                (Overlap::None, _) => {}
                (Overlap::Both(both), Some(_)) => {
                    let has = |one: &Match| covers(one, &both) && ranking_of(theirs, one).is_le();
                    if !earlier.iter().chain(&added).any(has) {
                        added.push(both);
                    }
                }
                (Overlap::Both(_) | Overlap::Unknown, _) => is_settled = false,
            }
        }
    }
    (added, is_settled)
}

/// Whether every request of `other` is one of `one`; `false` if that cannot be seen.
fn covers(one: &Match, other: &Match) -> bool {
    matches!(one.and(other), Overlap::Both(both) if both == *other)
}

/// As [`ranking`]; where that is not specified, `one` comes first.
fn ranking_of(one: &Match, other: &Match) -> Ordering {
    ranking(one, other).unwrap_or(Ordering::Greater)
}

/// Greater if Gateway API tries `one` first, equal if the order of rules decides. `None`: not
/// specified. Of matches that have requests in common only.
fn ranking(one: &Match, other: &Match) -> Option<Ordering> {
    let paths = match (&one.path, &other.path) {
        (one, other) if one == other => Ordering::Equal,
        (Path::Regex(_), _) | (_, Path::Regex(_)) => return None,
        (one, other) => specificity(one).cmp(&specificity(other)),
    };
    Some(
        paths
            .then(one.method.is_some().cmp(&other.method.is_some()))
            .then(one.headers.len().cmp(&other.headers.len()))
            .then(one.parameters.len().cmp(&other.parameters.len())),
    )
}

/// Exact paths before prefixes, and the longer before the shorter.
fn specificity(path: &Path) -> (bool, usize, usize) {
    let length = |name: &Option<String>| name.as_ref().map_or(0, String::len);
    match path {
        Path::Exact(_) => (true, 0, 0),
        Path::Prefix(path) | Path::Regex(path) => (false, path.len(), 0),
        Path::Call { service, method } => (false, length(service), length(method)),
    }
}

// === impl Match ===

impl Match {
    /// What is matched by both.
    pub(crate) fn and(&self, other: &Self) -> Overlap<Self> {
        let method = match (self.method, other.method) {
            (Some(one), Some(other)) if one != other => return Overlap::None,
            (one, other) => one.or(other),
        };
        let path = self.path.and(&other.path);
        let headers = all(&self.headers, &other.headers);
        let parameters = all(&self.parameters, &other.parameters);
        match (path, headers, parameters) {
            (Overlap::None, ..) | (_, Overlap::None, _) | (.., Overlap::None) => Overlap::None,
            (Overlap::Both(path), Overlap::Both(headers), Overlap::Both(parameters)) => {
                Overlap::Both(Self {
                    path,
                    method,
                    headers,
                    parameters,
                })
            }
            _ => Overlap::Unknown,
        }
    }
}

fn all(
    one: &BTreeMap<String, Condition>,
    other: &BTreeMap<String, Condition>,
) -> Overlap<BTreeMap<String, Condition>> {
    let mut both = one.clone();
    let mut is_known = true;
    for (name, condition) in other {
        match one.get(name).map(|own| own.and(condition)) {
            None => {
                both.insert(name.clone(), condition.clone());
            }
            Some(Overlap::Both(joined)) => {
                both.insert(name.clone(), joined);
            }
            Some(Overlap::None) => return Overlap::None,
            Some(Overlap::Unknown) => is_known = false,
        }
    }
    if is_known && both.len() <= CONDITIONS_MAX {
        Overlap::Both(both)
    } else {
        Overlap::Unknown
    }
}

// === impl Path ===

impl Path {
    pub(crate) fn and(&self, other: &Self) -> Overlap<Self> {
        match (self, other) {
            (one, other) if one == other => Overlap::Both(one.clone()),
            (Self::Prefix(prefix), longer @ (Self::Exact(path) | Self::Prefix(path)))
            | (longer @ (Self::Exact(path) | Self::Prefix(path)), Self::Prefix(prefix))
                if is_within(path, prefix) =>
            {
                Overlap::Both(longer.clone())
            }
            (Self::Regex(text), Self::Exact(path) | Self::Prefix(path))
            | (Self::Exact(path) | Self::Prefix(path), Self::Regex(text))
                if !may_begin(text, path) =>
            {
                Overlap::None
            }
            (Self::Regex(_), Self::Prefix(all)) if all == "/" => Overlap::Both(self.clone()),
            (Self::Prefix(all), Self::Regex(_)) if all == "/" => Overlap::Both(other.clone()),
            (Self::Regex(_), _) | (_, Self::Regex(_)) => Overlap::Unknown,
            (
                Self::Call { service, method },
                Self::Call {
                    service: other_service,
                    method: other_method,
                },
            ) => {
                let service = joined(service.as_ref(), other_service.as_ref());
                match (service, joined(method.as_ref(), other_method.as_ref())) {
                    (Overlap::Both(service), Overlap::Both(method)) => {
                        Overlap::Both(Self::Call { service, method })
                    }
                    _ => Overlap::None,
                }
            }
            _ => Overlap::None,
        }
    }
}

/// The name that both want.
fn joined(one: Option<&String>, other: Option<&String>) -> Overlap<Option<String>> {
    match (one, other) {
        (Some(one), Some(other)) if one != other => Overlap::None,
        (one, other) => Overlap::Both(one.or(other).cloned()),
    }
}

/// Whether a path begins with all elements of `prefix`.
pub(crate) fn is_within(path: &str, prefix: &str) -> bool {
    let rest = path.strip_prefix(prefix.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether a path that the expression matches may have something in common with `path`, by the
/// plain characters at the begin of both.
fn may_begin(text: &str, path: &str) -> bool {
    // Any of the alternatives may.
    if text.contains('|') {
        return true;
    }
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/-_~".contains(c);
    let text = text.strip_prefix('^').unwrap_or(text);
    let end = text.find(|c| !is_plain(c)).unwrap_or(text.len());
    let (plain, rest) = text.split_at(end);
    // What is repeated may be there not at all.
    let is_repeated = rest.starts_with(['*', '?', '{', '+']);
    let kept = end - usize::from(is_repeated && end > 0);
    let plain = plain.get(..kept).unwrap_or_default();
    plain.starts_with(path) || path.starts_with(plain)
}

#[cfg(test)]
mod tests;
