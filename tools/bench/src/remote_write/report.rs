//! Results and limits.

use std::fmt;

use serde::Serialize;

/// CPU of encoding, compressing and signing, beside bare prost and Snappy of the same samples.
const CPU_RATIO_MAX: f64 = 1.3;
/// Growth of resident memory from a million to ten million samples.
const GROWTH_MAX: f64 = 1.1;

/// All figures. Rates are by the clock, for comparison on one machine only; the ratio is of CPU
/// time.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) samples_per_round: usize,
    pub(crate) encode_sign_ns_per_sample: f64,
    pub(crate) bare_ns_per_sample: f64,
    pub(crate) cpu_ratio: f64,
    pub(crate) resident_early_bytes: u64,
    pub(crate) resident_late_bytes: u64,
    pub(crate) bytes_per_sample: f64,
    pub(crate) append_samples_per_second: f64,
    pub(crate) replay_samples_per_second: f64,
    pub(crate) sent_samples_per_second: f64,
    pub(crate) sender_cpu_share: f64,
    pub(crate) prometheus_cpu_share: f64,
}

// === impl Report ===

impl Report {
    pub(crate) fn is_within_limits(&self) -> bool {
        self.cpu_ratio <= CPU_RATIO_MAX && self.growth() <= GROWTH_MAX
    }

    #[expect(clippy::cast_precision_loss, reason = "memory is far below 2^53 bytes")]
    fn growth(&self) -> f64 {
        self.resident_late_bytes as f64 / self.resident_early_bytes as f64
    }

    /// What the way into Prometheus was limited by.
    fn limit(&self) -> &'static str {
        if self.prometheus_cpu_share > self.sender_cpu_share {
            "Prometheus uses more CPU than the sender"
        } else {
            "the sender uses more CPU than Prometheus"
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "encode, compress, sign  {:.0} ns of CPU a sample, bare prost and Snappy {:.0}: {:.2} times (at most {CPU_RATIO_MAX})",
            self.encode_sign_ns_per_sample, self.bare_ns_per_sample, self.cpu_ratio
        )?;
        writeln!(
            f,
            "memory                  {} KiB after 1 million samples, {} KiB after 10 million: {:.2} times (at most {GROWTH_MAX})",
            self.resident_early_bytes / 1024,
            self.resident_late_bytes / 1024,
            self.growth()
        )?;
        writeln!(
            f,
            "queue on disk           {:.0} samples/s in, {:.0} out after a restart, {:.0} bytes each",
            self.append_samples_per_second, self.replay_samples_per_second, self.bytes_per_sample
        )?;
        writeln!(
            f,
            "into a real Prometheus  {:.0} samples/s; cores: sender {:.2}, Prometheus {:.2}: {}",
            self.sent_samples_per_second,
            self.sender_cpu_share,
            self.prometheus_cpu_share,
            self.limit()
        )
    }
}
