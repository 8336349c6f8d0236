//! An Envoy process: its threads, the VMs on them and the order in which they come and go.
//!
//! Everything runs on the caller's thread in virtual time, so a run is the same each time. What
//! Envoy does in parallel happens here one after another, worker 0 first.

mod events;
mod traffic;
mod view;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use wasmtime::Linker;

pub use self::traffic::{Outcome, RequestId};

use self::traffic::InFlight;
use crate::clock::Random;
use crate::connection::VmIndex;
use crate::plugin::{Plugin, RootKey, VmKey};
use crate::process::{Life, Process, Thread};
use crate::state::VmState;
use crate::vm::Vm;
use crate::{abi, module};

/// Time it takes to set up one VM; spreads the ticks of the threads.
const SETUP_TIME: Duration = Duration::from_millis(3);
/// Time that workers take to end one after another.
const SHUTDOWN_STEP: Duration = Duration::from_millis(2);

#[derive(Debug)]
pub struct Setup {
    /// `--concurrency`.
    pub workers: usize,
    pub seed: u64,
    /// The plugins, in the order of the configuration.
    pub plugins: Vec<Plugin>,
    /// Properties of the node by dotted path, `xds.node.metadata.NAME`.
    pub node: BTreeMap<String, String>,
    /// How often in a hundred a write of shared data meets another thread.
    pub contention_percent: u64,
    /// What a header of an absent map looks like: true for OK and "", false for `NotFound`.
    pub absent_header_is_empty: bool,
}

/// A running process. When it goes out of scope, any rule that was broken fails the test.
pub struct Envoy {
    process: Rc<RefCell<Process>>,
    linker: Linker<VmState>,
    vms: BTreeMap<VmIndex, (VmKey, Vm)>,
    /// Plugins that a canary has accepted.
    tried: Vec<(VmKey, RootKey)>,
    installed: Vec<Installed>,
    workers: usize,
    requests: BTreeMap<RequestId, InFlight>,
    last_vm: VmIndex,
    last_request: u64,
}

/// Number of a plugin in [`Setup::plugins`].
pub type PluginIndex = usize;

/// A thread's root context of a plugin.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Handle {
    vm: VmIndex,
    root: u32,
    /// When a VM that trapped may be replaced.
    reload_at: Option<Duration>,
}

/// A configuration of a plugin and its handles.
#[derive(Debug)]
struct Generation {
    plugin: Plugin,
    handles: BTreeMap<Thread, Handle>,
}

#[derive(Debug)]
struct Installed {
    current: Generation,
    /// Configurations whose listener still drains.
    draining: Vec<Generation>,
}

// === impl Setup ===

impl Setup {
    /// Two workers and the plugins.
    pub fn new(plugins: Vec<Plugin>) -> Self {
        Self {
            workers: 2,
            seed: 1,
            plugins,
            node: BTreeMap::new(),
            contention_percent: 0,
            absent_header_is_empty: false,
        }
    }

    /// The same with so many workers.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }
}

// === impl Envoy ===

impl Envoy {
    /// Starts a process: for each plugin the base VM, the canary and the main thread's VM, then the
    /// workers.
    pub fn start(setup: Setup) -> Result<Self> {
        let mut process = Process {
            random: Some(Random::new(setup.seed)),
            contention_percent: setup.contention_percent,
            absent_header_is_empty: setup.absent_header_is_empty,
            ..Process::default()
        };
        let node = setup.node.into_iter();
        process.node = node
            .map(|(path, value)| (path, value.into_bytes()))
            .collect();
        let mut envoy = Self {
            process: Rc::new(RefCell::new(process)),
            linker: abi::linker(module::engine())?,
            vms: BTreeMap::new(),
            tried: Vec::new(),
            installed: Vec::new(),
            workers: setup.workers,
            requests: BTreeMap::new(),
            last_vm: 0,
            last_request: 0,
        };
        let installed = envoy.install_all(setup.plugins);
        if installed.is_err() {
            // The error says what was broken.
            envoy.take_violations();
        }
        installed.map(|()| envoy)
    }

    fn install_all(&mut self, plugins: Vec<Plugin>) -> Result<()> {
        for plugin in plugins {
            let current = self.install_on_main(plugin)?;
            self.installed.push(Installed {
                current,
                draining: Vec::new(),
            });
        }
        for worker in 0..self.workers {
            for index in 0..self.installed.len() {
                self.install_on(Thread::Worker(worker), index)?;
            }
        }
        Ok(())
    }

    /// Base VM, canary and main thread.
    fn install_on_main(&mut self, plugin: Plugin) -> Result<Generation> {
        let key = plugin.vm_key();
        if !self.vms.values().any(|(vm_key, _)| *vm_key == key) {
            self.add_vm(&plugin, Thread::Main, Life::Base)?;
        }
        self.try_on_canary(&plugin)?;
        let handle = self.attach(Thread::Main, &plugin)?;
        let handles = BTreeMap::from([(Thread::Main, handle)]);
        Ok(Generation { plugin, handles })
    }

    fn install_on(&mut self, thread: Thread, index: PluginIndex) -> Result<()> {
        let plugin = self.installed[index].current.plugin.clone();
        let handle = self.attach(thread, &plugin)?;
        self.installed[index].current.handles.insert(thread, handle);
        Ok(())
    }

    fn add_vm(&mut self, plugin: &Plugin, thread: Thread, life: Life) -> Result<VmIndex> {
        self.last_vm += 1;
        let vm = Vm::new(
            &self.linker,
            &plugin.code.module,
            Rc::clone(&self.process),
            (self.last_vm, thread, life),
            &plugin.vm_id,
        )?;
        self.vms.insert(self.last_vm, (plugin.vm_key(), vm));
        let mut process = self.process.borrow_mut();
        let now = process.now();
        process.clock.advance_to(now + SETUP_TIME);
        Ok(self.last_vm)
    }

    /// Configures the plugin in a VM that is then destroyed without a callback.
    fn try_on_canary(&mut self, plugin: &Plugin) -> Result<()> {
        let tried = (plugin.vm_key(), plugin.root_key());
        if self.tried.contains(&tried) {
            return Ok(());
        }
        let index = self.add_vm(plugin, Thread::Main, Life::Canary)?;
        let accepted = self.start_root(index, plugin);
        self.destroy_vm(index);
        accepted?;
        self.tried.push(tried);
        Ok(())
    }

    fn start_root(&mut self, index: VmIndex, plugin: &Plugin) -> Result<u32> {
        let (_, vm) = self.vms.get_mut(&index).context("the VM is gone")?;
        let (root, liked) = vm.start(plugin);
        if !liked || !vm.configure(root, &plugin.configuration) {
            bail!("Unable to create Wasm plugin {}", plugin.name);
        }
        Ok(root)
    }

    /// The thread's root of a plugin; VM and root are made unless they are there.
    fn attach(&mut self, thread: Thread, plugin: &Plugin) -> Result<Handle> {
        let key = plugin.vm_key();
        let mut vms = self.vms.iter();
        let existing = vms.find(|(_, (vm_key, vm))| {
            *vm_key == key
                && vm.state().life == Life::Live
                && vm.state().thread == thread
                && !vm.failed()
        });
        let existing = existing.map(|(index, (_, vm))| {
            let root = vm.state().root_of_key(&plugin.root_key());
            (*index, root)
        });
        let (vm, root) = match existing {
            Some((vm, Some(root))) => (vm, root),
            Some((vm, None)) => (vm, self.start_root(vm, plugin)?),
            None => {
                let vm = self.add_vm(plugin, thread, Life::Live)?;
                (vm, self.start_root(vm, plugin)?)
            }
        };
        Ok(Handle {
            vm,
            root,
            reload_at: None,
        })
    }

    /// Replaces the configuration of a plugin, as an update of its listener does: a canary, then
    /// new root contexts beside the old ones, which live until [`Envoy::finish_drain`].
    pub fn update(&mut self, index: PluginIndex, plugin: Plugin) -> Result<()> {
        let generation = self.install_on_main(plugin)?;
        let installed = &mut self.installed[index];
        let old = std::mem::replace(&mut installed.current, generation);
        installed.draining.push(old);
        for worker in 0..self.workers {
            self.install_on(Thread::Worker(worker), index)?;
        }
        Ok(())
    }

    /// The drain time of old listeners is over: their requests are cut off, their root contexts
    /// end.
    pub fn finish_drain(&mut self) {
        let mut released = Vec::new();
        for index in 0..self.installed.len() {
            for generation in std::mem::take(&mut self.installed[index].draining) {
                let handles: Vec<_> = generation.handles.into_values().collect();
                self.abort_requests(|request| request.uses(index, &handles));
                released.extend(handles);
            }
        }
        self.release(&released);
        self.destroy_unused_bases();
    }

    /// Ends the root contexts behind handles that nobody else has, then the VMs that no handle
    /// leads to.
    fn release(&mut self, released: &[Handle]) {
        for handle in released {
            let same_root = |other: &Handle| (other.vm, other.root) == (handle.vm, handle.root);
            if !self.handles().any(same_root)
                && let Some((_, vm)) = self.vms.get_mut(&handle.vm)
            {
                vm.end_context(handle.root);
            }
        }
        for handle in released {
            if !self.handles().any(|other| other.vm == handle.vm) {
                self.destroy_vm(handle.vm);
            }
        }
    }

    fn handles(&self) -> impl Iterator<Item = &Handle> {
        let generations = self
            .installed
            .iter()
            .flat_map(|installed| installed.draining.iter().chain([&installed.current]));
        generations.flat_map(|generation| generation.handles.values())
    }

    fn destroy_vm(&mut self, index: VmIndex) {
        if let Some((_, mut vm)) = self.vms.remove(&index) {
            let contexts: Vec<_> = vm.state().contexts.keys().copied().collect();
            for context in contexts {
                vm.state_mut().remove_context(context);
            }
        }
    }

    /// A base VM goes with the last plugin that uses it, shared data with the last base VM of its
    /// `vm_id`.
    fn destroy_unused_bases(&mut self) {
        let live = |vms: &BTreeMap<VmIndex, (VmKey, Vm)>, key: &VmKey| {
            vms.values()
                .any(|(other, vm)| other == key && vm.state().life == Life::Live)
        };
        let unused: Vec<_> = self
            .vms
            .iter()
            .filter(|(_, (key, vm))| vm.state().life == Life::Base && !live(&self.vms, key))
            .map(|(index, (key, _))| (*index, key.clone()))
            .collect();
        for (index, key) in unused {
            self.destroy_vm(index);
            let others = |(other, _): &(VmKey, Vm)| other.vm_id == key.vm_id;
            if !self.vms.values().any(others) {
                self.process.borrow_mut().shared_data.forget(&key.vm_id);
            }
        }
    }

    /// SIGTERM: each worker cuts off its requests and ends its root contexts, then the main thread
    /// does; what was sent until then reaches the aggregator.
    pub fn shut_down(&mut self) {
        // Workers end in no order that a module could rely on.
        let mut workers: Vec<_> = (0..self.workers).map(Thread::Worker).collect();
        for last in (1..workers.len()).rev() {
            let chosen = self.process.borrow_mut().roll(last as u64 + 1);
            workers.swap(last, usize::try_from(chosen).unwrap_or(last));
        }
        for thread in workers.into_iter().chain([Thread::Main]) {
            self.abort_requests(|request| request.thread() == thread);
            self.end_thread(thread);
            self.run_for(SHUTDOWN_STEP);
        }
        self.destroy_unused_bases();
    }

    fn end_thread(&mut self, thread: Thread) {
        let mut handles = Vec::new();
        for installed in &mut self.installed {
            let draining = installed.draining.iter_mut();
            for generation in draining.chain([&mut installed.current]) {
                handles.extend(generation.handles.remove(&thread));
            }
        }
        self.release(&handles);
    }

    fn live(&self) -> impl Iterator<Item = &Vm> {
        self.vms
            .values()
            .map(|(_, vm)| vm)
            .filter(|vm| vm.state().life == Life::Live)
    }

    /// The next callback in the VM that serves a plugin on `thread` traps after so much work (1 is
    /// about one instruction).
    pub fn trap(&mut self, index: PluginIndex, thread: Thread, fuel: u64) {
        let handle = self.installed[index].current.handles.get(&thread);
        if let Some(handle) = handle
            && let Some((_, vm)) = self.vms.get_mut(&handle.vm)
        {
            vm.starve(fuel);
        }
    }

    /// The rules that were broken so far; they will not fail the test any more.
    pub fn take_violations(&mut self) -> Vec<String> {
        std::mem::take(&mut self.process.borrow_mut().violations)
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let process = self.process.borrow();
        let breaches = process.network.aggregator.breaches();
        let broken: Vec<_> = process.violations.iter().chain(breaches).collect();
        if !std::thread::panicking() {
            assert!(broken.is_empty(), "rules were broken: {broken:#?}");
        }
    }
}

impl std::fmt::Debug for Envoy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Envoy")
            .field("installed", &self.installed)
            .finish_non_exhaustive()
    }
}
