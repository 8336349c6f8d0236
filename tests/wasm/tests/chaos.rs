//! Seeded runs in which everything happens that may happen to a sidecar in good order: closed,
//! stalled and refused streams, late and missing acknowledgements, updates, contention for shared
//! data. In the end every count is exact.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use tests_wasm::aggregator::{Acks, Reach, Script};
use tests_wasm::clock::Random;
use tests_wasm::envoy::{Envoy, RequestId, Setup};
use tests_wasm::plugin::{Direction, Plugin, Role};
use tests_wasm::request::Request;
use tests_wasm::totals::What;

const WORKERS: usize = 3;
const STEPS: usize = 600;
const SEEDS: u64 = 24;
/// Upstream clusters, each a series that the VMs agree on by shared data.
const CLUSTERS: u64 = 10;
/// VMs of both modules, on the main thread and each worker.
const VMS: u32 = 8;

#[derive(Debug, Default)]
struct Sent {
    requests: u64,
    attempts: u64,
}

fn filter(flush_interval_ms: u64) -> Result<Plugin> {
    Plugin::deployed_with(Role::Filter, |json| {
        json["flush_interval_ms"] = json!(flush_interval_ms);
        json["dimensions"] = json!(["cluster"]);
    })
}

struct Chaos {
    envoy: Envoy,
    random: Random,
    open: Vec<RequestId>,
    sent: Sent,
    updates: u64,
}

impl Chaos {
    fn start(seed: u64) -> Result<Self> {
        let filter = filter(1000)?;
        let plugins = vec![
            filter.clone(),
            filter.on(Direction::Outbound),
            Plugin::deployed(Role::UpstreamLog)?,
        ];
        let mut setup = Setup::new(plugins).workers(WORKERS);
        setup.seed = seed;
        setup.contention_percent = seed % 3 * 25;
        Ok(Self {
            envoy: Envoy::start(setup)?,
            random: Random::new(seed),
            open: Vec::new(),
            sent: Sent::default(),
            updates: 0,
        })
    }

    /// VMs expected and live, by the newest report.
    fn vms(&self) -> Option<(u32, u32)> {
        let aggregator = self.envoy.aggregator();
        let streams = aggregator.open_streams();
        let report = streams.first()?.last.as_ref()?;
        Some((report.vms_expected, report.vms_live))
    }

    fn below(&mut self, end: u64) -> usize {
        usize::try_from(self.random.below(end)).expect("it is small")
    }

    fn step(&mut self) -> Result<()> {
        match self.below(100) {
            0..45 => self.begin(),
            45..70 => self.finish(),
            70..90 => {
                let milliseconds = self.random.below(300);
                self.envoy.run_for(Duration::from_millis(milliseconds));
            }
            90..92 => {
                let status = [0, 10, 13, 14][self.below(4)];
                self.envoy.close_streams(status, "chaos");
            }
            92..96 => self.misbehave(),
            96..98 => self.envoy.run_seconds(2),
            98 => self.update()?,
            _ => self.envoy.finish_drain(),
        }
        Ok(())
    }

    fn begin(&mut self) {
        let worker = self.below(WORKERS as u64);
        let direction = [Direction::Inbound, Direction::Outbound][self.below(2)];
        let request = match self.below(4) {
            0 => Request::new(direction).status(503),
            1 => Request::new(direction).reset(),
            _ => Request::new(direction),
        };
        let request = request.to(&format!("cluster-{}", self.below(CLUSTERS)));
        self.sent.requests += 1;
        self.open.push(self.envoy.begin(worker, &request));
        for _ in 0..self.below(3) {
            self.sent.attempts += 1;
            self.envoy.attempt(worker, &Request::inbound());
        }
        self.envoy
            .attempt(worker, &Request::inbound().unconnected());
    }

    fn finish(&mut self) {
        if !self.open.is_empty() {
            let chosen = self.below(self.open.len() as u64);
            let id = self.open.swap_remove(chosen);
            self.envoy.finish(id);
        }
    }

    fn misbehave(&mut self) {
        let script = Script {
            reach: [Reach::Up, Reach::Up, Reach::Refused, Reach::NoHealthyHost][self.below(4)],
            acks: [
                Acks::AtOnce,
                Acks::Never,
                Acks::After(Duration::from_secs(1)),
            ][self.below(3)],
            flush_interval_ms: [0, 200][self.below(2)],
            stalled: self.below(4) == 0,
        };
        self.envoy.script(|current| *current = script);
    }

    fn update(&mut self) -> Result<()> {
        self.updates += 1;
        let plugin = filter(1000 + self.updates)?;
        let index = self.below(2);
        let direction = [Direction::Inbound, Direction::Outbound][index];
        self.envoy.update(index, plugin.on(direction))
    }
}

/// No seed loses or doubles a count, opens a second instance, or leaves a VM unaccounted for.
#[test]
fn counts_are_exact_whatever_happens_to_the_stream() -> Result<()> {
    for seed in 0..SEEDS {
        let mut chaos = Chaos::start(seed)?;
        for _ in 0..STEPS {
            chaos.step()?;
        }
        chaos.envoy.script(|script| *script = Script::default());
        chaos.envoy.run_seconds(15);
        assert_eq!(chaos.vms(), Some((VMS, VMS)), "SEED={seed}");
        for _ in 0..5 {
            chaos.begin();
        }
        chaos.envoy.shut_down();
        let aggregator = chaos.envoy.aggregator();
        let totals = aggregator.totals();
        let Sent { requests, attempts } = chaos.sent;
        assert_eq!(totals.sum(What::Requests), Some(requests), "SEED={seed}");
        assert_eq!(totals.sum(What::Attempts), Some(attempts), "SEED={seed}");
        let is_response = |what| matches!(what, What::Responses(_));
        let responses = totals.sum_where(|counter| is_response(counter.what));
        assert_eq!(responses, Some(requests), "each ended, SEED={seed}");
        assert_eq!(totals.inflight(), Some(0), "SEED={seed}");
        assert_eq!(totals.instances().len(), 1, "SEED={seed}");
        assert_eq!(chaos.envoy.dead(), [], "SEED={seed}");
    }
    Ok(())
}
