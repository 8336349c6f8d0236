//! Metrics of what HPAs read: for each HPA and metric the last read, as long as both are there.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aggregator_directory::Directory;
use common_time::{Clock, Monotonic};
use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::autoscalers::{Computed, ReadingHpa};
use crate::metrics::Summary;

/// An HPA that read nothing for so long has no series: another replica is asked, or none.
const STALE: Duration = Duration::from_mins(10);

/// HPAs with series of their own: as many as the directory holds.
const HPAS_MAX: usize = aggregator_core::limits::AUTOSCALERS_MAX;

/// Metrics of one HPA with series of their own.
const METRICS_PER_HPA_MAX: usize = 16;

/// Clones share what they know.
#[derive(Clone, Debug, Default)]
pub(crate) struct HpaReads {
    /// By namespace and name. Locked to add one read, or to copy all.
    hpas: Arc<Mutex<KnownHpas>>,
}

/// Namespace and name of an HPA.
type HpaKey = (Arc<str>, Arc<str>);

type KnownHpas = BTreeMap<HpaKey, Vec<MetricReads>>;

/// The reads of one metric by one HPA.
#[derive(Clone, Debug, PartialEq)]
struct MetricReads {
    metric: Arc<str>,
    last: Monotonic,
    /// Age in seconds of the oldest value in the last answer; `None` before the first one.
    age: Option<f64>,
    /// Value over target in the last answer.
    ratio: Option<f64>,
    /// Pods left out in the last read.
    left_out: usize,
    answered: u64,
    refused: u64,
}

/// What the series are encoded from.
struct Series {
    reads: HpaReads,
    directory: Arc<Directory>,
    clock: Clock,
}

/// One series of a family.
type Sample<'a> = (&'a str, &'a str, &'a MetricReads);

// === impl HpaReads ===

impl HpaReads {
    /// What `/metrics` shows: HPAs that `directory` knows and that read lately.
    pub(crate) fn collector(&self, directory: Arc<Directory>, clock: Clock) -> Box<dyn Collector> {
        Box::new(Series {
            reads: self.clone(),
            directory,
            clock,
        })
    }

    /// Observes a read of `hpa`: its answer, or a refusal.
    pub(crate) fn observe(
        &self,
        now: Monotonic,
        hpa: &ReadingHpa,
        answer: Option<(&Summary, Computed)>,
        left_out: usize,
    ) {
        let key = (Arc::clone(&hpa.info.namespace), Arc::clone(&hpa.info.name));
        let metric = hpa.metric_name();
        let mut hpas = self.hpas.lock();
        if hpas.len() >= HPAS_MAX && !hpas.contains_key(&key) {
            return;
        }
        let metrics = hpas.entry(key).or_default();
        let known = metrics.iter().position(|reads| *reads.metric == *metric);
        let place = known.unwrap_or(metrics.len());
        if known.is_none() && place < METRICS_PER_HPA_MAX {
            metrics.push(MetricReads::new(metric));
        }
        let Some(reads) = metrics.get_mut(place) else {
            return;
        };
        reads.last = now;
        reads.left_out = left_out;
        match answer {
            Some((summary, computed)) => {
                reads.answered += 1;
                reads.age = Some(summary.age.total().as_secs_f64());
                reads.ratio = computed.ratio;
            }
            None => reads.refused += 1,
        }
    }

    /// Forgets HPAs that are not `is_kept`, and what was not read `since`; returns a copy of the
    /// rest.
    fn keep(&self, is_kept: impl Fn(&HpaKey) -> bool, since: Monotonic) -> KnownHpas {
        let mut hpas = self.hpas.lock();
        hpas.retain(|key, metrics| {
            metrics.retain(|reads| reads.last >= since);
            !metrics.is_empty() && is_kept(key)
        });
        hpas.clone()
    }
}

// === impl MetricReads ===

impl MetricReads {
    fn new(metric: &str) -> Self {
        Self {
            metric: metric.into(),
            last: Monotonic::default(),
            age: None,
            ratio: None,
            left_out: 0,
            answered: 0,
            refused: 0,
        }
    }
}

// === impl Series ===

impl Collector for Series {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let directory = &self.directory;
        let is_kept = |(namespace, name): &HpaKey| directory.autoscaler(namespace, name).is_some();
        let kept = self.reads.keep(is_kept, self.clock.now().before(STALE));
        let samples: Vec<Sample<'_>> = kept
            .iter()
            .flat_map(|((namespace, name), metrics)| {
                metrics
                    .iter()
                    .map(move |reads| (&**namespace, &**name, reads))
            })
            .collect();
        gauges(
            &mut encoder,
            "hpa_read_age_seconds",
            "Age of the oldest value in the last answer that an autoscaler got, by namespace, hpa and metric",
            &samples,
            |reads| reads.age,
        )?;
        gauges(
            &mut encoder,
            "hpa_read_value_ratio",
            "Value over target in the last answer that an autoscaler got, by namespace, hpa and metric: above 1 it wants more \
             replicas",
            &samples,
            |reads| reads.ratio,
        )?;
        let left_out = |reads: &MetricReads| u32::try_from(reads.left_out).ok().map(f64::from);
        gauges(
            &mut encoder,
            "hpa_read_pods_left_out",
            "Pods without a value in the last read of an autoscaler, by namespace, hpa and metric",
            &samples,
            left_out,
        )?;
        let help = "Reads of metrics by autoscalers, by namespace, hpa, metric and result (answered, refused)";
        let mut family = encoder.encode_descriptor("hpa_reads", help, None, MetricType::Counter)?;
        for (namespace, hpa, reads) in samples {
            for (result, count) in [("answered", reads.answered), ("refused", reads.refused)] {
                let labels = [
                    ("namespace", namespace),
                    ("hpa", hpa),
                    ("metric", &*reads.metric),
                    ("result", result),
                ];
                ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Series").finish_non_exhaustive()
    }
}

/// A family of gauges; a series without a value is left out.
fn gauges(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    samples: &[Sample<'_>],
    value: impl Fn(&MetricReads) -> Option<f64>,
) -> Result<(), fmt::Error> {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    for (namespace, hpa, reads) in samples {
        let labels = [
            ("namespace", *namespace),
            ("hpa", *hpa),
            ("metric", &*reads.metric),
        ];
        if let Some(value) = value(reads) {
            ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}
