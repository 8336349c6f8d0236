//! What a test may look at and change from outside: the aggregator, metrics, logs, counts of calls,
//! memory.

use std::cell::Ref;
use std::collections::BTreeMap;

use super::Envoy;
use crate::aggregator::{Aggregator, Script};
use crate::metrics::Metrics;
use crate::process::{CallKey, LogLine, Thread};

impl Envoy {
    /// Changes how the aggregator behaves from now on.
    pub fn script(&self, change: impl FnOnce(&mut Script)) {
        let mut process = self.process.borrow_mut();
        let now = process.now();
        let network = &mut process.network;
        change(&mut network.aggregator.script);
        let answers = network.aggregator.catch_up(now);
        network.answer(now, answers);
    }

    /// The aggregator ends its streams with a gRPC status.
    pub fn close_streams(&self, status: u32, message: &str) {
        let mut process = self.process.borrow_mut();
        let now = process.now();
        let network = &mut process.network;
        let answers = network.aggregator.close_all(status, message);
        network.answer(now, answers);
    }

    /// What the aggregator saw.
    pub fn aggregator(&self) -> Ref<'_, Aggregator> {
        Ref::map(self.process.borrow(), |process| &process.network.aggregator)
    }

    /// The metrics of the process.
    pub fn metrics(&self) -> Ref<'_, Metrics> {
        Ref::map(self.process.borrow(), |process| &process.metrics)
    }

    pub fn logs(&self) -> Ref<'_, [LogLine]> {
        Ref::map(self.process.borrow(), |process| process.logs.as_slice())
    }

    /// How often each host function was called, by what the VM is for and by callback. Under the
    /// names in brackets are calls into the VM: of the callback itself, and of the module's
    /// allocator.
    pub fn calls(&self) -> BTreeMap<CallKey, u64> {
        self.process.borrow().calls.clone()
    }

    /// Work of live VMs by callback; 1 is about one instruction.
    pub fn work(&self) -> BTreeMap<&'static str, u64> {
        self.process.borrow().work.clone()
    }

    /// Begins the counts of calls and work anew.
    pub fn reset_calls(&mut self) {
        let mut process = self.process.borrow_mut();
        process.calls.clear();
        process.work.clear();
    }

    /// Bytes of memory of all live VMs, by thread.
    pub fn memory(&self) -> Vec<(Thread, usize)> {
        self.live()
            .map(|vm| (vm.state().thread, vm.memory_bytes()))
            .collect()
    }

    /// Threads whose VM trapped and was not replaced, one entry per VM.
    pub fn dead(&self) -> Vec<Thread> {
        self.live()
            .filter(|vm| vm.failed())
            .map(|vm| vm.state().thread)
            .collect()
    }

    /// Streams that the host still keeps for root contexts, whether or not their other end is
    /// there.
    pub fn streams_held(&self) -> usize {
        let contexts = self.live().flat_map(|vm| vm.state().contexts.values());
        contexts.map(|context| context.streams.len()).sum()
    }
}
