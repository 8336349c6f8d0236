//! Assigns processors: one to Envoy alone, another to the load and everything else.

use std::fs;

use anyhow::{Context, Result, bail};
use rustix::thread::{CpuSet, Pid, sched_getaffinity, sched_setaffinity};

/// Attempts to find threads that were created while others were being pinned.
const PASSES_MAX: usize = 20;

/// Two processors that this process may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cpus {
    /// Runs the Envoy that is measured.
    pub(crate) envoy: usize,
    /// Runs the load and the aggregator.
    pub(crate) load: usize,
}

// === impl Cpus ===

impl Cpus {
    /// The last two processors of those allowed: the first one often serves interrupts.
    pub(crate) fn choose() -> Result<Self> {
        let allowed = sched_getaffinity(None).context("read the allowed processors")?;
        let mut last = (0..CpuSet::MAX_CPU)
            .rev()
            .filter(|cpu| allowed.is_set(*cpu));
        match (last.next(), last.next()) {
            (Some(envoy), Some(load)) => Ok(Self { envoy, load }),
            _ => bail!("this needs two processors: one for Envoy, one for the load"),
        }
    }
}

/// Pins the calling thread; what it starts from now on inherits that.
pub(crate) fn pin_self(cpu: usize) -> Result<()> {
    sched_setaffinity(None, &only(cpu)).with_context(|| format!("pin this thread to CPU {cpu}"))
}

/// Pins all threads of a process.
pub(crate) fn pin_process(pid: u32, cpu: usize) -> Result<()> {
    let mut pinned = 0;
    for _ in 0..PASSES_MAX {
        let threads = threads(pid)?;
        for thread in &threads {
            let id = Pid::from_raw(*thread).context("thread ids are positive")?;
            sched_setaffinity(Some(id), &only(cpu))
                .with_context(|| format!("pin thread {thread} of process {pid} to CPU {cpu}"))?;
        }
        // A thread inherits the processor of the one that starts it: once a pass finds none new,
        // none is left out.
        if threads.len() == pinned {
            return Ok(());
        }
        pinned = threads.len();
    }
    bail!("process {pid} starts threads faster than they can be pinned")
}

/// Thread ids of a process.
pub(crate) fn threads(pid: u32) -> Result<Vec<i32>> {
    let folder = format!("/proc/{pid}/task");
    fs::read_dir(&folder)
        .with_context(|| format!("list {folder}"))?
        .map(|entry| {
            let name = entry?.file_name();
            let name = name.to_str().context("thread ids are digits")?;
            name.parse().with_context(|| format!("thread id {name:?}"))
        })
        .collect()
}

fn only(cpu: usize) -> CpuSet {
    let mut set = CpuSet::new();
    set.set(cpu);
    set
}
