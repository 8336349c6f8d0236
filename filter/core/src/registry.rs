//! The VMs of the process, as they tell each other in shared data.
//!
//! Every VM enters itself on its first tick and renews its entry as it ticks. From the entries each
//! VM derives the same facts: how many VMs should be counting and how many do, who streams, what
//! the process is called. The canary VM never ticks, so it never stands here.

use crate::blob::Reader;
use crate::host::{Host, HostError};
use crate::time::Monotonic;

/// Where the record stands. The number changes with its layout.
const KEY: &str = "meshmeter.vms.1";
/// VMs that are entered at most: 26 bytes each, 6.5 KiB.
pub const VMS_MAX: usize = 256;
/// A VM that was not seen for this long is dead: four times its period of renewal.
pub const DEAD_AFTER_MS: u64 = 2000;
/// Times a write is tried when other VMs write at the same time.
const TRIES_MAX: usize = 16;

/// Random name of a VM.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct VmId(pub u64);

/// Which compiled module a VM runs; two VMs of one thread differ in it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ModuleTag(pub u8);

/// What one VM says of itself.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Vm {
    pub id: VmId,
    /// When it was configured for the first time: the main thread's VM is configured first.
    pub configured_at: Monotonic,
    /// When it last renewed its entry.
    pub seen_at: Monotonic,
    /// Whether it ever saw a request: the main thread's VM never does.
    pub saw_request: bool,
    /// Whether it has aggregators to stream to.
    pub can_stream: bool,
    pub module: ModuleTag,
}

/// The record of all VMs.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Registry {
    /// Random name of the process, never 0.
    pub process: u64,
    /// Some VM found that process-wide counters cannot be read back: each VM streams for itself.
    pub each_for_itself: bool,
    /// A VM died and has a successor: the requests that it had in flight stay in the sum for ever.
    pub inflight_lost: bool,
    vms: Vec<Vm>,
}

// === impl Registry ===

impl Registry {
    /// Reads the record as it stands, changes it and writes it back; tries again when another VM
    /// was faster. `None` if the host refuses, or others are faster each time.
    pub fn update(host: &impl Host, change: &mut dyn FnMut(&mut Self)) -> Option<Self> {
        for _ in 0..TRIES_MAX {
            let (mut registry, cas) = match host.shared_data(KEY) {
                // An unreadable record is one of nobody: it is begun anew.
                Ok((bytes, cas)) => (Self::decode(&bytes).unwrap_or_default(), Some(cas)),
                Err(HostError::NotFound) => (Self::default(), None),
                Err(_) => return None,
            };
            if registry.process == 0 {
                registry.process = host.random().max(1);
            }
            change(&mut registry);
            match host.set_shared_data(KEY, &registry.encode(), cas) {
                Ok(()) => return Some(registry),
                Err(HostError::CasMismatch) => {}
                Err(_) => return None,
            }
        }
        None
    }

    /// Enters or renews a VM. A new one takes the place of the longest dead, of which it is the
    /// successor. False if there is no room.
    pub fn renew(&mut self, vm: Vm) -> bool {
        if let Some(entry) = self.vms.iter_mut().find(|entry| entry.id == vm.id) {
            *entry = vm;
            return true;
        }
        let dead = self
            .vms
            .iter_mut()
            .filter(|entry| !entry.is_live(vm.seen_at))
            .min_by_key(|entry| entry.seen_at);
        if let Some(entry) = dead {
            *entry = vm;
            self.inflight_lost = true;
            return true;
        }
        if self.vms.len() >= VMS_MAX {
            return false;
        }
        self.vms.push(vm);
        true
    }

    /// Takes out a VM that ends in order.
    pub fn remove(&mut self, id: VmId) {
        self.vms.retain(|entry| entry.id != id);
    }

    /// VMs that should be counting; one that died without a successor stays expected.
    pub fn expected(&self) -> usize {
        self.vms.len()
    }

    pub fn live(&self, now: Monotonic) -> impl Iterator<Item = &Vm> {
        self.vms.iter().filter(move |vm| vm.is_live(now))
    }

    /// The VM that streams for the process: one that never saw a request, and of these the one that
    /// was configured first, which is the main thread's; it ends last, so its last report holds
    /// everything.
    pub fn leader(&self, now: Monotonic) -> Option<VmId> {
        self.live(now)
            .filter(|vm| vm.can_stream)
            .min_by_key(|vm| (vm.saw_request, vm.configured_at, vm.id))
            .map(|vm| vm.id)
    }

    /// Whether the sidecar ends when the VM `leaving` does: all that are left are idle VMs of
    /// another module, which are the main thread's.
    pub fn is_last(&self, leaving: &Vm, now: Monotonic) -> bool {
        self.live(now)
            .filter(|vm| vm.id != leaving.id)
            .all(|vm| vm.module != leaving.module && !vm.saw_request)
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(10 + self.vms.len() * Vm::BYTES);
        bytes.extend_from_slice(&self.process.to_le_bytes());
        bytes.push(u8::from(self.each_for_itself) | (u8::from(self.inflight_lost) << 1));
        for vm in &self.vms {
            bytes.extend_from_slice(&vm.id.0.to_le_bytes());
            bytes.extend_from_slice(&vm.configured_at.0.to_le_bytes());
            bytes.extend_from_slice(&vm.seen_at.0.to_le_bytes());
            bytes.push(u8::from(vm.saw_request) | (u8::from(vm.can_stream) << 1));
            bytes.push(vm.module.0);
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        let process = reader.u64()?;
        let flags = reader.u8()?;
        let mut registry = Self {
            process,
            each_for_itself: flags & 1 != 0,
            inflight_lost: flags & 2 != 0,
            vms: Vec::new(),
        };
        while !reader.0.is_empty() {
            let id = VmId(reader.u64()?);
            let configured_at = Monotonic(reader.u64()?);
            let seen_at = Monotonic(reader.u64()?);
            let flags = reader.u8()?;
            registry.vms.push(Vm {
                id,
                configured_at,
                seen_at,
                saw_request: flags & 1 != 0,
                can_stream: flags & 2 != 0,
                module: ModuleTag(reader.u8()?),
            });
        }
        Some(registry)
    }
}

// === impl Vm ===

impl Vm {
    /// Bytes of an entry.
    const BYTES: usize = 26;

    /// Whether the VM renewed its entry lately.
    pub fn is_live(&self, now: Monotonic) -> bool {
        now.millis_since(self.seen_at) < DEAD_AFTER_MS
    }
}

#[cfg(test)]
mod tests;
