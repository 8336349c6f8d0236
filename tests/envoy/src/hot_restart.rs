//! Two Envoys, of which one takes over from the other, as `hot-restarter.py` does it.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tests_support::aggregator::{self, Aggregator};
use tests_support::clock;
use tests_support::envoy::{Envoy, Options};
use tests_support::plugin::Role;

use crate::watch::{Traffic, Verdict, Watch};
use crate::{Backends, FRONT, PATIENCE, free_address, plugin};

/// Requests per second of the traffic.
const RATE: f64 = 100.0;
/// For how long the parent drains.
const DRAIN: Duration = Duration::from_secs(8);
/// When the child ends the parent, after its own start.
const PARENT_ENDS: Duration = Duration::from_secs(12);
/// For how long values are read once there is one after the parent has ended.
const AFTERWARDS: Duration = Duration::from_secs(5);
const RETURNS_WITHIN: Duration = Duration::from_mins(1);

/// What is different from run to run.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// `stats_flush_interval` of both Envoys: when the child takes over the parent's numbers.
    pub stats_flush_interval: &'static str,
    /// Further arguments of the child.
    pub args: &'static [&'static str],
    /// The oldest Envoy that is tested instead of the newest.
    pub old: bool,
}

#[derive(Debug)]
pub struct Outcome {
    /// From the start of the child to its first report: it may serve before it is heard.
    pub handover: Verdict,
    /// From then on, as long as both run.
    pub both: Verdict,
    /// After the parent has ended.
    pub after: Verdict,
    /// The reasons that the API gave while both ran.
    pub reasons: BTreeSet<String>,
    pub sent: u64,
    pub log: String,
}

/// The shared memory of two Envoys, removed when it is dropped.
struct BaseId {
    directory: TempDir,
    id: Option<u32>,
}

impl BaseId {
    fn new() -> Result<Self> {
        let directory = tempfile::tempdir().context("make a directory for the base id")?;
        Ok(Self {
            directory,
            id: None,
        })
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("base-id")
    }

    /// The id that the parent chose.
    fn read(&mut self) -> Result<u32> {
        let text = fs::read_to_string(self.file()).context("read the base id")?;
        let id = text.trim().parse().context("the base id")?;
        self.id = Some(id);
        Ok(id)
    }
}

impl Drop for BaseId {
    fn drop(&mut self) {
        // Envoy multiplies the id, so that ids of epochs differ.
        if let Some(id) = self.id {
            let _ = fs::remove_file(format!("/dev/shm/envoy_shared_memory_{}", id * 10));
        }
    }
}

/// Lets an Envoy take over from another under an even load, and compares what the API says with
/// what was sent.
pub async fn run(case: Case) -> Result<Outcome> {
    let backends = Backends::start().await?;
    let aggregator = Aggregator::start(&aggregator::Options::default()).await?;
    let bootstrap = bootstrap(&backends, &aggregator, case)?;
    let mut base = BaseId::new()?;
    let file = base.file().display().to_string();
    let options = options(case, &["--use-dynamic-base-id", "--base-id-path", &file])?;
    let mut parent = Envoy::start(&bootstrap, &options).await?;
    let traffic = Traffic::even(parent.listener(FRONT)?, RATE);
    let mut handover = Watch::default();
    handover.may_be_low = true;
    // So that there is something to be wrong with.
    wait_value(&aggregator, &mut handover, PATIENCE).await?;
    handover.unknown = 0;
    let mut both = Watch::default();
    let id = base.read()?.to_string();
    let own = [&["--base-id", &id, "--restart-epoch", "1"], case.args].concat();
    let options = self::options(case, &own)?;
    let mut child = {
        let mut starting = std::pin::pin!(Envoy::start(&bootstrap, &options));
        loop {
            tokio::select! {
                started = &mut starting => break started?,
                read = read_on(&aggregator, &mut handover, &mut both) => read?,
            }
        }
    };
    let start = clock::now();
    while parent.check_running().is_ok() {
        child.check_running()?;
        ensure!(start.elapsed() < 4 * PARENT_ENDS, "the parent does not end");
        read_on(&aggregator, &mut handover, &mut both).await?;
    }
    let mut after = Watch::default();
    wait_value(&aggregator, &mut after, RETURNS_WITHIN)
        .await
        .with_context(|| {
            format!(
                "the parent has ended; the child's log:\n{}",
                child.log_tail()
            )
        })?;
    after.read_for(&aggregator, AFTERWARDS).await?;
    // What was sent at the end of the last window has to be known too.
    tokio::time::sleep(Duration::from_millis(600)).await;
    let outcome = Outcome {
        handover: traffic.judge(&handover),
        both: traffic.judge(&both),
        after: traffic.judge(&after),
        reasons: std::mem::take(&mut both.reasons),
        sent: traffic.tally().written(),
        log: child.log(),
    };
    traffic.stop().await?;
    child.terminate().await?;
    Ok(outcome)
}

/// What both Envoys are started from: the child takes over the listener, so its port is fixed.
fn bootstrap(backends: &Backends, aggregator: &Aggregator, case: Case) -> Result<Value> {
    let mut bootstrap = backends.bootstrap_with(aggregator.ingest(), &[plugin(Role::Filter)?])?;
    let front = bootstrap.listeners.first_mut().context("no listener")?;
    front.port = free_address()?.port();
    let interval = json!(case.stats_flush_interval);
    let extra = &mut bootstrap.extra;
    extra.insert("stats_flush_interval".to_owned(), interval);
    Ok(bootstrap.to_json())
}

fn options(case: Case, args: &[&str]) -> Result<Options> {
    let old = case.old.then(tests_support::artifacts::old_envoy);
    let ends = PARENT_ENDS.as_secs().to_string();
    let args = [&["--parent-shutdown-time-s", &ends], args].concat();
    Ok(Options {
        binary: old.transpose()?,
        hot_restart: true,
        drain_time: DRAIN,
        args: args.into_iter().map(str::to_owned).collect(),
        ..Options::default()
    })
}

/// Reads until there is a value.
async fn wait_value(aggregator: &Aggregator, watch: &mut Watch, within: Duration) -> Result<()> {
    clock::wait_for("a value", within, async || {
        let pause = Duration::from_millis(200);
        watch.read_for(aggregator, pause).await?;
        Ok((watch.values() > 0).then_some(()))
    })
    .await
}

/// Reads for a while: into `handover` until there is no value for the first time, then into `both`.
async fn read_on(aggregator: &Aggregator, handover: &mut Watch, both: &mut Watch) -> Result<()> {
    let watch = if handover.unknown == 0 {
        handover
    } else {
        both
    };
    watch.read_for(aggregator, Duration::from_millis(100)).await
}
