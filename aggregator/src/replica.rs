//! What this replica says of itself, from its own checks, certificates and metrics.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use aggregator_view::documents::{Certificate, RemoteWrite, Replica};
use common_http::health::ReadinessChecks;
use common_tls::ReloadableCert;
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

/// Sources of the document.
pub(crate) struct ReplicaState {
    pub(crate) name: String,
    pub(crate) readiness: ReadinessChecks,
    /// All metrics: what was refused is what `/metrics` says.
    pub(crate) registry: Arc<Registry>,
    /// Certificates by listener.
    pub(crate) certificates: Vec<(&'static str, ReloadableCert)>,
}

/// One series of the exposition: name, labels, value.
struct Series<'a> {
    name: &'a str,
    labels: Vec<(&'a str, &'a str)>,
    value: f64,
}

// === impl ReplicaState ===

impl ReplicaState {
    /// The document, without what store and ledger know.
    pub(crate) fn document(&self) -> Replica {
        let failing = (self.readiness)().into_iter();
        let failing = failing.filter_map(|check| {
            let failure = check.failure?;
            Some(format!("{}: {failure}", check.name))
        });
        let certificates = self
            .certificates
            .iter()
            .map(|(listener, cert)| Certificate {
                listener: (*listener).to_owned(),
                not_after_unix_ms: cert.expires().saturating_mul(1000),
            });
        let mut exposition = String::new();
        // Writing to a string does not fail.
        let _ = text::encode(&mut exposition, &self.registry);
        let series: Vec<_> = exposition.lines().filter_map(Series::parse).collect();
        Replica {
            name: self.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            not_ready: failing.collect(),
            certificates: certificates.collect(),
            refused: refused(&series),
            remote_write: remote_write(&series),
            ..Replica::default()
        }
    }
}

impl fmt::Debug for ReplicaState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReplicaState").finish_non_exhaustive()
    }
}

// === impl Series ===

impl<'a> Series<'a> {
    /// A line of the exposition; `None` for comments. Values of our labels need no escapes, except
    /// in series that are not looked for.
    fn parse(line: &'a str) -> Option<Self> {
        let (series, value) = line.rsplit_once(' ')?;
        let value = value.parse().ok()?;
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let labels = labels.trim_end_matches('}').split(',');
        let labels = labels.filter_map(|label| {
            let (key, value) = label.split_once('=')?;
            Some((key, value.trim_matches('"')))
        });
        Some(Self {
            name: name.strip_prefix("meshmeter_")?,
            labels: labels.collect(),
            value,
        })
    }

    fn label(&self, name: &str) -> Option<&'a str> {
        let mut labels = self.labels.iter();
        labels
            .find(|(key, _)| *key == name)
            .map(|(_, value)| *value)
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counters of events are whole and never negative; the cast saturates"
    )]
    fn count(&self) -> u64 {
        self.value as u64
    }
}

/// What was refused, by `listener or part: reason`, without the store and the directory: these are
/// asked themselves.
fn refused(series: &[Series<'_>]) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for one in series.iter().filter(|one| one.value > 0.0) {
        let Some(part) = one.name.strip_suffix("_refused_total") else {
            continue;
        };
        if matches!(part, "store" | "directory") {
            continue;
        }
        let part = one.label("listener").unwrap_or(part);
        let reason = one.label("reason").unwrap_or("other");
        *counts.entry(format!("{part}: {reason}")).or_default() += one.count();
    }
    counts
}

/// `None` if nothing is written anywhere.
fn remote_write(series: &[Series<'_>]) -> Option<RemoteWrite> {
    let of = |name: &'static str| {
        let series = series.iter();
        series.filter(move |one| one.name.strip_prefix("remote_write_") == Some(name))
    };
    of("flushes_total").next()?;
    let stored = of("samples_total").filter(|one| one.label("result") == Some("stored"));
    let lag = of("lag_seconds").next().map(|one| one.value * 1000.0);
    let dropped = of("dropped_samples_total").filter(|one| one.value > 0.0);
    let dropped = dropped.map(|one| {
        (
            one.label("reason").unwrap_or("other").to_owned(),
            one.count(),
        )
    });
    let leads = of("leader").next().map(|one| one.value > 0.0);
    let blocked = of("blocked").any(|one| one.value > 0.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "an age in milliseconds; the cast saturates"
    )]
    Some(RemoteWrite {
        writing: leads.unwrap_or(true),
        lag_ms: lag.map(|lag| lag as u64),
        sent: stored.map(Series::count).sum(),
        dropped: dropped.collect(),
        last_error: if blocked {
            "the receiver refuses the samples; the log has its words".to_owned()
        } else {
            String::new()
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The documented form of the metrics is understood; what was never refused is not listed.
    #[test]
    fn reads_its_own_metrics() {
        let text = "# HELP meshmeter_api_refused Requests\n\
            meshmeter_api_refused_total{reason=\"path\"} 3\n\
            meshmeter_api_refused_total{reason=\"body\"} 0\n\
            meshmeter_store_refused_total{reason=\"pods\"} 7\n\
            meshmeter_connections_refused_total{listener=\"ingest\",reason=\"limit\"} 2\n\
            meshmeter_remote_write_flushes_total 5\n\
            meshmeter_remote_write_samples_total{result=\"stored\"} 40\n\
            meshmeter_remote_write_samples_total{result=\"rejected\"} 1\n\
            meshmeter_remote_write_lag_seconds 1.5\n";
        let series: Vec<_> = text.lines().filter_map(Series::parse).collect();
        let expected = [("api: path".to_owned(), 3), ("ingest: limit".to_owned(), 2)];
        assert_eq!(refused(&series), BTreeMap::from(expected));
        let written = remote_write(&series).unwrap();
        assert_eq!(
            (written.sent, written.lag_ms, written.writing),
            (40, Some(1500), true)
        );
        assert!(remote_write(&series[..2]).is_none());
    }
}
