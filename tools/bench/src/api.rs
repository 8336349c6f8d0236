//! What an answer of the custom metrics API takes while reports pour in.
//!
//! One process without sockets: 50,000 pods in one namespace, the worst case for a directory, all
//! of them with a sidecar; one thread applies their reports at a fixed rate, another asks the
//! handler of the API at a fixed rate, as an autoscaler would: all pods of a workload, one pod, and
//! the workload itself. Time is real time around the handler, so what else the machine does is in
//! it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use aggregator_core::limits::PODS_MAX;
use anyhow::{Result, ensure};
use http::Request;
use http::request::Parts;
use tests_support::clock;

use crate::optimised;
use fleet::{APPS, Fleet};
use report::{Kind, Report};

mod fleet;
mod report;

/// How often the thread that applies reports looks at the clock.
const TICK: Duration = Duration::from_millis(2);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print one JSON document instead of a table.
    #[arg(long)]
    json: bool,
    /// How long requests are measured.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(3..=3600))]
    seconds: u32,
    /// Pods, in workloads of a fiftieth each.
    #[arg(long, default_value_t = 50_000)]
    pods: usize,
    /// Give each pod a label of its own, as a `StatefulSet` does: the most that can be asked of the
    /// directory.
    #[arg(long)]
    own_labels: bool,
    /// Reports applied a second.
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    reports: u32,
    /// Requests a second.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    requests: u32,
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
        (APPS..=PODS_MAX).contains(&args.pods),
        "--pods: {} is not within {APPS} and {PODS_MAX}",
        args.pods
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
    eprintln!("{} s of requests ...", args.seconds);
    let begun = clock::now();
    let asked = ask(args, &fleet);
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

/// Asks at the fixed rate, each kind of request in turn; returns how long each took.
fn ask(args: &Args, fleet: &Fleet) -> Result<Vec<(Kind, Duration)>> {
    let begun = clock::now();
    let mut asked = Vec::new();
    for number in 0..args.seconds * args.requests {
        let due = Duration::from_secs(1) * number / args.requests;
        while let Some(early) = due.checked_sub(begun.elapsed()) {
            if early.is_zero() {
                break;
            }
            thread::park_timeout(early);
        }
        let number = usize::try_from(number)?;
        let kind = Kind::ALL[number % Kind::ALL.len()];
        let request = request(kind, number, fleet)?;
        let start = clock::now();
        let answer = fleet.api.respond(&request, false);
        let took = start.elapsed();
        ensure!(
            answer.status().is_success(),
            "{}: {}",
            request.uri,
            answer.status()
        );
        asked.push((kind, took));
    }
    Ok(asked)
}

fn request(kind: Kind, number: usize, fleet: &Fleet) -> Result<Parts> {
    let app = fleet::app(number / Kind::ALL.len() % APPS);
    let objects = match kind {
        Kind::List => "pods/%2A".to_owned(),
        Kind::Pod => format!("pods/{}", fleet.name_of(number * 7919)),
        Kind::Workload => format!("deployments.apps/{app}"),
    };
    let selector = match kind {
        Kind::List => format!("?labelSelector=app%3D{app}%2Ctier+in+%28a%2Cb%29"),
        Kind::Pod | Kind::Workload => String::new(),
    };
    let uri = format!(
        "/apis/custom.metrics.k8s.io/v1beta2/namespaces/prod/{objects}/appmesh_requests_per_second{selector}"
    );
    Ok(Request::get(uri).body(())?.into_parts().0)
}
