//! Messages for pods without a value, as an operator reads them in `kubectl describe hpa`.

use aggregator_core::pod::PodKey;
use aggregator_core::query::NoValue;
use aggregator_core::store::Store;
use aggregator_directory::Directory;
use common_time::Monotonic;

/// Order of reasons in a message: those that need action first.
pub(crate) const REASONS: [NoValue; 12] = [
    NoValue::TlsRefused,
    NoValue::Unauthenticated,
    NoValue::Unreadable,
    NoValue::StreamRefused,
    NoValue::NeverReported,
    NoValue::NotCounted,
    NoValue::VmLost,
    NoValue::HotRestart,
    NoValue::Refused,
    NoValue::Gone,
    NoValue::New,
    NoValue::NoRequests,
];

/// `why`, or why the last attempt to report from one of the pod's addresses was refused, if that
/// explains it.
pub(crate) fn refused(
    store: &Store,
    directory: &Directory,
    now: Monotonic,
    pod: &PodKey,
    why: NoValue,
) -> NoValue {
    if !matches!(why, NoValue::NeverReported | NoValue::Gone) {
        return why;
    }
    let info = directory.get(pod);
    let refusal = info.and_then(|info| store.refusal_of(now, &info.ips));
    refusal.unwrap_or(why)
}

/// The message for `pods` ("pods matching app=jazz in namespace prod") of which none has a value.
pub(crate) fn none_has_a_value(metric: &str, pods: &str, missing: &[(PodKey, NoValue)]) -> String {
    let matching = match missing.len() {
        1 => "1 pod matches".to_owned(),
        count => format!("{count} pods match"),
    };
    if missing
        .iter()
        .all(|(_, why)| *why == NoValue::NeverReported)
    {
        return format!(
            "no sidecar of {pods} has reported; {matching}, 0 report; check that the filter is injected"
        );
    }
    format!(
        "none of the {pods} has a value of {metric}; {matching}: {}",
        counted(missing)
    )
}

/// The message for one pod.
pub(crate) fn one_has_no_value(metric: &str, pod: &PodKey, why: NoValue) -> String {
    format!("pod {pod} has no value of {metric}: it {}", phrase(why))
}

/// Number of pods by reason.
pub(crate) fn counted(missing: &[(PodKey, NoValue)]) -> String {
    let parts = REASONS.iter().filter_map(|reason| {
        let count = missing.iter().filter(|(_, why)| why == reason).count();
        (count > 0).then(|| format!("{count} {}", phrase(*reason)))
    });
    parts.collect::<Vec<_>>().join("; ")
}

/// A phrase that fits after "it" and after a number.
fn phrase(why: NoValue) -> &'static str {
    match why {
        NoValue::NeverReported => "never reported (check that the filter is injected)",
        NoValue::TlsRefused => {
            "does not report: its streams are refused: TLS (its sidecar must trust the aggregator's CA; the \
             aggregator's log has the reason)"
        }
        NoValue::Unauthenticated => {
            "does not report: its streams are refused: identity (its token, certificate or address; the \
             aggregator's log has the reason)"
        }
        NoValue::Unreadable => {
            "does not report: its streams are refused: they cannot be read (its filter may be of another version; the \
             aggregator's log names the field)"
        }
        NoValue::StreamRefused => {
            "does not report: its streams are refused: a limit (see the aggregator's log for the limit)"
        }
        NoValue::New => "began to report less than a second ago",
        NoValue::Gone => "ceased to report (check the stream from the sidecar to this aggregator)",
        NoValue::NotCounted => {
            "did not count this (check the role of the filter and the metric selector)"
        }
        NoValue::VmLost => "lost a Wasm VM, so that its totals may be too low (restart the pod)",
        NoValue::HotRestart => {
            "had two Envoy processes at once, as in a hot restart (unknown until one of them has ended)"
        }
        NoValue::Refused => {
            "had a part of its report refused (see the aggregator's log for the limit)"
        }
        NoValue::NoRequests => {
            "had no request that ended in the window (a ratio of none is undefined)"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(reasons: &[NoValue]) -> Vec<(PodKey, NoValue)> {
        reasons
            .iter()
            .map(|why| (PodKey::new("prod", "jazz"), *why))
            .collect()
    }

    /// The commonest mistake gets the plainest sentence.
    #[test]
    fn explains_that_nothing_reports() {
        let pods = "pods matching app=jazz in namespace prod";
        assert_eq!(
            none_has_a_value("m", pods, &missing(&[NoValue::NeverReported; 3])),
            "no sidecar of pods matching app=jazz in namespace prod has reported; 3 pods match, 0 report; \
             check that the filter is injected"
        );
        assert!(
            none_has_a_value("m", pods, &missing(&[NoValue::NeverReported]))
                .contains("1 pod matches, 0")
        );
    }

    /// Different reasons are listed with their counts.
    #[test]
    fn explains_a_mixture() {
        let reasons = [
            NoValue::New,
            NoValue::Gone,
            NoValue::New,
            NoValue::NeverReported,
        ];
        assert_eq!(
            none_has_a_value("m", "pods in namespace prod", &missing(&reasons)),
            "none of the pods in namespace prod has a value of m; 4 pods match: \
             1 never reported (check that the filter is injected); \
             1 ceased to report (check the stream from the sidecar to this aggregator); \
             2 began to report less than a second ago"
        );
    }

    /// The document says what each reason says, and lists every metric, selector key and workload.
    #[test]
    fn stands_in_the_document() {
        let document = include_str!("../../../docs/API.md");
        let document = document.split_whitespace().collect::<Vec<_>>().join(" ");
        let phrases = REASONS.iter().map(|reason| phrase(*reason));
        let metrics = crate::metric_name::METRICS.iter().map(|(name, _)| *name);
        let workloads = crate::workload::Workload::ALL.map(crate::workload::Workload::resource);
        let all = phrases
            .chain(metrics)
            .chain(workloads)
            .chain(crate::metric_selector::KEYS);
        for text in all {
            assert!(document.contains(text), "docs/API.md lacks {text:?}");
        }
    }

    /// No reason is left out of the sentence.
    #[test]
    fn tells_every_reason() {
        let all = counted(&missing(&REASONS));
        for reason in REASONS {
            assert!(all.contains(phrase(reason)), "{reason:?}");
        }
    }
}
