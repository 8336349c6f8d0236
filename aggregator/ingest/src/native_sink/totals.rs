//! Converts Envoy's statistics to series.
//!
//! | Statistic | Converted to |
//! |---|---|
//! | `http.PREFIX.downstream_rq_total` of an inbound listener | inbound `requests` |
//! | `http.PREFIX.downstream_rq_Nxx`, `..._active` | inbound responses by class, in flight |
//! | `cluster.NAME.upstream_rq_total` | `upstream_attempts` of the cluster |
//! | `cluster.NAME.upstream_rq_Nxx` | responses of the cluster by class |
//!
//! The variable part is in the name, or in a label (`emit_tags_as_labels`). All other statistics
//! are ignored.

use std::collections::BTreeMap;

use aggregator_core::limits::{CLUSTER_BYTES_MAX, TOTAL_MAX};
use aggregator_core::report::{ResponseCode, SeriesTotals};
use aggregator_core::series::{Direction, SeriesKey};

use crate::limits::SERIES_PER_REPORT_MAX;
use crate::native_sink::message::{Metric, MetricFamily};
use crate::native_sink::node::Sidecar;
use crate::parse::{self, FieldError};

/// Prefixes of clusters for the pod's own application.
const INBOUND_CLUSTERS: [&str; 2] = ["cds_ingress_", "inbound|"];

/// Prefix of clusters for the aggregator: Envoy counts its own reporting stream there, which is not
/// the pod's traffic.
const OWN_CLUSTERS: &str = "meshmeter";

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Totals {
    pub(crate) series: BTreeMap<SeriesKey, SeriesTotals>,
    /// When Envoy took the snapshot, on its clock; 0 if unknown.
    pub(crate) at_ms: u64,
    /// Clusters beyond [`SERIES_PER_REPORT_MAX`].
    pub(crate) refused: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Statistic<'a> {
    Http(&'a str, Part),
    Cluster(&'a str, Part),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Part {
    Total,
    Active,
    Class(u32),
}

// === impl Totals ===

impl Totals {
    /// Reads the statistics of `sidecar`.
    pub(crate) fn of(sidecar: &Sidecar, families: &[MetricFamily]) -> Result<Self, FieldError> {
        let mut totals = Self::default();
        let inbound = SeriesKey {
            direction: Direction::Inbound,
            cluster: "".into(),
        };
        // Envoy omits a counter until it first rises; without this, a pod without requests would be
        // `NotCounted` instead of 0.
        totals.series.insert(
            inbound,
            SeriesTotals {
                requests: Some(0),
                ..SeriesTotals::default()
            },
        );
        for family in families {
            for metric in &family.metric {
                totals.at_ms = totals
                    .at_ms
                    .max(u64::try_from(metric.timestamp_ms).unwrap_or(0));
                match statistic(&family.name, metric) {
                    Some(Statistic::Http(prefix, part)) if sidecar.is_inbound(prefix) => {
                        totals.http(part, value(&family.name, metric)?);
                    }
                    Some(Statistic::Cluster(cluster, part))
                        if !cluster.starts_with(OWN_CLUSTERS) =>
                    {
                        totals.cluster(
                            &family.name,
                            cluster,
                            part,
                            value(&family.name, metric)?,
                        )?;
                    }
                    _ => {}
                }
            }
        }
        Ok(totals)
    }

    fn http(&mut self, part: Part, value: u64) {
        let key = SeriesKey {
            direction: Direction::Inbound,
            cluster: "".into(),
        };
        let series = self.series.entry(key).or_default();
        // Several inbound listeners add up.
        let add = |sum: &mut Option<u64>| *sum = Some(sum.unwrap_or(0).saturating_add(value));
        match part {
            Part::Total => add(&mut series.requests),
            Part::Active => add(&mut series.inflight),
            Part::Class(class) => {
                if let Some(code) = ResponseCode::new(class) {
                    let sum = series.responses.entry(code).or_default();
                    *sum = sum.saturating_add(value);
                }
            }
        }
    }

    fn cluster(
        &mut self,
        name: &str,
        cluster: &str,
        part: Part,
        value: u64,
    ) -> Result<(), FieldError> {
        parse::text(field(name), cluster, CLUSTER_BYTES_MAX)?;
        let inbound = INBOUND_CLUSTERS
            .iter()
            .any(|prefix| cluster.starts_with(prefix));
        let direction = if inbound {
            Direction::Inbound
        } else {
            Direction::Outbound
        };
        let key = SeriesKey {
            direction,
            cluster: cluster.into(),
        };
        if !self.series.contains_key(&key) && self.series.len() >= SERIES_PER_REPORT_MAX {
            self.refused += 1;
            return Ok(());
        }
        let series = self.series.entry(key).or_default();
        match part {
            Part::Total => series.upstream_attempts = Some(value),
            Part::Class(class) => {
                if let Some(code) = ResponseCode::new(class) {
                    series.responses.insert(code, value);
                }
            }
            Part::Active => {}
        }
        Ok(())
    }
}

fn statistic<'a>(name: &'a str, metric: &'a Metric) -> Option<Statistic<'a>> {
    let label = |wanted: &str| {
        let found = metric.label.iter().find(|label| label.name == wanted);
        found.map(|label| label.value.as_str())
    };
    let class = || label("envoy.response_code_class")?.parse().ok();
    if let Some(rest) = name.strip_prefix("http.") {
        let (prefix, last) = apart(rest, label("envoy.http_conn_manager_prefix"))?;
        return Some(Statistic::Http(
            prefix,
            part(last.strip_prefix("downstream_rq_")?, class)?,
        ));
    }
    let rest = name.strip_prefix("cluster.")?;
    let (cluster, last) = apart(rest, label("envoy.cluster_name"))?;
    Some(Statistic::Cluster(
        cluster,
        part(last.strip_prefix("upstream_rq_")?, class)?,
    ))
}

/// The variable part of a name (the label, or the text before the last dot) and its last part.
fn apart<'a>(rest: &'a str, label: Option<&'a str>) -> Option<(&'a str, &'a str)> {
    match label {
        Some(label) => Some((label, rest)),
        None => rest.rsplit_once('.'),
    }
}

fn part(last: &str, class: impl Fn() -> Option<u32>) -> Option<Part> {
    match last {
        "total" => Some(Part::Total),
        "active" => Some(Part::Active),
        "xx" => class().map(Part::Class),
        _ => match last.as_bytes() {
            [digit @ b'1'..=b'5', b'x', b'x'] => Some(Part::Class(u32::from(digit - b'0'))),
            _ => None,
        },
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "checked: whole, and at most 2^53"
)]
fn value(name: &str, metric: &Metric) -> Result<u64, FieldError> {
    let number = metric.counter.or(metric.gauge);
    let value = number.map_or(f64::NAN, |number| number.value);
    #[expect(clippy::cast_precision_loss, reason = "2^53 is exact")]
    let most = TOTAL_MAX as f64;
    if value.fract() == 0.0 && (0.0..=most).contains(&value) {
        return Ok(value as u64);
    }
    Err(FieldError::Invalid {
        field: field(name),
        value: value.to_string(),
        expected: "a whole number from 0 to 2^53 (report_counters_as_deltas must be false)"
            .to_owned(),
    })
}

/// The field for an error; escaped and cut, since the name of a statistic can be anything.
fn field(name: &str) -> String {
    let name: String = name.chars().take(128).collect();
    format!("envoy_metrics.{}", name.escape_debug())
}

#[cfg(test)]
mod tests;
