//! Totals of all reports: the maximum per instance, series and counter, as the real aggregator
//! keeps them.

use std::collections::BTreeMap;

use proto::v1;

/// What a running total counts.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum What {
    /// Requests begun, or completed in role `access_log`.
    Requests,
    /// Attempts that reached a connection.
    Attempts,
    /// Responses of a class (0 to 5) or code.
    Responses(u32),
    /// Nanoseconds times requests in flight.
    InflightNs,
}

/// One running total of one series.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Counter {
    /// Number of the `Direction`.
    pub direction: i32,
    pub cluster: String,
    pub what: What,
}

/// Running totals of every instance that reported.
#[derive(Debug, Default)]
pub struct Totals {
    highest: BTreeMap<(u64, Counter), u64>,
    /// In flight by instance, direction and cluster, as last reported.
    inflight: BTreeMap<(u64, i32, String), u64>,
}

/// The running totals in a report.
pub(crate) fn counters(report: &v1::Report) -> Vec<(Counter, u64)> {
    let mut all = Vec::new();
    for series in &report.series {
        let mut push = |what, value: Option<u64>| {
            if let Some(value) = value {
                let counter = Counter {
                    direction: series.direction,
                    cluster: series.cluster.clone(),
                    what,
                };
                all.push((counter, value));
            }
        };
        push(What::Requests, series.requests);
        push(What::Attempts, series.upstream_attempts);
        push(What::InflightNs, series.inflight_ns);
        for responses in &series.responses {
            push(What::Responses(responses.code), Some(responses.total));
        }
    }
    all
}

// === impl Totals ===

impl Totals {
    pub(crate) fn merge(&mut self, instance: u64, report: &v1::Report) {
        for (counter, value) in counters(report) {
            let highest = self.highest.entry((instance, counter)).or_default();
            *highest = value.max(*highest);
        }
        for series in &report.series {
            if let Some(inflight) = series.inflight {
                let key = (instance, series.direction, series.cluster.clone());
                self.inflight.insert(key, inflight);
            }
        }
    }

    /// Sum of `what` over all series and instances; `None` if nobody ever reported it.
    pub fn sum(&self, what: What) -> Option<u64> {
        self.sum_where(|counter| counter.what == what)
    }

    /// Sum over all instances of the counters that `wanted` picks; `None` if there is none.
    pub fn sum_where(&self, wanted: impl Fn(&Counter) -> bool) -> Option<u64> {
        let picked = self
            .highest
            .iter()
            .filter(|((_, counter), _)| wanted(counter));
        picked.map(|(_, value)| *value).reduce(|a, b| a + b)
    }

    /// Requests in flight, over all series and instances; `None` if nobody ever reported it.
    pub fn inflight(&self) -> Option<u64> {
        self.inflight.values().copied().reduce(|a, b| a + b)
    }

    pub fn instances(&self) -> Vec<u64> {
        let mut all: Vec<_> = self.highest.keys().map(|(instance, _)| *instance).collect();
        all.dedup();
        all
    }
}
