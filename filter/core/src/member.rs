//! This VM's membership in its process: its registry entry, and a copy of the registry.

use crate::host::Host;
use crate::registry::{DEAD_AFTER_MS, ModuleTag, Registry, Vm, VmId};
use crate::time::Monotonic;

/// Interval of renewals of the entry, in milliseconds.
const RENEW_EVERY_MS: u64 = 500;
/// Membership, in milliseconds, before a VM leads: other VMs need a tick to enter themselves.
const LEAD_AFTER_MS: u64 = 250;
/// A new member reads the registry at every tick for this time, in milliseconds.
const SETTLING_MS: u64 = 500;
/// The former leader keeps streaming for this time after a handover, in milliseconds.
const OVERLAP_MS: u64 = 1000;
/// A VM without a tick for this time, in milliseconds, was stalled, most likely with its process.
const STALLED_MS: u64 = 1000;

#[derive(Debug, Default)]
pub struct Member {
    me: Vm,
    registry: Registry,
    joined_at: Option<Monotonic>,
    /// The entry in the registry is outdated.
    stale: bool,
    /// Start of another VM's leadership.
    led_since: Option<Monotonic>,
    ticked_at: Option<Monotonic>,
    /// The last tick before a stall, and the deadline by which other VMs renew their entries.
    stalled: Option<(Monotonic, Monotonic)>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lead {
    Unknown,
    Me,
    /// Another VM leads, but may still be opening its stream.
    HandingOver,
    Other,
}

// === impl Member ===

impl Member {
    /// Records the time of the first configuration, and the module.
    pub fn configured(&mut self, module: ModuleTag, now: Monotonic) {
        if self.me.configured_at == Monotonic::default() {
            self.me.configured_at = now;
            self.me.module = module;
        }
    }

    pub fn can_stream(&mut self, can_stream: bool) {
        self.stale |= self.me.can_stream != can_stream;
        self.me.can_stream = can_stream;
    }

    #[inline]
    pub fn saw_request(&mut self) {
        self.stale |= !self.me.saw_request;
        self.me.saw_request = true;
    }

    pub fn configured_at(&self) -> Monotonic {
        self.me.configured_at
    }

    /// Renews the entry if due.
    pub fn tick(&mut self, host: &impl Host, now: Monotonic) {
        // After a stall of the process all entries look dead until their VMs tick again: until
        // then liveness is judged as of the last tick before it.
        let last = self.ticked_at.replace(now);
        if let Some(last) = last.filter(|last| now.millis_since(*last) >= STALLED_MS) {
            self.stalled = Some((last, now.plus_millis(DEAD_AFTER_MS)));
        }
        self.stalled = self.stalled.filter(|(_, until)| now < *until);
        let settling = self
            .joined_at
            .is_none_or(|at| now.millis_since(at) < SETTLING_MS);
        let due = now.millis_since(self.me.seen_at) >= RENEW_EVERY_MS;
        if settling || self.stale || due {
            self.renew(host, now, false);
        }
    }

    /// Makes every VM stream its own counters.
    pub fn set_per_vm(&mut self, host: &impl Host, now: Monotonic) {
        self.renew(host, now, true);
    }

    fn renew(&mut self, host: &impl Host, now: Monotonic, per_vm: bool) {
        while self.me.id == VmId::default() {
            self.me.id = VmId(host.random().max(1));
        }
        let me = Vm {
            seen_at: now,
            ..self.me
        };
        let updated = Registry::update(host, &mut |registry| {
            registry.per_vm |= per_vm;
            registry.renew(me);
        });
        // On failure the next tick tries again.
        let Some(registry) = updated else { return };
        self.registry = registry;
        self.me = me;
        self.stale = false;
        self.joined_at.get_or_insert(now);
        let led = self
            .registry
            .leader(self.judged_at(now))
            .is_some_and(|leader| leader != self.me.id);
        self.led_since = led.then(|| self.led_since.unwrap_or(now));
    }

    /// The time as of which liveness is judged.
    fn judged_at(&self, now: Monotonic) -> Monotonic {
        self.stalled.map_or(now, |(before, _)| before)
    }

    /// Removes the entry; true if the sidecar ends with this VM.
    pub fn leave(&mut self, host: &impl Host, now: Monotonic) -> bool {
        let me = Vm {
            seen_at: now,
            ..self.me
        };
        let joined = self.joined_at.take().is_some();
        let updated = Registry::update(host, &mut |registry| {
            if joined {
                registry.renew(me);
            }
            // The last report counts this VM among the live ones.
            self.registry.clone_from(registry);
            registry.remove(me.id);
        });
        updated.is_some_and(|registry| registry.is_last(&me, now))
    }

    /// Random ID of the process; 0 while unknown.
    pub fn process(&self) -> u64 {
        self.registry.process
    }

    /// Whether every VM streams its own counters.
    pub fn is_per_vm(&self) -> bool {
        self.registry.per_vm
    }

    pub fn lead(&self, now: Monotonic) -> Lead {
        let Some(joined_at) = self.joined_at else {
            return Lead::Unknown;
        };
        match self.led_since {
            Some(since) if now.millis_since(since) >= OVERLAP_MS => Lead::Other,
            Some(_) => Lead::HandingOver,
            None if now.millis_since(joined_at) < LEAD_AFTER_MS => Lead::Unknown,
            None => Lead::Me,
        }
    }

    /// Whether the sum of `inflight` includes requests of a dead VM.
    pub fn is_inflight_lost(&self) -> bool {
        self.registry.inflight_lost
    }

    /// Numbers of expected and live VMs.
    pub fn vms(&self, now: Monotonic) -> (u32, u32) {
        let count = |vms: usize| u32::try_from(vms).unwrap_or(u32::MAX);
        let live = self.registry.live(self.judged_at(now)).count();
        (count(self.registry.expected()), count(live))
    }
}
