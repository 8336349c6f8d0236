//! One Envoy under measurement, with a connection of the load.

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;
use tests_support::aggregator::Aggregator;
use tests_support::clock::wait_for;
use tests_support::envoy::{Envoy, Options};
use tests_support::http;

use super::IN_FLIGHT;
use super::case::{Case, LISTENER, NAMESPACE, TOTALS};
use crate::cpus::{self, Cpus};
use crate::load::{Connection, Load, Statuses};
use crate::usage;

/// Longest time until the aggregator has the last request of a load: some flush intervals.
const COUNTED_MAX: Duration = Duration::from_secs(10);
/// Pause between two looks at whether Envoy rests.
const SETTLE_PAUSE: Duration = Duration::from_millis(1);
/// Looks before giving up. Timers fire ten times a second, so that nearly every second look shows
/// rest.
const SETTLE_LOOKS_MAX: u32 = 1000;

/// A running Envoy of one case.
#[derive(Debug)]
pub(super) struct Subject {
    case: Case,
    envoy: Envoy,
    pid: u32,
    address: SocketAddr,
    sent: Statuses,
    /// Files that this Envoy reads.
    _files: TempDir,
}

// === impl Subject ===

impl Subject {
    /// Starts the Envoy of `case`, on its own processor.
    pub(super) async fn start(
        case: Case,
        workers: u32,
        cpus: Cpus,
        aggregator: &Aggregator,
    ) -> Result<Self> {
        let options = Options {
            concurrency: workers,
            ..Options::default()
        };
        let files = tempfile::tempdir()?;
        let bootstrap = case.bootstrap(aggregator.ingest(), files.path())?;
        let envoy = Envoy::start(&bootstrap, &options).await?;
        let pid = envoy.pid().context("Envoy runs")?;
        cpus::pin_process(pid, cpus.envoy)?;
        Ok(Self {
            case,
            address: envoy.listener(LISTENER)?,
            envoy,
            pid,
            sent: Statuses::default(),
            _files: files,
        })
    }

    pub(super) fn case(&self) -> Case {
        self.case
    }

    pub(super) fn connect(&self) -> Result<Connection> {
        Connection::open(self.address)
    }

    /// Sends `count` requests over `connection`; returns the CPU time that Envoy took for them, in
    /// nanoseconds.
    pub(super) async fn load(
        &mut self,
        connection: &mut Connection,
        load: Load,
        count: u64,
    ) -> Result<u64> {
        let before = usage::cpu_ns(self.pid)?;
        let sent = connection.run(load, count, IN_FLIGHT).with_context(|| {
            format!("load on {}:\n{}", self.case.as_str(), self.envoy.log_tail())
        })?;
        self.sent.add(sent);
        Ok(self.settled_cpu_ns().await? - before)
    }

    /// CPU time once Envoy rests: it still works on a request after its answer is out, and the
    /// kernel brings the account of a thread up to date when the thread goes to sleep.
    async fn settled_cpu_ns(&self) -> Result<u64> {
        let mut last = usage::cpu_ns(self.pid)?;
        for _ in 0..SETTLE_LOOKS_MAX {
            tokio::time::sleep(SETTLE_PAUSE).await;
            let now = usage::cpu_ns(self.pid)?;
            if now == last {
                return Ok(now);
            }
            last = now;
        }
        bail!("{} does not come to rest after a load", self.case.as_str())
    }

    /// Resident memory, in bytes.
    pub(super) fn resident_bytes(&self) -> Result<u64> {
        usage::resident_bytes(self.pid)
    }

    /// Checks that what was sent was counted, where something in this Envoy counts.
    pub(super) async fn check_counted(&self, aggregator: &Aggregator) -> Result<()> {
        match self.case {
            Case::LuaEqual => self.check_lua().await,
            case if case.role().is_some() => self.check_meshmeter(aggregator).await,
            _ => Ok(()),
        }
    }

    /// Waits until the aggregator has counted exactly what was sent.
    async fn check_meshmeter(&self, aggregator: &Aggregator) -> Result<()> {
        let (name, sent) = (&self.case.pod(), self.sent);
        let counted = &Cell::new(None);
        let look = move || async move {
            let pods = aggregator.pods().await?;
            let pod = pods.find(NAMESPACE, name);
            counted.set(pod.and_then(|pod| pod.requests("inbound")));
            let of = |class| pod.map_or(0, |pod| pod.responses("inbound", class));
            let classes = [of("2xx"), of("4xx"), of("5xx")];
            let responses =
                !self.case.counts_responses() || classes == [sent.good, sent.missing, sent.failing];
            Ok((counted.get() == Some(sent.all()) && responses).then_some(()))
        };
        wait_for("the aggregator to have counted all", COUNTED_MAX, look)
            .await
            .with_context(|| {
                let counted = counted.get();
                let log = self.envoy.log_tail();
                format!(
                    "{name}: sent {sent:?}, counted {counted:?}; the end of Envoy's log:\n{log}"
                )
            })
    }

    /// Asks the Lua filter for its totals: all requests and the one that asks.
    async fn check_lua(&self) -> Result<()> {
        let response = http::get(self.address, TOTALS).await?;
        let totals = response.headers.get("totals");
        let totals = totals.and_then(|totals| totals.to_str().ok());
        let sent = self.sent;
        let expected = format!(
            "{} {} {} {}",
            sent.all() + 1,
            sent.good,
            sent.missing + 1,
            sent.failing
        );
        ensure!(
            totals == Some(&*expected),
            "the Lua filter counted {totals:?}, not {expected}"
        );
        Ok(())
    }

    /// Ends Envoy in order.
    pub(super) async fn stop(mut self) -> Result<()> {
        self.envoy.terminate().await.map(drop)
    }
}
