//! The VMs of the process, in shared data.
//!
//! Every VM enters itself on its first tick and renews its entry at later ones. From the entries
//! each VM derives the same facts: the numbers of expected and live VMs, the leader, the process
//! ID. Envoy's canary VM never ticks, so it has no entry.

use crate::blob::Reader;
use crate::host::{Host, HostError};
use crate::time::Monotonic;

/// Key in shared data. The number changes with the record's layout.
const KEY: &str = "meshmeter.vms.1";
/// VMs at most: 26 bytes each, 6.5 KiB.
pub const VMS_MAX: usize = 256;
/// A VM is dead this time after its last renewal, in milliseconds: four times the interval.
pub const DEAD_AFTER_MS: u64 = 2000;
/// Attempts of a write when other VMs write concurrently.
const TRIES_MAX: usize = 16;

/// Random ID.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct VmId(pub u64);

/// Which compiled module a VM runs; two VMs of one thread differ in it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ModuleTag(pub u8);

/// The entry of a VM.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Vm {
    pub id: VmId,
    /// When it was configured for the first time: the main thread's VM is configured first.
    pub configured_at: Monotonic,
    /// Last renewal.
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
    /// Random ID of the process, never 0.
    pub process: u64,
    /// Process-wide counters cannot be read back: every VM streams its own.
    pub per_vm: bool,
    /// A VM died and has a successor: its requests in flight stay in the sum for ever.
    pub inflight_lost: bool,
    vms: Vec<Vm>,
}

// === impl Registry ===

impl Registry {
    /// Reads, changes and writes the record by compare-and-swap. `None` if the host fails or other
    /// VMs win every attempt.
    pub fn update(host: &impl Host, change: &mut dyn FnMut(&mut Self)) -> Option<Self> {
        for _ in 0..TRIES_MAX {
            let (mut registry, cas) = match host.shared_data(KEY) {
                // An unreadable record is replaced.
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

    /// Adds or renews an entry. A new VM replaces the longest dead one, as its successor. False if
    /// the registry is full.
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

    /// Removes a VM that ends orderly.
    pub fn remove(&mut self, id: VmId) {
        self.vms.retain(|entry| entry.id != id);
    }

    /// Number of VMs that should be counting; a dead one without a successor is included.
    pub fn expected(&self) -> usize {
        self.vms.len()
    }

    pub fn live(&self, now: Monotonic) -> impl Iterator<Item = &Vm> {
        self.vms.iter().filter(move |vm| vm.is_live(now))
    }

    /// The VM that streams for the process: of those without requests the one configured first,
    /// which is the main thread's. It ends last, so its last report includes all counts.
    pub fn leader(&self, now: Monotonic) -> Option<VmId> {
        self.live(now)
            .filter(|vm| vm.can_stream)
            .min_by_key(|vm| (vm.saw_request, vm.configured_at, vm.id))
            .map(|vm| vm.id)
    }

    /// Whether the sidecar ends with the VM `leaving`: all remaining VMs are idle ones of another
    /// module, which are the main thread's.
    pub fn is_last(&self, leaving: &Vm, now: Monotonic) -> bool {
        self.live(now)
            .filter(|vm| vm.id != leaving.id)
            .all(|vm| vm.module != leaving.module && !vm.saw_request)
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(10 + self.vms.len() * Vm::BYTES);
        bytes.extend_from_slice(&self.process.to_le_bytes());
        bytes.push(u8::from(self.per_vm) | (u8::from(self.inflight_lost) << 1));
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
            per_vm: flags & 1 != 0,
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
    const BYTES: usize = 26;

    pub fn is_live(&self, now: Monotonic) -> bool {
        now.millis_since(self.seen_at) < DEAD_AFTER_MS
    }
}

#[cfg(test)]
mod tests;
