//! The ledger of reads: restored from its folder at the start, written to it while it runs, and
//! measured.

use std::fmt;
use std::sync::Arc;

use aggregator_journal::{Counts, Disk, Writer};
use aggregator_ledger::Ledger;
use anyhow::{Context as _, Result};
use common_time::Clock;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use crate::config::ReadsConfig;

/// The ledger, and what writes it to disk.
pub(crate) struct Reads {
    pub(crate) ledger: Arc<Ledger>,
    /// `None` without a folder.
    writer: Option<Writer>,
    counts: Arc<Counts>,
}

/// Reads the ledger's sizes at each scrape.
struct LedgerGauges {
    ledger: Arc<Ledger>,
    counts: Arc<Counts>,
}

// === impl Reads ===

impl Reads {
    /// A ledger of at most `bytes`, with what its folder holds.
    pub(crate) async fn open(config: ReadsConfig, bytes: usize, clock: &Clock) -> Result<Self> {
        let Some(folder) = config.folder else {
            return Ok(Self {
                ledger: Arc::new(Ledger::new(bytes)),
                writer: None,
                counts: Arc::default(),
            });
        };
        let now = clock.wall();
        let named = folder.display().to_string();
        let opened = tokio::task::spawn_blocking(move || {
            let ledger = Ledger::new(bytes);
            let disk = Disk::open(&folder, config.folder_bytes, now, &ledger)?;
            std::io::Result::Ok((ledger, disk))
        });
        let (ledger, disk) = opened
            .await
            .context("restore reads")?
            .with_context(|| format!("--reads-dir {named}: cannot be used"))?;
        let counts = disk.counts();
        tracing::info!(
            folder = named,
            restored = counts.restored(),
            "ledger of reads restored"
        );
        let (sender, writer) = Writer::new(disk, clock.clone());
        Ok(Self {
            ledger: Arc::new(ledger.with_journal(Arc::new(sender))),
            writer: Some(writer),
            counts,
        })
    }

    /// Registers the ledger's metrics.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(LedgerGauges {
            ledger: Arc::clone(&self.ledger),
            counts: Arc::clone(&self.counts),
        }));
    }

    /// Writes reads to disk, if there is a folder, until `stop`.
    pub(crate) fn write_until(
        &mut self,
        stop: CancellationToken,
    ) -> impl Future<Output = ()> + Send + 'static {
        let writer = self.writer.take();
        async move {
            match writer {
                Some(writer) => writer.run(stop).await,
                None => stop.cancelled().await,
            }
        }
    }
}

// === impl LedgerGauges ===

impl Collector for LedgerGauges {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let sizes = self.ledger.sizes();
        let counts = &self.counts;
        let gauges = [
            (
                "ledger_bytes",
                "Memory that the ledger of reads takes",
                sizes.bytes as u64,
            ),
            (
                "ledger_limit_bytes",
                "Memory that the ledger of reads may take",
                sizes.bytes_max as u64,
            ),
            (
                "ledger_subjects",
                "Distinct readers in the ledger, with what they read",
                sizes.subjects as u64,
            ),
            (
                "ledger_disk_bytes",
                "Bytes of reads in the folder of --reads-dir",
                counts.bytes(),
            ),
        ];
        for (name, help, value) in gauges {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(metric)?;
        }
        let dropped = self
            .ledger
            .dropped()
            .map(|(reason, count)| (reason.as_str(), count));
        reasons(
            &mut encoder,
            "ledger_dropped",
            "Reads that lost their pods (details), and reads and changes that were forgotten before a day was over, since \
             the ledger was full",
            &dropped,
        )?;
        let lost = counts
            .lost()
            .map(|(reason, count)| (reason.as_str(), count));
        reasons(
            &mut encoder,
            "ledger_disk_lost",
            "Reads and changes that are not in the folder of --reads-dir, and batches of it that were damaged, by reason",
            &lost,
        )?;
        for (name, help, value) in [
            (
                "ledger_disk_written",
                "Reads and changes written to --reads-dir",
                counts.written(),
            ),
            (
                "ledger_disk_restored",
                "Reads and changes restored from --reads-dir at the start",
                counts.restored(),
            ),
        ] {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            ConstCounter::new(value).encode(metric)?;
        }
        Ok(())
    }
}

impl fmt::Debug for LedgerGauges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LedgerGauges").finish_non_exhaustive()
    }
}

/// A family of counters by reason.
fn reasons(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    counts: &[(&'static str, u64)],
) -> Result<(), fmt::Error> {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (reason, count) in counts {
        let labels = [("reason", *reason)];
        ConstCounter::new(*count).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}
