//! Why an HPA had as many replicas as it had at a time.

use crate::documents::Explanation;
use crate::evidence::Evidence;
use crate::{GROUP, VERSION};

/// Why there is no explanation.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unexplained {
    /// The ledger does not reach back to the time asked for.
    #[error("the reads of {hpa} are known since {since} only, and the time asked for is {at}")]
    BeforeLedger {
        hpa: String,
        /// Both in UTC.
        at: String,
        since: String,
    },
    /// The HPA never read a metric of ours, as far as the ledger goes.
    #[error("no read of {hpa} at or before {at} is known: {why}")]
    NeverRead {
        hpa: String,
        at: String,
        why: String,
    },
}

/// Explains the last sync at or before `at_unix_ms`. It needs the reads and changes of
/// [`Hpa::reach`](autoscaler::Hpa::reach) before it, a sync before that, and those of the minute
/// after it.
pub fn explain(evidence: &Evidence<'_>, at_unix_ms: u64) -> Result<Explanation, Unexplained> {
    let hpa = evidence.hpa;
    Ok(Explanation {
        kind: "Explanation".to_owned(),
        api_version: format!("{GROUP}/{VERSION}"),
        namespace: hpa.namespace.clone(),
        hpa: hpa.name.clone(),
        at_unix_ms,
        target: format!("{}/{}", hpa.target.kind, hpa.target.name),
        min_replicas: hpa.min,
        max_replicas: hpa.max,
        replicas: evidence.replicas.to_vec(),
        ..Explanation::default()
    })
}
