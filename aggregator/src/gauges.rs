//! Gauges and refusals of the store and the directory, read at each scrape.

use std::fmt;
use std::sync::Arc;

use aggregator_core::store::Store;
use aggregator_directory::Directory;
use common_time::Clock;
use common_tls::ReloadableCert;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

/// Reads the store at each scrape.
struct StoreGauges {
    store: Arc<Store>,
    directory: Arc<Directory>,
    clock: Clock,
}

/// Reads the certificates of the API and, if sidecars connect by TLS, of the ingest at each scrape.
#[derive(Debug)]
struct CertificateGauges {
    api: ReloadableCert,
    ingest: Option<ReloadableCert>,
}

/// Registers the store's gauges and the build in `registry`.
pub(crate) fn register(
    registry: &mut Registry,
    store: Arc<Store>,
    directory: Arc<Directory>,
    clock: Clock,
) {
    let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("build", "Which build this is", build);
    registry.register_collector(Box::new(StoreGauges {
        store,
        directory,
        clock,
    }));
}

/// Registers the expiry of certificates.
pub(crate) fn register_certificates(
    registry: &mut Registry,
    api: ReloadableCert,
    ingest: Option<ReloadableCert>,
) {
    registry.register_collector(Box::new(CertificateGauges { api, ingest }));
}

// === impl CertificateGauges ===

impl Collector for CertificateGauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let ingest = self.ingest.as_ref().map(|cert| {
            (
                "ingest_certificate_expiry_timestamp_seconds",
                "When the certificate for sidecars expires, in seconds of Unix time",
                cert,
            )
        });
        let api = (
            "api_certificate_expiry_timestamp_seconds",
            "When the certificate of the API expires, in seconds of Unix time",
            &self.api,
        );
        for (name, help, cert) in [api].into_iter().chain(ingest) {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            let expires = i64::try_from(cert.expires()).unwrap_or(i64::MAX);
            ConstGauge::new(expires).encode(metric)?;
        }
        Ok(())
    }
}

// === impl StoreGauges ===

impl Collector for StoreGauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let counts = self.store.counts(self.clock.now());
        let known = self.directory.sizes();
        let help = "Pods in the store, by state";
        let mut states = encoder.encode_descriptor("pods", help, None, MetricType::Gauge)?;
        for (state, count) in [
            ("new", counts.pods_new),
            ("live", counts.pods_live),
            ("held", counts.pods_held),
            ("gone", counts.pods_gone),
        ] {
            let labels = [("state", state)];
            gauge(count).encode(states.encode_family(&labels)?)?;
        }
        for (name, help, count) in [
            (
                "pods_known",
                "Pods in the directory: those that can be asked for",
                known.pods,
            ),
            (
                "services_known",
                "Services in the directory",
                known.services,
            ),
            (
                "owners_known",
                "Owners of pods in the directory",
                known.owners,
            ),
            (
                "autoscalers_known",
                "HorizontalPodAutoscalers in the directory",
                known.autoscalers,
            ),
            (
                "streams",
                "Open streams of sidecars that count",
                counts.streams,
            ),
            (
                "instances",
                "Instances of counters in the store",
                counts.instances,
            ),
            (
                "series",
                "Series of all instances in the store",
                counts.series,
            ),
        ] {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            gauge(count).encode(metric)?;
        }
        let by_store = counts.refused.iter();
        refused(
            &mut encoder,
            "store_refused",
            "What the store refused, by reason",
            by_store.map(|(reason, count)| (reason.as_str(), *count)),
        )?;
        refused(
            &mut encoder,
            "directory_refused",
            "What the directory of pods, services, owners and autoscalers refused, by reason",
            self.directory.refused().into_iter(),
        )
    }
}

impl fmt::Debug for StoreGauges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreGauges").finish_non_exhaustive()
    }
}

fn gauge(count: usize) -> ConstGauge<i64> {
    ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX))
}

fn refused(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    counts: impl Iterator<Item = (&'static str, u64)>,
) -> Result<(), fmt::Error> {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (reason, count) in counts {
        let labels = [("reason", reason)];
        ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}
