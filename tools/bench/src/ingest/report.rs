//! Results and limits.

use std::fmt;

use serde::Serialize;

use super::run::{Accounts, real};

/// CPU and memory at [`COMPARED_AT`] sidecars, as a multiple of the bare server's.
const RATIO_MAX: f64 = 1.4;
const COMPARED_AT: u32 = 5_000;
/// From this size on the limits of CPU and of memory per sidecar apply.
const LARGE: u32 = 15_000;
const CORES_MAX: f64 = 1.0;
const BYTES_MAX: f64 = 40.0 * 1024.0;

/// The result of a run.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    sizes: Vec<Size>,
    saturated: Accounts,
    saturated_echo: Accounts,
    /// Reports a second that one processor takes in: saturated reports over the CPU time they took.
    reports_per_s_per_core: f64,
    limited_by: &'static str,
}

#[derive(Debug, Serialize)]
struct Size {
    sidecars: u32,
    meshmeter: Accounts,
    echo: Accounts,
    cpu_ratio: f64,
    memory_ratio: f64,
    bytes_per_sidecar: f64,
}

// === impl Report ===

impl Report {
    pub(super) fn new(
        sizes: &[(u32, Accounts, Accounts)],
        saturated: Accounts,
        saturated_echo: Accounts,
    ) -> Self {
        let size = |(sidecars, meshmeter, echo): &(u32, Accounts, Accounts)| Size {
            sidecars: *sidecars,
            meshmeter: *meshmeter,
            echo: *echo,
            cpu_ratio: meshmeter.cpu_us_per_report / echo.cpu_us_per_report,
            memory_ratio: real(meshmeter.resident_bytes) / real(echo.resident_bytes),
            bytes_per_sidecar: real(meshmeter.resident_bytes) / f64::from(*sidecars),
        };
        Self {
            sizes: sizes.iter().map(size).collect(),
            saturated,
            saturated_echo,
            reports_per_s_per_core: 1e6 / saturated.cpu_us_per_report,
            limited_by: if saturated.cores > 0.9 {
                "the server's processor"
            } else {
                "the senders' processor"
            },
        }
    }

    pub(super) fn is_within_limits(&self) -> bool {
        self.sizes.iter().all(Size::is_within_limits)
    }
}

// === impl Size ===

impl Size {
    fn is_within_limits(&self) -> bool {
        let compared = self.sidecars != COMPARED_AT
            || (self.cpu_ratio <= RATIO_MAX && self.memory_ratio <= RATIO_MAX);
        let large = self.sidecars < LARGE
            || (self.meshmeter.cores <= CORES_MAX && self.bytes_per_sidecar <= BYTES_MAX);
        compared && large
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "one report a second and sidecar; echo is a bare tonic server, in parentheses"
        )?;
        writeln!(
            f,
            "{:>9} {:>15} {:>19} {:>7} {:>17} {:>7} {:>12}",
            "sidecars", "cores", "CPU us/report", "ratio", "RSS MiB", "ratio", "KiB/sidecar"
        )?;
        for size in &self.sizes {
            let (ours, echo) = (size.meshmeter, size.echo);
            let mib = |bytes: u64| real(bytes) / 1024.0 / 1024.0;
            writeln!(
                f,
                "{:>9} {:>6.2} ({:>6.2}) {:>9.1} ({:>7.1}) {:>7.2} {:>8.1} ({:>6.1}) {:>7.2} {:>12.1}{}",
                size.sidecars,
                ours.cores,
                echo.cores,
                ours.cpu_us_per_report,
                echo.cpu_us_per_report,
                size.cpu_ratio,
                mib(ours.resident_bytes),
                mib(echo.resident_bytes),
                size.memory_ratio,
                size.bytes_per_sidecar / 1024.0,
                if size.is_within_limits() {
                    ""
                } else {
                    "  OVER"
                }
            )?;
        }
        writeln!(
            f,
            "saturated: {:.0} reports/s and core ({:.0} reports/s at {:.2} cores; echo {:.0} at {:.2}), limited by {}",
            self.reports_per_s_per_core,
            self.saturated.reports_per_s,
            self.saturated.cores,
            self.saturated_echo.reports_per_s,
            self.saturated_echo.cores,
            self.limited_by
        )?;
        writeln!(
            f,
            "limits: at {COMPARED_AT} sidecars {RATIO_MAX} times the echo; from {LARGE} on one core and {} KiB a sidecar",
            BYTES_MAX / 1024.0
        )
    }
}
