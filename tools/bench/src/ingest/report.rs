//! Results and limits.

use std::fmt;

use serde::Serialize;

use super::pairs::{Rounds, cpu, growth, memory};
use super::run::Accounts;
use super::size::Growth;
use crate::interval::Interval;

/// CPU of a report as a multiple of the bare server's, at every size.
const CPU_RATIO_MAX: f64 = 1.25;
/// Memory of the sidecars, without the program's own, as a multiple of the bare server's.
const MEMORY_RATIO_MAX: f64 = 1.05;
/// Saturated reports a second and core, as a part of the bare server's.
const SATURATED_MIN: f64 = 0.7;
/// From this size on the limits of CPU and of memory per sidecar apply.
const LARGE: u32 = 15_000;
const CORES_MAX: f64 = 1.0;
/// Bytes of a sidecar, all in.
const BYTES_MAX: f64 = 40.0 * 1024.0;

/// The result of a run.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    other: String,
    tls: bool,
    sizes: Vec<Size>,
    /// `None` with fewer than three sizes.
    growth: Option<Growth>,
    /// `None` unless it was measured.
    saturated: Option<Saturated>,
}

#[derive(Debug, Serialize)]
struct Size {
    sidecars: u32,
    cores: Interval,
    cpu_us_per_report: Interval,
    other_cpu_us_per_report: Interval,
    cpu_ratio: Interval,
    resident_bytes: Interval,
    other_resident_bytes: Interval,
    /// Of what the sidecars take, without the programs themselves.
    memory_ratio: Interval,
    bytes_per_sidecar: f64,
    rounds: Rounds,
}

#[derive(Debug, Serialize)]
struct Saturated {
    /// Reports over the CPU time they took.
    reports_per_s_per_core: Interval,
    other_reports_per_s_per_core: Interval,
    ratio: Interval,
    limited_by: &'static str,
    rounds: Rounds,
}

fn rate(accounts: &Accounts) -> f64 {
    1e6 / accounts.cpu_us_per_report
}

// === impl Report ===

impl Report {
    /// `None` if there are too few rounds for intervals.
    pub(super) fn new(
        other: String,
        tls: bool,
        sizes: Vec<Rounds>,
        saturated: Option<Rounds>,
    ) -> Option<Self> {
        let sizes: Vec<_> = sizes.into_iter().map(Size::new).collect::<Option<_>>()?;
        let points = sizes
            .iter()
            .map(|size| (f64::from(size.sidecars), size.resident_bytes.median));
        Some(Self {
            other,
            tls,
            growth: Growth::of(&points.collect::<Vec<_>>()),
            sizes,
            saturated: match saturated {
                Some(rounds) => Some(Saturated::new(rounds)?),
                None => None,
            },
        })
    }

    pub(super) fn is_within_limits(&self) -> bool {
        let saturated = self.saturated.as_ref();
        self.sizes.iter().all(Size::is_within_limits)
            && saturated.is_none_or(|saturated| saturated.ratio.median >= SATURATED_MIN)
    }
}

// === impl Size ===

impl Size {
    fn new(rounds: Rounds) -> Option<Self> {
        let resident_bytes = rounds.ours(memory)?;
        Some(Self {
            sidecars: rounds.sidecars,
            cores: rounds.ours(|accounts| accounts.cores)?,
            cpu_us_per_report: rounds.ours(cpu)?,
            other_cpu_us_per_report: rounds.other(cpu)?,
            cpu_ratio: rounds.ratio(cpu)?,
            resident_bytes,
            other_resident_bytes: rounds.other(memory)?,
            memory_ratio: rounds.ratio(growth)?,
            bytes_per_sidecar: resident_bytes.median / f64::from(rounds.sidecars),
            rounds,
        })
    }

    fn is_within_limits(&self) -> bool {
        let compared =
            self.cpu_ratio.median <= CPU_RATIO_MAX && self.memory_ratio.median <= MEMORY_RATIO_MAX;
        let cores = self.cores.median * f64::from(LARGE) / f64::from(self.sidecars);
        let large =
            self.sidecars < LARGE || (cores <= CORES_MAX && self.bytes_per_sidecar <= BYTES_MAX);
        compared && large
    }
}

// === impl Saturated ===

impl Saturated {
    fn new(rounds: Rounds) -> Option<Self> {
        let cores = rounds.ours(|accounts| accounts.cores)?;
        Some(Self {
            reports_per_s_per_core: rounds.ours(rate)?,
            other_reports_per_s_per_core: rounds.other(rate)?,
            ratio: rounds.ratio(rate)?,
            limited_by: if cores.median > 0.9 {
                "the server's processor"
            } else {
                "the senders' processor"
            },
            rounds,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tls = if self.tls { "TLS" } else { "plain" };
        writeln!(
            f,
            "one report a second and sidecar, {tls}; beside {}; medians of rounds with 95 % intervals",
            self.other
        )?;
        for size in &self.sizes {
            let mib = |bytes: Interval| bytes.median / 1024.0 / 1024.0;
            let over = if size.is_within_limits() {
                ""
            } else {
                "  OVER"
            };
            writeln!(
                f,
                "{:>7} sidecars: {:.2} cores, {:.1} us/report ({:.1}), {}",
                size.sidecars,
                size.cores.median,
                size.cpu_us_per_report.median,
                size.other_cpu_us_per_report.median,
                size.cpu_ratio.shown(2, "times")
            )?;
            writeln!(
                f,
                "{:>17} {:.1} MiB ({:.1}), {:.1} KiB a sidecar, without the programs {}{over}",
                "",
                mib(size.resident_bytes),
                mib(size.other_resident_bytes),
                size.bytes_per_sidecar / 1024.0,
                size.memory_ratio.shown(2, "times")
            )?;
        }
        if let Some(growth) = self.growth {
            writeln!(
                f,
                "memory grows as {:.1} MiB and {:.1} KiB a sidecar, within {:.1} %",
                growth.fixed_bytes / 1024.0 / 1024.0,
                growth.bytes_per_sidecar / 1024.0,
                growth.largest_error * 100.0
            )?;
        }
        if let Some(saturated) = &self.saturated {
            writeln!(
                f,
                "saturated: {:.0} reports/s and core ({:.0}), {}, limited by {}",
                saturated.reports_per_s_per_core.median,
                saturated.other_reports_per_s_per_core.median,
                saturated.ratio.shown(2, "times"),
                saturated.limited_by
            )?;
        }
        writeln!(
            f,
            "limits: CPU {CPU_RATIO_MAX} and memory of sidecars {MEMORY_RATIO_MAX} times the other's, saturated {SATURATED_MIN}; \
             from {LARGE} on one core for {LARGE} and {} KiB a sidecar",
            BYTES_MAX / 1024.0
        )
    }
}
