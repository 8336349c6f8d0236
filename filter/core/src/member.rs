//! This VM among the VMs of its process: its entry in the registry, and what it last read there.

use crate::host::Host;
use crate::registry::{DEAD_AFTER_MS, ModuleTag, Registry, Vm, VmId};
use crate::time::Monotonic;

/// How often a VM renews its entry, in milliseconds.
const RENEW_EVERY_MS: u64 = 500;
/// How long a VM is a member before it leads: the others need the time of a tick to enter
/// themselves.
const LEAD_AFTER_MS: u64 = 250;
/// For how long a new member looks at every tick who else there is.
const SETTLING_MS: u64 = 500;
/// For how long the former leader goes on beside the new one, in milliseconds.
const OVERLAP_MS: u64 = 1000;
/// A VM that did not tick for this long stood still, most likely with its whole process.
const STALLED_MS: u64 = 1000;

/// This VM among the VMs of its process.
#[derive(Debug, Default)]
pub struct Member {
    me: Vm,
    registry: Registry,
    joined_at: Option<Monotonic>,
    /// The entry has news for the others.
    stale: bool,
    /// Since when another VM has been the leader.
    led_since: Option<Monotonic>,
    ticked_at: Option<Monotonic>,
    /// The last tick before it stood still, and until when the others have time to renew their
    /// entries since.
    stalled: Option<(Monotonic, Monotonic)>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Lead {
    /// Nobody has been found yet.
    Unknown,
    Me,
    /// Another VM, which may still be opening its stream.
    OtherSoon,
    Other,
}

// === impl Member ===

impl Member {
    /// Notes when the VM was configured for the first time, and what it runs.
    pub fn configured(&mut self, module: ModuleTag, now: Monotonic) {
        if self.me.configured_at == Monotonic::default() {
            self.me.configured_at = now;
            self.me.module = module;
        }
    }

    /// Notes whether the VM has aggregators.
    pub fn can_stream(&mut self, can_stream: bool) {
        self.stale |= self.me.can_stream != can_stream;
        self.me.can_stream = can_stream;
    }

    /// Notes that the VM saw a request.
    #[inline]
    pub fn saw_request(&mut self) {
        self.stale |= !self.me.saw_request;
        self.me.saw_request = true;
    }

    /// When the VM was configured for the first time.
    pub fn configured_at(&self) -> Monotonic {
        self.me.configured_at
    }

    /// Renews the entry if it is time to.
    pub fn tick(&mut self, host: &impl Host, now: Monotonic) {
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

    /// Tells all VMs that each has to stream for itself.
    pub fn each_for_itself(&mut self, host: &impl Host, now: Monotonic) {
        self.renew(host, now, true);
    }

    fn renew(&mut self, host: &impl Host, now: Monotonic, each_for_itself: bool) {
        while self.me.id == VmId::default() {
            self.me.id = VmId(host.random().max(1));
        }
        let me = Vm {
            seen_at: now,
            ..self.me
        };
        let updated = Registry::update(host, &mut |registry| {
            registry.each_for_itself |= each_for_itself;
            registry.renew(me);
        });
        // If it did not work out, the next tick tries again.
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

    /// The moment as of which it is judged who is alive.
    fn judged_at(&self, now: Monotonic) -> Monotonic {
        self.stalled.map_or(now, |(before, _)| before)
    }

    /// Leaves in order; true if the sidecar ends with this VM.
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
            // The last report speaks of the process as it was with this VM.
            self.registry.clone_from(registry);
            registry.remove(me.id);
        });
        updated.is_some_and(|registry| registry.is_last(&me, now))
    }

    /// Random name of the process; 0 while unknown.
    pub fn process(&self) -> u64 {
        self.registry.process
    }

    /// Whether some VM found that each has to stream for itself.
    pub fn is_each_for_itself(&self) -> bool {
        self.registry.each_for_itself
    }

    pub fn lead(&self, now: Monotonic) -> Lead {
        let Some(joined_at) = self.joined_at else {
            return Lead::Unknown;
        };
        match self.led_since {
            Some(since) if now.millis_since(since) >= OVERLAP_MS => Lead::Other,
            Some(_) => Lead::OtherSoon,
            None if now.millis_since(joined_at) < LEAD_AFTER_MS => Lead::Unknown,
            None => Lead::Me,
        }
    }

    /// Whether the sum of what VMs have in flight holds that of a dead one.
    pub fn is_inflight_lost(&self) -> bool {
        self.registry.inflight_lost
    }

    /// VMs that should be counting, and VMs that do.
    pub fn vms(&self, now: Monotonic) -> (u32, u32) {
        let count = |vms: usize| u32::try_from(vms).unwrap_or(u32::MAX);
        let live = self.registry.live(self.judged_at(now)).count();
        (count(self.registry.expected()), count(live))
    }
}
