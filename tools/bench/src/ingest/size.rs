//! What a size of the fleet asks for: memory as the chart's table has it, open files.

use anyhow::{Context as _, Result};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;

/// Sidecars and the memory limit that `deploy/README.md` gives an aggregator for them, in MiB.
const MEMORY_LIMITS: [(u32, u64); 7] = [
    (1_000, 512),
    (5_000, 1024),
    (10_000, 1536),
    (15_000, 2048),
    (50_000, 6 * 1024),
    (100_000, 12 * 1024),
    (150_000, 18 * 1024),
];
/// Sidecars in one process of senders: loopback has ports for more, a file table may not.
pub(super) const SIDECARS_PER_PROCESS: u32 = 15_000;
/// Files of an aggregator that are no connections of sidecars: its own reserve, and the listeners
/// of the API and of the admin pages with their reserves (`common_http::descriptors`).
const OTHER_FILES: u64 = 1_600;
/// Open files that are asked for.
const FILES: u64 = 200_000;

/// Resident memory by number of sidecars, as a line through the sizes that were measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Growth {
    pub(super) fixed_bytes: f64,
    pub(super) bytes_per_sidecar: f64,
    /// Largest distance of a size from the line, as a part of what was measured.
    pub(super) largest_error: f64,
}

/// The memory limit for so many sidecars, in bytes.
pub(super) fn memory_limit(sidecars: u32) -> u64 {
    let fits = MEMORY_LIMITS.iter().find(|(most, _)| sidecars <= *most);
    fits.map_or(u64::MAX, |(_, mib)| mib << 20)
}

/// Raises the limit of open files, of children too, as far as the machine allows; returns the most
/// sidecars that one server can then hold.
pub(super) fn raise_files() -> Result<u32> {
    let before = getrlimit(Resource::Nofile);
    let limit = |files| Rlimit {
        current: Some(files),
        maximum: Some(files),
    };
    let most = before.maximum.unwrap_or(FILES);
    // Only a privileged user may raise the upper limit.
    let files = if most < FILES && setrlimit(Resource::Nofile, limit(FILES)).is_ok() {
        FILES
    } else {
        let raised = Rlimit {
            current: Some(most.min(FILES)),
            maximum: before.maximum,
        };
        setrlimit(Resource::Nofile, raised).context("raise the limit of open files")?;
        most.min(FILES)
    };
    Ok(u32::try_from(files.saturating_sub(OTHER_FILES)).unwrap_or(u32::MAX))
}

// === impl Growth ===

impl Growth {
    /// By least squares; `None` with fewer than three sizes.
    pub(super) fn of(points: &[(f64, f64)]) -> Option<Self> {
        if points.len() < 3 {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "a handful of sizes")]
        let count = points.len() as f64;
        let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
        let (x, y) = (mean(|point| point.0), mean(|point| point.1));
        let spread: f64 = points.iter().map(|point| (point.0 - x).powi(2)).sum();
        let together: f64 = points
            .iter()
            .map(|point| (point.0 - x) * (point.1 - y))
            .sum();
        let slope = together / spread;
        let fixed = y - slope * x;
        let errors = points
            .iter()
            .map(|point| ((fixed + slope * point.0 - point.1) / point.1).abs());
        Some(Self {
            fixed_bytes: fixed,
            bytes_per_sidecar: slope,
            largest_error: errors.fold(0.0, f64::max),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The limits are those that the documents tell users to set.
    #[test]
    fn limits_are_those_of_the_chart() {
        let read = |path: &str| {
            let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../");
            std::fs::read_to_string(format!("{root}{path}")).unwrap()
        };
        let documents = read("deploy/README.md") + &read("docs/OPERATIONS.md");
        for (sidecars, mib) in MEMORY_LIMITS {
            let thousands = format!("{},000", sidecars / 1_000);
            let size = if mib % 1024 == 0 {
                format!("| {}Gi |", mib / 1024)
            } else {
                format!("| {mib}Mi |")
            };
            let mut rows = documents.lines().map(str::trim);
            let found = rows.any(|row| {
                let first = row.trim_start_matches("| up to ").trim_start_matches("| ");
                first.starts_with(&format!("{thousands} ")) && row.contains(&size)
            });
            assert!(found, "{sidecars}: {size}");
        }
        assert_eq!(memory_limit(15_001), 6 << 30);
    }

    #[test]
    fn growth_is_the_line_through_the_sizes() {
        let points = [(1.0, 13.0), (2.0, 23.0), (4.0, 43.0)];
        let growth = Growth::of(&points).unwrap();
        assert!((growth.fixed_bytes - 3.0).abs() < 1e-9, "{growth:?}");
        assert!((growth.bytes_per_sidecar - 10.0).abs() < 1e-9);
        assert!(growth.largest_error < 1e-9);
        assert_eq!(Growth::of(&points[..2]), None);
        let bent = Growth::of(&[(1.0, 10.0), (2.0, 20.0), (3.0, 60.0)]).unwrap();
        assert!(bent.largest_error > 0.1);
    }
}
