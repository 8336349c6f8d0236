//! What all VMs of an Envoy process share: clock, metrics, shared data, network, and the test's own
//! records.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::clock::{Clock, Random};
use crate::metrics::Metrics;
use crate::network::Network;
use crate::shared_data::SharedData;

/// Log lines kept; a test that writes more has another problem.
const LOG_LINES_MAX: usize = 100_000;

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Thread {
    /// The main thread: its VM is configured first, ticks, and never sees a request.
    Main,
    /// A worker, counted from 0.
    Worker(usize),
}

/// What a VM is for.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Life {
    /// Loaded and initialised, never configured: the others are cloned from it.
    Base,
    /// Configured once to see whether that works, then destroyed without a word.
    Canary,
    Live,
}

/// One line that a module logged.
#[derive(Clone, Debug)]
pub struct LogLine {
    /// The thread of the VM.
    pub thread: Thread,
    /// What the VM is for.
    pub life: Life,
    pub message: String,
}

/// A host call, by what the VM is for, the callback that made it and the function's name.
pub type CallKey = (Life, &'static str, &'static str);

/// Shared state of the process.
#[derive(Debug, Default)]
pub(crate) struct Process {
    pub(crate) clock: Clock,
    pub(crate) random: Option<Random>,
    pub(crate) metrics: Metrics,
    pub(crate) shared_data: SharedData,
    pub(crate) network: Network,
    /// Properties that hold everywhere, `xds.node.…`, by dotted path.
    pub(crate) node: BTreeMap<String, Vec<u8>>,
    pub(crate) logs: Vec<LogLine>,
    /// Rules of the ABI or of the contract that were broken.
    pub(crate) violations: Vec<String>,
    pub(crate) calls: BTreeMap<CallKey, u64>,
    /// Work of each callback of live VMs, about one per instruction.
    pub(crate) work: BTreeMap<&'static str, u64>,
    /// How often in a hundred a `set` of shared data finds that another thread was faster.
    pub(crate) contention_percent: u64,
    /// Envoy's empty header map in the access log phase: true gives OK and "", false gives
    /// `NotFound`.
    pub(crate) absent_header_is_empty: bool,
}

// === impl Process ===

impl Process {
    pub(crate) fn now(&self) -> Duration {
        self.clock.monotonic()
    }

    pub(crate) fn log(&mut self, thread: Thread, life: Life, message: String) {
        if self.logs.len() < LOG_LINES_MAX {
            self.logs.push(LogLine {
                thread,
                life,
                message,
            });
        }
    }

    /// True in so many of a hundred cases as the test asked for: another thread got in between.
    pub(crate) fn contended(&mut self) -> bool {
        self.contention_percent > 0 && self.roll(100) < self.contention_percent
    }

    pub(crate) fn roll(&mut self, end: u64) -> u64 {
        self.random().below(end)
    }

    pub(crate) fn random(&mut self) -> &mut Random {
        self.random.get_or_insert_with(|| Random::new(0))
    }
}
