//! A day of reads by many autoscalers, with values that change at every read, and what it takes:
//! bytes as the allocator counts them, and time.
//!
//! At full scale, with the numbers: `cargo test --release -p aggregator-ledger --test day --
//! --ignored --nocapture`.

use std::alloc::System;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aggregator_core::query::Milli;
use aggregator_ledger::limits::bytes_for;
use aggregator_ledger::{
    Answer, DropReason, Each, Ledger, Object, PodState, PodValue, Query, Read, ReadSource, Reader,
};
use common_time::UnixMillis;
use parking_lot::Mutex;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Held by each test: the allocator counts for all of the process.
static ALONE: Mutex<()> = Mutex::new(());

const START: u64 = 1_764_500_000_000;
const SYNC_MS: u64 = 15_000;
const READS_A_DAY: u64 = 24 * 60 * 60 * 1000 / SYNC_MS;
/// A day and an hour.
const SYNCS: u64 = READS_A_DAY + READS_A_DAY / 24;

const KCM: Reader<'static> = Reader {
    user: "system:serviceaccount:kube-system:horizontal-pod-autoscaler",
    user_agent: "kube-controller-manager/v1.36.2 (linux/amd64) kubernetes/1a2b3c4/horizontal-pod-autoscaler",
};

/// Autoscalers of a simulated cluster.
#[derive(Clone, Copy, Debug)]
struct Cluster {
    autoscalers: u64,
    pods: u64,
    /// Reads after which the replicas of each autoscaler change.
    change_every: u64,
}

/// One autoscaler.
#[derive(Debug)]
struct Autoscaler {
    name: String,
    selector: String,
    pods: Vec<Arc<str>>,
}

/// What a day took.
#[derive(Debug)]
struct Day {
    /// The most bytes at any time, as the allocator counted them.
    bytes: usize,
    /// The same as the ledger counted them.
    counted: usize,
    /// Time of all calls of `record`, with the making of their arguments.
    took: Duration,
    ledger: Ledger,
}

/// Numbers that differ from read to read, as rates do.
#[derive(Debug)]
struct Numbers(u64);

// === impl Numbers ===

impl Numbers {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

// === impl Autoscaler ===

impl Autoscaler {
    fn new(number: u64, pods: u64) -> Self {
        let name = format!("checkout-{number:04}");
        let pod = |pod| Arc::from(format!("{name}-7d9c5b6f48-{pod:05}"));
        Self {
            selector: format!("app.kubernetes.io/name={name}"),
            pods: (0..pods).map(pod).collect(),
            name,
        }
    }

    fn read(&self, ledger: &Ledger, at: u64, computed: u64, numbers: &mut Numbers) {
        let pod = |name| PodValue {
            name,
            state: PodState::Live,
            value: Milli(30_000 + numbers.below(20_000)),
            window: Duration::from_secs(5),
            age: Duration::from_millis(numbers.below(1_500)),
            pending: false,
        };
        let each: Vec<_> = self.pods.iter().map(pod).collect();
        ledger.record(&Read {
            at: UnixMillis(at),
            reader: KCM,
            namespace: "production",
            hpa: Some(&self.name),
            metric: "appmesh_requests_per_second",
            object: Object {
                resource: "pods",
                name: "",
            },
            selector: &self.selector,
            metric_selector: "",
            answer: Answer::Value {
                sum: Milli(each.iter().map(|pod| pod.value.0).sum()),
                source: ReadSource::Pods,
                pods: each.len(),
                age: Duration::from_millis(numbers.below(1_500)),
                window: Duration::from_secs(5),
            },
            each: Each::Pods(&each),
            computed_replicas: u32::try_from(computed).ok(),
        });
    }
}

// === impl Day ===

impl Day {
    #[expect(
        clippy::disallowed_methods,
        reason = "the time is printed, not asserted"
    )]
    fn of(cluster: Cluster, limit: usize) -> Self {
        let autoscaler = |number| Autoscaler::new(number, cluster.pods);
        let autoscalers: Vec<_> = (0..cluster.autoscalers).map(autoscaler).collect();
        let before = allocated();
        let mut day = Self {
            bytes: 0,
            counted: 0,
            took: Duration::ZERO,
            ledger: Ledger::new(limit),
        };
        let mut numbers = Numbers(7);
        for sync in 0..SYNCS {
            let begun = Instant::now();
            for (number, autoscaler) in (0..).zip(&autoscalers) {
                let at = START + sync * SYNC_MS + number % 1000 * 13 + numbers.below(200);
                let computed = (sync + number) / cluster.change_every % 7 + 3;
                autoscaler.read(&day.ledger, at, computed, &mut numbers);
            }
            day.took += begun.elapsed();
            day.bytes = day.bytes.max(allocated() - before);
            day.counted = day.counted.max(day.ledger.sizes().bytes);
        }
        day
    }

    fn dropped(&self, reason: DropReason) -> u64 {
        let dropped = self.ledger.dropped().into_iter();
        dropped
            .filter(|(of, _)| *of == reason)
            .map(|(_, count)| count)
            .sum()
    }

    /// Hours that the reads of the first autoscaler reach back, and how many have their pods.
    fn reach(&self) -> (u64, usize) {
        let query = Query {
            hpa: Some("checkout-0000"),
            ..Query::of("production")
        };
        let reads: Vec<_> = self.ledger.reads(&query).collect();
        let span = reads[reads.len() - 1].at_unix_ms - reads[0].at_unix_ms;
        let detailed = reads.iter().filter(|read| read.each.is_some());
        ((span + SYNC_MS) / 3_600_000, detailed.count())
    }

    /// The heap is within `limit`, and the ledger knows how much of it it takes.
    fn assert_within(&self, limit: usize) {
        let Self { bytes, counted, .. } = self;
        assert!(*bytes <= limit, "{bytes} bytes of {limit}");
        let off = counted.abs_diff(*bytes);
        assert!(off < limit / 16, "counted {counted}, allocated {bytes}");
    }
}

/// Fifty autoscalers in a ledger for fifty: a whole day, and the pods around fifty changes each.
#[test]
fn a_day_of_fifty_autoscalers_fits() {
    let _alone = ALONE.lock();
    let limit = bytes_for(50);
    let cluster = Cluster {
        autoscalers: 50,
        pods: 10,
        change_every: READS_A_DAY / 50,
    };
    let day = Day::of(cluster, limit);
    day.assert_within(limit);
    assert_eq!(day.dropped(DropReason::Details), 0);
    assert_eq!(day.dropped(DropReason::Autoscalers), 0);
    let (hours, detailed) = day.reach();
    assert_eq!(hours, 24);
    let expected = 60 + 2 * 50;
    assert!((expected..expected + 40).contains(&detailed), "{detailed}");
}

/// Four times as many as it is made for, with more pods, whose replicas change at each other read:
/// first details go, then the oldest reads; the last 15 minutes stay whole.
#[test]
fn too_many_autoscalers_fit() {
    let _alone = ALONE.lock();
    let limit = bytes_for(20);
    let cluster = Cluster {
        autoscalers: 80,
        pods: 30,
        change_every: 2,
    };
    let day = Day::of(cluster, limit);
    day.assert_within(limit);
    assert!(day.dropped(DropReason::Details) > 0);
    assert!(day.dropped(DropReason::Autoscalers) > 0);
    let (hours, detailed) = day.reach();
    assert!((3..24).contains(&hours), "{hours} h");
    assert!(detailed >= 60, "{detailed} reads with pods");
}

/// A thousand autoscalers, with the numbers.
#[test]
#[ignore = "a minute, optimised"]
#[expect(
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "the numbers are what it is for"
)]
fn a_day_of_a_thousand_autoscalers_fits() {
    let _alone = ALONE.lock();
    let limit = bytes_for(1000);
    let mib = |bytes: usize| bytes as f64 / f64::from(1 << 20);
    for (pods, change_every) in [(10, READS_A_DAY / 100), (10, 3), (50, READS_A_DAY / 100)] {
        let cluster = Cluster {
            autoscalers: 1000,
            pods,
            change_every,
        };
        let allocations = ALLOCATOR.stats().allocations;
        let day = Day::of(cluster, limit);
        let reads = SYNCS * cluster.autoscalers;
        let allocations = (ALLOCATOR.stats().allocations - allocations) as f64 / reads as f64;
        let (hours, detailed) = day.reach();
        println!(
            "{pods} pods, a change each {change_every} reads: {:.1} MiB allocated, {:.1} counted, of {:.1}; {} ns and \
             {allocations:.2} allocations a read; {hours} h, {detailed} reads of one with pods; given way: the pods of \
             {} reads, {} reads",
            mib(day.bytes),
            mib(day.counted),
            mib(limit),
            day.took.as_nanos() / u128::from(reads),
            day.dropped(DropReason::Details),
            day.dropped(DropReason::Autoscalers),
        );
        day.assert_within(limit);
        assert_eq!(hours, 24);
        assert!(detailed >= 60);
    }
}

fn allocated() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}
