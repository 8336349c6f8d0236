//! Which known name is meant. Pure.

use std::collections::BTreeSet;

/// Letters that may be wrong at most.
const WRONG_MAX: usize = 4;

/// The nearest of `known` to `name`, if it is near enough to be meant.
pub(super) fn nearest<'a>(name: &str, known: &'a BTreeSet<String>) -> Option<&'a str> {
    let distances = known
        .iter()
        .map(|known| (strsim::damerau_levenshtein(name, known), known));
    let (distance, nearest) = distances.min()?;
    (distance <= WRONG_MAX).then_some(nearest.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_is_meant() {
        let known = ["appmesh_requests_per_second", "appmesh_inflight_requests"];
        let known: BTreeSet<String> = known.map(str::to_owned).into();
        let second = Some("appmesh_requests_per_second");
        assert_eq!(nearest("appmesh_request_per_second", &known), second);
        assert_eq!(nearest("appmesh_requests_per_secnod", &known), second);
        assert_eq!(nearest("http_requests", &known), None);
        assert_eq!(nearest("appmesh", &BTreeSet::new()), None);
    }
}
