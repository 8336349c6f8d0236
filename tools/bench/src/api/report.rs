//! Results as a table and as one JSON document.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::Args;
use super::fleet::Fleet;

/// Longest time of 99 of 100 lists, in milliseconds.
const LIST_P99_MS_MAX: f64 = 10.0;

/// Longest time of 99 of 100 requests for one pod, in milliseconds.
const POD_P99_MS_MAX: f64 = 1.0;

/// Share of one processor for the answers to all autoscalers.
const CORES_MAX: f64 = 1.0;

/// Share of the reports that must have been applied in time for the rest to mean anything.
const REPORTS_SHARE_MIN: f64 = 0.98;

#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// All pods of a large workload, each with its value.
    List,
    /// All pods of a small one.
    ShortList,
    Pod,
    /// The sum over a workload.
    Workload,
}

/// What the autoscalers of one load asked.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) autoscalers: u32,
    pub(super) every: Duration,
    /// CPU time of the thread that asks and answers.
    pub(super) cpu: Duration,
    pub(super) elapsed: Duration,
    pub(super) times: Vec<(Kind, Duration)>,
}

#[derive(Debug, Serialize)]
pub(super) struct Report {
    pods: usize,
    pods_per_list: usize,
    reports_per_second: f64,
    loads: Vec<Load>,
    directory_bytes_per_pod: u64,
    store_bytes_per_pod: u64,
    limits: Vec<Limit>,
}

/// What one load came to.
#[derive(Debug, Serialize)]
struct Load {
    autoscalers: u32,
    every_s: f64,
    requests_per_second: f64,
    /// Share of one processor that answers took.
    cores: f64,
    times: Vec<Times>,
}

/// How long requests of one kind took, in milliseconds.
#[derive(Debug, Serialize)]
struct Times {
    kind: Kind,
    requests: usize,
    p50_ms: f64,
    p99_ms: f64,
    max_ms: f64,
}

/// A limit and the measured value.
#[derive(Debug, Serialize)]
struct Limit {
    what: String,
    bound: f64,
    found: f64,
    kept: bool,
}

// === impl Kind ===

impl Kind {
    /// Every kind, in the order of the table.
    pub(super) const ALL: [Self; 4] = [Self::List, Self::ShortList, Self::Pod, Self::Workload];
}

// === impl Report ===

impl Report {
    pub(super) fn new(
        args: &Args,
        fleet: &Fleet,
        asked: &[Asked],
        applied: u64,
        elapsed: Duration,
    ) -> Self {
        let loads: Vec<Load> = asked.iter().map(Load::of).collect();
        #[expect(clippy::cast_precision_loss, reason = "a count of reports")]
        let reports_per_second = applied as f64 / elapsed.as_secs_f64();
        let least = f64::from(args.reports) * REPORTS_SHARE_MIN;
        let mut limits = vec![Limit {
            what: "reports applied a second, at least".to_owned(),
            bound: least,
            found: reports_per_second,
            kept: reports_per_second >= least,
        }];
        for load in &loads {
            limits.extend(load.limits());
        }
        Self {
            pods: args.pods,
            pods_per_list: fleet.workloads.large_pods(),
            reports_per_second,
            loads,
            directory_bytes_per_pod: fleet.directory_bytes_per_pod,
            store_bytes_per_pod: fleet.store_bytes_per_pod,
            limits,
        }
    }

    pub(super) fn is_within_limits(&self) -> bool {
        self.limits.iter().all(|limit| limit.kept)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} pods in one namespace, {:.0} reports applied a second",
            self.pods, self.reports_per_second,
        )?;
        for load in &self.loads {
            load.write(f, self.pods_per_list)?;
        }
        writeln!(
            f,
            "\nresident bytes per watched pod   {:>8}",
            self.directory_bytes_per_pod
        )?;
        writeln!(
            f,
            "resident bytes per reporting pod {:>8}\n",
            self.store_bytes_per_pod
        )?;
        for Limit {
            what,
            bound,
            found,
            kept,
        } in &self.limits
        {
            let verdict = if *kept { "kept" } else { "EXCEEDED" };
            writeln!(f, "{what}: {found:.3}, limit {bound}: {verdict}")?;
        }
        Ok(())
    }
}

// === impl Load ===

impl Load {
    fn of(asked: &Asked) -> Self {
        let seconds = asked.elapsed.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "a count of requests")]
        let requests_per_second = asked.times.len() as f64 / seconds;
        Self {
            autoscalers: asked.autoscalers,
            every_s: asked.every.as_secs_f64(),
            requests_per_second,
            cores: asked.cpu.as_secs_f64() / seconds,
            times: Kind::ALL
                .iter()
                .map(|kind| Times::of(*kind, &asked.times))
                .collect(),
        }
    }

    fn limits(&self) -> Vec<Limit> {
        let of = format!("{} autoscalers", self.autoscalers);
        let p99 = |kind| {
            let times = self.times.iter().find(|times| times.kind == kind);
            times.map_or(f64::NAN, |times| times.p99_ms)
        };
        vec![
            Limit::at_most(
                format!("{of}: p99 of a list, ms"),
                LIST_P99_MS_MAX,
                p99(Kind::List),
            ),
            Limit::at_most(
                format!("{of}: p99 of one pod, ms"),
                POD_P99_MS_MAX,
                p99(Kind::Pod),
            ),
            Limit::at_most(format!("{of}: cores"), CORES_MAX, self.cores),
        ]
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, pods_per_list: usize) -> fmt::Result {
        writeln!(
            f,
            "\n{} autoscalers each {} s: {:.0} requests a second, {:.3} cores",
            self.autoscalers, self.every_s, self.requests_per_second, self.cores
        )?;
        writeln!(
            f,
            "{:<32}{:>9}{:>11}{:>11}{:>11}",
            "", "requests", "p50 ms", "p99 ms", "max ms"
        )?;
        for times in &self.times {
            let what = match times.kind {
                Kind::List => format!("list of {pods_per_list} pods"),
                Kind::ShortList => "list of a small workload".to_owned(),
                Kind::Pod => "one pod".to_owned(),
                Kind::Workload => "sum over a workload".to_owned(),
            };
            let Times {
                requests,
                p50_ms,
                p99_ms,
                max_ms,
                ..
            } = times;
            writeln!(
                f,
                "{what:<32}{requests:>9}{p50_ms:>11.3}{p99_ms:>11.3}{max_ms:>11.3}"
            )?;
        }
        Ok(())
    }
}

// === impl Limit ===

impl Limit {
    fn at_most(what: String, bound: f64, found: f64) -> Self {
        Self {
            what,
            bound,
            found,
            kept: found < bound,
        }
    }
}

// === impl Times ===

impl Times {
    fn of(kind: Kind, asked: &[(Kind, Duration)]) -> Self {
        let mut times: Vec<_> = asked
            .iter()
            .filter(|(of, _)| *of == kind)
            .map(|(_, took)| took.as_secs_f64() * 1000.0)
            .collect();
        times.sort_by(f64::total_cmp);
        Self {
            kind,
            requests: times.len(),
            p50_ms: quantile(&times, 50),
            p99_ms: quantile(&times, 99),
            max_ms: quantile(&times, 100),
        }
    }
}

/// The smallest of the sorted values that at least `percent` of them do not exceed; NaN of nothing.
fn quantile(sorted: &[f64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    let found = sorted.get(rank.saturating_sub(1));
    found.copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The 99th of a hundred, the last, and of few values the largest.
    #[test]
    fn quantiles_are_ranks() {
        let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
        assert!((quantile(&hundred, 99) - 99.0).abs() < 1e-9);
        assert!((quantile(&hundred, 50) - 50.0).abs() < 1e-9);
        assert!((quantile(&hundred, 100) - 100.0).abs() < 1e-9);
        assert!((quantile(&[1.0, 7.0], 99) - 7.0).abs() < 1e-9);
        assert!(quantile(&[], 99).is_nan());
    }

    /// A limit that is reached is not kept, and one that is not a number neither.
    #[test]
    fn limits_are_strict() {
        assert!(Limit::at_most(String::new(), 1.0, 0.9).kept);
        assert!(!Limit::at_most(String::new(), 1.0, 1.0).kept);
        assert!(!Limit::at_most(String::new(), 1.0, f64::NAN).kept);
    }
}
