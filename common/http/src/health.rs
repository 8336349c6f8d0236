//! `/healthz`, `/livez` and `/readyz` as in Kubernetes components: named checks, `?verbose`,
//! `?exclude=`.

use std::fmt::Write as _;
use std::sync::Arc;

use http::StatusCode;

/// A named check and its result.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Check {
    /// Name, fit for a path segment.
    pub name: &'static str,
    /// Why it fails; `None` if it passes.
    pub failure: Option<String>,
}

/// Returns the current result of each readiness check. Called for each probe, so it must be cheap.
pub type ReadinessChecks = Arc<dyn Fn() -> Vec<Check> + Send + Sync>;

/// The query of a health endpoint.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct HealthQuery {
    pub only: Option<String>,
    /// List the checks even when all pass.
    pub verbose: bool,
    pub exclude: Vec<String>,
}

/// Status and text of `endpoint` ("readyz"). `None` if the single check requested does not exist.
pub fn report(
    endpoint: &str,
    checks: &[Check],
    query: &HealthQuery,
) -> Option<(StatusCode, String)> {
    let chosen: Vec<&Check> = checks
        .iter()
        .filter(|check| query.only.as_deref().is_none_or(|only| only == check.name))
        .filter(|check| !query.exclude.iter().any(|excluded| excluded == check.name))
        .collect();
    if query.only.is_some() && chosen.is_empty() {
        return None;
    }
    let failed = chosen.iter().any(|check| check.failure.is_some());
    if !failed && !query.verbose {
        return Some((StatusCode::OK, "ok".to_owned()));
    }
    let mut text = String::new();
    for check in chosen {
        // Writing to a string cannot fail.
        let _ = match &check.failure {
            None => writeln!(text, "[+]{} ok", check.name),
            Some(failure) => writeln!(text, "[-]{} failed: {failure}", check.name),
        };
    }
    let (status, outcome) = if failed {
        (StatusCode::INTERNAL_SERVER_ERROR, "failed")
    } else {
        (StatusCode::OK, "passed")
    };
    let _ = writeln!(text, "{endpoint} check {outcome}");
    Some((status, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checks() -> [Check; 2] {
        [
            Check {
                name: "ping",
                failure: None,
            },
            Check {
                name: "settled",
                failure: Some("1500 ms to go".to_owned()),
            },
        ]
    }

    /// A failing check shows by name with its reason; the others are listed beside it.
    #[test]
    fn names_what_fails() {
        let (status, text) = report("readyz", &checks(), &HealthQuery::default()).unwrap();
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(
            text,
            "[+]ping ok\n[-]settled failed: 1500 ms to go\nreadyz check failed\n"
        );
    }

    /// Passing is a plain "ok" unless the list is asked for.
    #[test]
    fn is_brief_when_all_is_well() {
        let exclude = vec!["settled".to_owned()];
        let brief = HealthQuery {
            exclude,
            ..HealthQuery::default()
        };
        assert_eq!(
            report("readyz", &checks(), &brief),
            Some((StatusCode::OK, "ok".to_owned()))
        );
        let verbose = HealthQuery {
            verbose: true,
            ..brief
        };
        let (status, text) = report("readyz", &checks(), &verbose).unwrap();
        assert_eq!(status, StatusCode::OK);
        assert_eq!(text, "[+]ping ok\nreadyz check passed\n");
    }

    /// One check alone can be asked for, if it exists.
    #[test]
    fn answers_for_one_check() {
        let only = |name: &str| HealthQuery {
            only: Some(name.to_owned()),
            ..HealthQuery::default()
        };
        assert_eq!(
            report("readyz", &checks(), &only("ping")),
            Some((StatusCode::OK, "ok".to_owned()))
        );
        let (status, _) = report("readyz", &checks(), &only("settled")).unwrap();
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(report("readyz", &checks(), &only("other")), None);
    }
}
