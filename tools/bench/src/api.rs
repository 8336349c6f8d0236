//! What autoscalers cost: an answer of the custom metrics API while reports pour in.
//!
//! One process without sockets: 100,000 pods in one namespace, the worst case for a directory, all
//! of them with a sidecar; one thread applies their reports at a fixed rate, another asks the
//! handler of the API as autoscalers do, each for its own workload: 10,000 of them each 15 s, then
//! 1,000 each 3 s. A request's time is real time from the moment when it was due to its answer, so
//! what else the machine does is in it, and so is the wait for the requests before it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use aggregator_core::limits::PODS_MAX;
use anyhow::{Result, ensure};
use http::Request;
use http::request::Parts;
use tests_support::clock;

use crate::{optimised, usage};
use fleet::Fleet;
use report::{Asked, Kind, Report};
use workloads::{WORKLOADS, Workloads};

mod fleet;
mod report;
mod workloads;

/// What is measured, one after the other: so many autoscalers, and how often each asks.
const LOADS: [(u32, Duration); 2] = [
    (10_000, Duration::from_secs(15)),
    (1_000, Duration::from_secs(3)),
];
/// A prime: neighbours in time are not neighbours in the fleet.
const STRIDE: u32 = 7919;
/// How often the thread that applies reports looks at the clock.
const TICK: Duration = Duration::from_millis(2);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print one JSON document instead of a table.
    #[arg(long)]
    json: bool,
    /// How long requests of each load are measured.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(3..=3600))]
    seconds: u32,
    /// Pods, in workloads of a fiftieth each.
    #[arg(long, default_value_t = 100_000)]
    pods: usize,
    /// Give each pod a label of its own, as a `StatefulSet` does: the most that can be asked of the
    /// directory.
    #[arg(long)]
    own_labels: bool,
    /// Reports applied a second.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    reports: u32,
}

/// State shared by the two threads of a run.
#[derive(Debug, Default)]
struct RunState {
    stop: AtomicBool,
    applied: AtomicU64,
}

/// Measures and prints; fails if a limit is exceeded. What is measured is part of this program, so
/// one that is not optimised has an optimised one made and run in its place.
pub(crate) fn run(args: &Args) -> Result<()> {
    if cfg!(debug_assertions) {
        return optimised::run(&[]);
    }
    ensure!(
        (2 * WORKLOADS..=PODS_MAX).contains(&args.pods),
        "--pods: {} is not within {} and {PODS_MAX}",
        args.pods,
        2 * WORKLOADS
    );
    eprintln!(
        "{} pods and the reports of their last minute ...",
        args.pods
    );
    let fleet = Arc::new(Fleet::new(args.pods, args.own_labels, args.reports)?);
    let shared = Arc::new(RunState::default());
    let reporter = {
        let (fleet, shared, rate) = (Arc::clone(&fleet), Arc::clone(&shared), args.reports);
        thread::spawn(move || apply(&fleet, &shared, rate))
    };
    let begun = clock::now();
    let asked: Result<Vec<Asked>> = LOADS
        .into_iter()
        .map(|(autoscalers, every)| {
            eprintln!("{autoscalers} autoscalers, {} s ...", args.seconds);
            ask(args.seconds, autoscalers, every, &fleet)
        })
        .collect();
    let elapsed = begun.elapsed();
    let applied = shared.applied.load(Ordering::Relaxed);
    shared.stop.store(true, Ordering::Relaxed);
    let refused = reporter
        .join()
        .map_err(|_| anyhow::anyhow!("the thread that applies reports panicked"))?;
    ensure!(refused == 0, "the store refused {refused} reports");
    let report = Report::new(args, &fleet, &asked?, applied, elapsed);
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{report}");
    }
    ensure!(report.is_within_limits(), "a limit was exceeded");
    Ok(())
}

/// Applies `rate` reports a second, pod after pod, until stopped; returns the number rejected.
fn apply(fleet: &Fleet, shared: &RunState, rate: u32) -> u64 {
    let begun = clock::now();
    let (mut applied, mut refused) = (0, 0);
    while !shared.stop.load(Ordering::Relaxed) {
        let due = u64::try_from(begun.elapsed().as_nanos() * u128::from(rate) / 1_000_000_000);
        while applied < due.unwrap_or(u64::MAX) {
            refused += u64::from(!fleet.report_next());
            applied += 1;
        }
        shared.applied.store(applied, Ordering::Relaxed);
        thread::park_timeout(TICK);
    }
    refused
}

/// Each of `autoscalers` asks once in `every`, evenly spread.
fn ask(seconds: u32, autoscalers: u32, every: Duration, fleet: &Fleet) -> Result<Asked> {
    let gap = every / autoscalers;
    let (begun, cpu) = (clock::now(), usage::thread_cpu_ns()?);
    let mut times = Vec::new();
    let mut number = 0_u32;
    while gap * number < Duration::from_secs(seconds.into()) {
        let due = gap * number;
        while let Some(early) = due.checked_sub(begun.elapsed()) {
            if early.is_zero() {
                break;
            }
            thread::park_timeout(early);
        }
        let autoscaler = u64::from(number) * u64::from(STRIDE) % u64::from(autoscalers);
        let (kind, request) = request(usize::try_from(autoscaler)?, fleet.workloads)?;
        let answer = fleet.api.respond(&request, false);
        let took = begun.elapsed().saturating_sub(due);
        ensure!(
            answer.status().is_success(),
            "{}: {}",
            request.uri,
            answer.status()
        );
        times.push((kind, took));
        number += 1;
    }
    Ok(Asked {
        autoscalers,
        every,
        cpu: Duration::from_nanos(usage::thread_cpu_ns()? - cpu),
        elapsed: begun.elapsed(),
        times,
    })
}

/// What an autoscaler asks for: most for the pods of their workload, one in ten for its sum, a few
/// for one pod.
fn request(autoscaler: usize, workloads: Workloads) -> Result<(Kind, Parts)> {
    let workload = autoscaler % WORKLOADS;
    let app = workloads::name(workload);
    let list = if workloads::is_large(workload) {
        Kind::List
    } else {
        Kind::ShortList
    };
    let (kind, objects) = match autoscaler % 100 {
        99 => {
            let pod = workloads.first_pod(workload);
            (Kind::Pod, format!("pods/{}", workloads.pod_name(pod)))
        }
        number if number % 10 == 8 => (Kind::Workload, format!("deployments.apps/{app}")),
        _ => (list, "pods/%2A".to_owned()),
    };
    let selector = match kind {
        Kind::List | Kind::ShortList => {
            format!("?labelSelector=app%3D{app}%2Ctier+in+%28a%2Cb%29")
        }
        Kind::Pod | Kind::Workload => String::new(),
    };
    let uri = format!(
        "/apis/custom.metrics.k8s.io/v1beta2/namespaces/prod/{objects}/appmesh_requests_per_second{selector}"
    );
    Ok((kind, Request::get(uri).body(())?.into_parts().0))
}
