//! Results as a table and as one JSON document.

use std::collections::BTreeMap;
use std::fmt;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Serialize;
use tests_support::artifacts;

use super::case::Case;
use super::memory::{Memory, WORKERS};
use super::round::Round;
use super::{Args, IN_FLIGHT};
use crate::interval::{Interval, middle};
use crate::load::Load;

/// Added CPU per request that each case has to be compatible with on either load, in nanoseconds.
const ADDED_NS_MAX: [(Case, f64); 3] = [
    (Case::AccessLog, 600.0),
    (Case::FilterOff, 2400.0),
    (Case::Filter, 3300.0),
];
/// Memory that a module may add with the first worker, in MiB.
const FIRST_WORKER_MIB_MAX: f64 = 23.0;
/// Memory that a module may add with each further worker, in MiB.
const FURTHER_WORKER_MIB_MAX: f64 = 2.0;

const MIB: f64 = 1024.0 * 1024.0;

#[derive(Debug, Serialize)]
pub(super) struct Report {
    envoy: String,
    setup: Setup,
    cpu_ns_per_request: BTreeMap<Load, BTreeMap<Case, f64>>,
    /// Paired with the Envoy without plugin of the same round.
    over_none: BTreeMap<Load, BTreeMap<Case, Added>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory: Option<MemoryReport>,
    wasm_bytes: BTreeMap<String, u64>,
    limits: Vec<Limit>,
}

#[derive(Debug, Serialize)]
struct Setup {
    rounds: u32,
    requests_per_round: u64,
    warm_up: u64,
    in_flight: u64,
    load: &'static str,
    loads: BTreeMap<Load, &'static str>,
    /// What each Envoy does for a request.
    cases: BTreeMap<Case, &'static str>,
    aggregator: &'static str,
}

/// What a plugin adds to a request, with 95 % intervals of the median.
#[derive(Debug, Serialize)]
struct Added {
    ns: Interval,
    percent: Interval,
}

#[derive(Debug, Serialize)]
struct MemoryReport {
    /// By case and number of workers.
    resident_mib: BTreeMap<Case, BTreeMap<u32, f64>>,
    added_mib: BTreeMap<Case, AddedMemory>,
}

#[derive(Debug, Serialize)]
struct AddedMemory {
    first_worker: f64,
    further_worker: f64,
}

/// A promise, and whether this run kept it.
#[derive(Debug, Serialize)]
struct Limit {
    what: String,
    most: f64,
    measured: f64,
    met: bool,
}

// === impl Report ===

impl Report {
    pub(super) fn new(args: &Args, rounds: &[Round], memory: Option<Memory>) -> Result<Self> {
        let mut over_none: BTreeMap<Load, BTreeMap<Case, Added>> = BTreeMap::new();
        for load in Load::ALL {
            for case in Case::ALL.into_iter().filter(|case| *case != Case::None) {
                let added = Added::of(rounds, load, case)?;
                over_none.entry(load).or_default().insert(case, added);
            }
        }
        let cpu_ns = |load| {
            let of = |case| (case, middle_of(rounds, |round| round.cpu_ns(load, case)));
            Case::ALL.map(of).into()
        };
        let memory = memory.map(|memory| MemoryReport::new(&memory));
        Ok(Self {
            envoy: envoy_version()?,
            setup: Setup {
                rounds: args.rounds,
                requests_per_round: args.requests,
                warm_up: args.warm_up,
                in_flight: IN_FLIGHT,
                load: "HTTP/2 without TLS, one connection, direct_response, one worker",
                loads: Load::ALL.map(|load| (load, load.is())).into(),
                cases: Case::ALL.map(|case| (case, case.does())).into(),
                aggregator: "live, each request counted",
            },
            cpu_ns_per_request: Load::ALL.map(|load| (load, cpu_ns(load))).into(),
            limits: limits(&over_none, memory.as_ref()),
            over_none,
            memory,
            wasm_bytes: wasm_bytes()?,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let setup = &self.setup;
        writeln!(f, "Envoy {}", self.envoy)?;
        writeln!(
            f,
            "{}, {} in flight; {} rounds of {} requests after {} to warm up; aggregator {}\n",
            setup.load,
            setup.in_flight,
            setup.rounds,
            setup.requests_per_round,
            setup.warm_up,
            setup.aggregator
        )?;
        for (load, cpu_ns) in &self.cpu_ns_per_request {
            writeln!(
                f,
                "{:<18} {:>14} {:>26} {:>26}",
                load.is(),
                "CPU/request",
                "over none, median [95 %]",
                "in percent"
            )?;
            let added = self.over_none.get(load);
            for (case, ns) in cpu_ns {
                write!(f, "{:<18} {ns:>11.0} ns", case.as_str())?;
                if let Some(added) = added.and_then(|added| added.get(case)) {
                    write!(f, " {:>26}", added.ns.shown(0, "ns"))?;
                    write!(f, " {:>26}", added.percent.shown(1, "%"))?;
                }
                writeln!(f)?;
            }
            writeln!(f)?;
        }
        for (case, does) in &setup.cases {
            writeln!(f, "{:<18} {does}", case.as_str())?;
        }
        if let Some(memory) = &self.memory {
            write!(f, "\n{memory}")?;
        }
        writeln!(f)?;
        for (file, bytes) in &self.wasm_bytes {
            writeln!(f, "{file}: {bytes} bytes")?;
        }
        writeln!(f)?;
        for limit in &self.limits {
            let word = if limit.met { "met" } else { "NOT MET" };
            writeln!(
                f,
                "{}: {:.1}, at most {:.0}: {word}",
                limit.what, limit.measured, limit.most
            )?;
        }
        Ok(())
    }
}

fn limits(
    over_none: &BTreeMap<Load, BTreeMap<Case, Added>>,
    memory: Option<&MemoryReport>,
) -> Vec<Limit> {
    let limit = |what: String, most: f64, measured: f64| Limit {
        what,
        most,
        measured,
        met: measured <= most,
    };
    let mut limits = Vec::new();
    for (load, added) in over_none {
        for (case, most) in ADDED_NS_MAX {
            if let Some(added) = added.get(&case) {
                let (case, load) = (case.as_str(), load.as_str());
                let what = format!("{case}, {load}: lower end of the added CPU, ns");
                limits.push(limit(what, most, added.ns.low));
            }
        }
    }
    for (case, added) in memory.into_iter().flat_map(|memory| &memory.added_mib) {
        let name = case.as_str();
        limits.push(limit(
            format!("{name}: memory of the first worker, MiB"),
            FIRST_WORKER_MIB_MAX,
            added.first_worker,
        ));
        limits.push(limit(
            format!("{name}: memory of each further worker, MiB"),
            FURTHER_WORKER_MIB_MAX,
            added.further_worker,
        ));
    }
    limits
}

// === impl Added ===

impl Added {
    fn of(rounds: &[Round], load: Load, case: Case) -> Result<Self> {
        let paired = |difference: fn(f64, f64) -> f64| {
            let values: Vec<f64> = rounds
                .iter()
                .map(|round| difference(round.cpu_ns(load, case), round.cpu_ns(load, Case::None)))
                .collect();
            Interval::of(&values).context("too few rounds for an interval")
        };
        Ok(Self {
            ns: paired(|with, without| with - without)?,
            percent: paired(|with, without| (with - without) / without * 100.0)?,
        })
    }
}

// === impl MemoryReport ===

impl MemoryReport {
    fn new(memory: &Memory) -> Self {
        let resident =
            |case| WORKERS.map(|workers| (workers, memory.resident(case, workers) / MIB));
        let added = |case| AddedMemory {
            first_worker: memory.first_worker(case) / MIB,
            further_worker: memory.further_worker(case) / MIB,
        };
        Self {
            resident_mib: [Case::None]
                .into_iter()
                .chain(Case::MEASURED)
                .map(|case| (case, resident(case).into()))
                .collect(),
            added_mib: Case::MEASURED.map(|case| (case, added(case))).into(),
        }
    }
}

impl fmt::Display for MemoryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<12}", "MiB resident")?;
        for workers in WORKERS {
            write!(f, " {:>11}", format!("{workers} worker(s)"))?;
        }
        writeln!(f, " {:>14} {:>14}", "first worker", "each further")?;
        for (case, resident) in &self.resident_mib {
            write!(f, "{:<12}", case.as_str())?;
            for mib in resident.values() {
                write!(f, " {mib:>11.1}")?;
            }
            if let Some(added) = self.added_mib.get(case) {
                let (first, further) = (added.first_worker, added.further_worker);
                write!(f, " {first:>+14.1} {further:>+14.2}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

fn middle_of(rounds: &[Round], value: impl Fn(&Round) -> f64) -> f64 {
    let mut values: Vec<f64> = rounds.iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    middle(&values)
}

/// Commit, release and build of the Envoy in use.
fn envoy_version() -> Result<String> {
    let envoy = artifacts::envoy()?;
    let output = Command::new(&envoy)
        .arg("--version")
        .output()
        .with_context(|| format!("run {} --version", envoy.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text
        .split_once("version: ")
        .map_or(&*text, |(_, version)| version);
    Ok(version.trim().to_owned())
}

fn wasm_bytes() -> Result<BTreeMap<String, u64>> {
    Case::MEASURED
        .into_iter()
        .filter_map(Case::module)
        .map(|module| {
            let path = module.path()?;
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let bytes = path
                .metadata()
                .with_context(|| format!("look at {name}"))?
                .len();
            Ok((name, bytes))
        })
        .collect()
}
