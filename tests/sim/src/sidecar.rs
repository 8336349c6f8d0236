//! A sidecar: an Envoy process with a VM of each module on each thread, all of them the real filter
//! core.

use std::collections::BTreeSet;

use filter_core::config::Module;
use filter_core::host::{ContextId, RootId};
use filter_core::testing::{FakeHost, FakeProcess};
use filter_core::vm::Vm;
use rand::Rng as _;
use rand::rngs::SmallRng;

use crate::oracle::Kind;

/// Upstream clusters of pods that tell clusters apart.
pub(crate) const CLUSTERS: [&str; 5] = ["c0", "c1", "c2", "c3", "other"];

/// Configuration of a sidecar; kept across its processes.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) pod: usize,
    pub(crate) workers: usize,
    pub(crate) hidden: bool,
    pub(crate) attempts: bool,
    pub(crate) by_cluster: bool,
    pub(crate) aggregators: usize,
    pub(crate) flush_ms: u64,
    /// Offset of its clock from true time, in milliseconds.
    pub(crate) offset_ms: i64,
    /// Requests per second.
    pub(crate) rate: f64,
}

#[derive(Debug)]
pub(crate) struct Sidecar {
    pub(crate) setup: Setup,
    pub(crate) uid: u64,
    pub(crate) epoch: u64,
    pub(crate) process: FakeProcess,
    at: u64,
    pub(crate) vms: Vec<Side>,
    pub(crate) alive: bool,
    /// Segment of the process's counters; VMs that stream for themselves have their own.
    pub(crate) segment: usize,
    /// When VMs died that had ticked.
    pub(crate) deaths: Vec<u64>,
    /// Number of VMs that replaced dead ones.
    pub(crate) reloads: usize,
    next_root: u32,
    next_serial: u64,
}

#[derive(Debug)]
pub(crate) struct Side {
    pub(crate) serial: u64,
    pub(crate) thread: usize,
    pub(crate) module: Module,
    pub(crate) vm: Vm<FakeHost>,
    pub(crate) host: FakeHost,
    /// Roots that take requests: inbound and outbound, or the one of the upstream log.
    pub(crate) roots: Vec<RootId>,
    /// Roots that are not done yet.
    pub(crate) living: Vec<RootId>,
    pub(crate) dead_since: Option<u64>,
    /// Whether it ever ticked, so that the others know of it.
    pub(crate) ticked: bool,
    pub(crate) next_tick: u64,
    pub(crate) segment: usize,
    /// Counts since the last flush.
    pub(crate) pending: [Vec<u64>; 3],
    pub(crate) open: BTreeSet<u32>,
    next_context: u32,
}

impl Sidecar {
    pub(crate) fn new(setup: Setup, uid: u64, epoch: u64, now: u64, rng: &mut SmallRng) -> Self {
        let process = FakeProcess::new(rng.random());
        let unix = i64::try_from(now).unwrap_or(0) + setup.offset_ms;
        let drift = unix - i64::try_from(process.unix_ms()).unwrap_or(0);
        process.step_unix_ms(drift);
        if setup.hidden {
            process.hide_metrics("meshmeter.");
        }
        Self {
            setup,
            uid,
            epoch,
            process,
            at: now,
            vms: Vec::new(),
            alive: true,
            segment: 0,
            deaths: Vec::new(),
            reloads: 0,
            next_root: 1,
            next_serial: 0,
        }
    }

    /// Brings the process's clocks to `now`.
    pub(crate) fn advance(&mut self, now: u64) {
        self.process.advance_ms(now.saturating_sub(self.at));
        self.at = now;
    }

    /// Numbers of new roots of a configuration; the same in all VMs.
    pub(crate) fn new_roots(&mut self) -> u32 {
        self.next_root += 3;
        self.next_root - 3
    }

    pub(crate) fn add_vm(
        &mut self,
        thread: usize,
        module: Module,
        roots: u32,
        now: u64,
        segment: usize,
    ) {
        self.advance(now);
        let host = self.process.host();
        host.set_property("upstream.local_address", b"10.0.0.1:80");
        let vm = Vm::new(host.clone(), module);
        self.next_serial += 1;
        let mut side = Side {
            serial: self.next_serial,
            thread,
            module,
            vm,
            host,
            roots: Vec::new(),
            living: Vec::new(),
            dead_since: None,
            ticked: false,
            next_tick: now,
            segment,
            pending: Default::default(),
            open: BTreeSet::new(),
            next_context: 1000,
        };
        self.configure(&mut side, roots);
        self.vms.push(side);
    }

    pub(crate) fn configure(&self, side: &mut Side, first: u32) {
        let roles: &[(&str, &str)] = match side.module {
            Module::Log => &[("upstream_log", "inbound")],
            Module::Filter | Module::Native => &[("filter", "inbound"), ("filter", "outbound")],
        };
        side.roots.clear();
        for (index, (role, direction)) in (0..).zip(roles) {
            let root = RootId(first + index);
            side.vm
                .on_configure(root, self.config(role, direction).as_bytes());
            side.roots.push(root);
            side.living.push(root);
        }
    }

    fn config(&self, role: &str, direction: &str) -> String {
        let setup = &self.setup;
        let aggregators: Vec<String> = (0..setup.aggregators)
            .map(|index| format!(r#"{{"cluster":"agg-{index}"}}"#))
            .collect();
        let clusters = if setup.by_cluster {
            r#""dimensions":["cluster"],"max_series":3,"#
        } else {
            ""
        };
        format!(
            r#"{{"role":"{role}","direction":"{direction}",{clusters}"aggregators":[{}],"flush_interval_ms":{},"identity":{{"namespace":"sim","pod":"pod-{}","uid":"uid-{}-{}"}}}}"#,
            aggregators.join(","),
            setup.flush_ms,
            setup.pod,
            setup.pod,
            self.uid
        )
    }

    /// Value of the process-wide counter of `kind`, all clusters together.
    pub(crate) fn metric(&self, kind: Kind) -> u64 {
        let (direction, name) = match kind {
            Kind::Inbound => ("inbound", "requests"),
            Kind::Outbound => ("outbound", "requests"),
            Kind::Attempt => ("inbound", "upstream_attempts"),
        };
        let of = |cluster: &str| {
            let name = format!("meshmeter.{direction}{cluster}.{name}");
            self.process.metric(&name).unwrap_or(0)
        };
        of("")
            + CLUSTERS
                .iter()
                .map(|cluster| of(&format!(".{cluster}")))
                .sum::<u64>()
    }

    pub(crate) fn position(&self, serial: u64) -> Option<usize> {
        self.vms.iter().position(|side| side.serial == serial)
    }

    /// The VM of a module on a thread, the newest.
    pub(crate) fn on_thread(&self, thread: usize, module: Module) -> Option<usize> {
        self.vms
            .iter()
            .rposition(|side| side.thread == thread && side.module == module)
    }
}

impl Side {
    pub(crate) fn is_alive(&self) -> bool {
        self.dead_since.is_none()
    }

    /// A request begins; returns its context.
    pub(crate) fn begin(&mut self, kind: Kind, cluster: Option<&str>) -> Option<ContextId> {
        let root = *self.roots.get(kind as usize)?;
        self.next_context += 1;
        let context = ContextId(self.next_context);
        if let Some(cluster) = cluster {
            self.host
                .set_property("xds.cluster_name", cluster.as_bytes());
        }
        self.vm.on_context_create(context, root);
        self.vm.on_request_headers(context);
        self.open.insert(context.0);
        Some(context)
    }

    /// A request ends; false if the VM does not know it.
    pub(crate) fn end(&mut self, context: u32, status: Option<u16>) -> bool {
        if !self.open.remove(&context) {
            return false;
        }
        self.host.set_status(status);
        self.vm.on_log(ContextId(context));
        self.vm.on_done(ContextId(context));
        true
    }

    pub(crate) fn attempt(&mut self, cluster: Option<&str>) -> bool {
        let Some(root) = self.roots.first() else {
            return false;
        };
        if let Some(cluster) = cluster {
            self.host
                .set_property("xds.cluster_name", cluster.as_bytes());
        }
        self.vm.on_log(ContextId(root.0));
        true
    }
}
