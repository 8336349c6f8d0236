//! One Wasm VM: a module's instance and the callbacks into it.
//!
//! A trap kills the VM: its callbacks are skipped from then on, as in Envoy. Its streams stay open
//! until the root contexts go.

use std::cell::RefCell;
use std::rc::Rc;

use anyhow::{Context as _, Result};
use wasmtime::{Instance, Linker, Module, Store, TypedFunc, WasmParams, WasmResults};

use crate::connection::VmIndex;
use crate::plugin::{Plugin, RootKey};
use crate::process::{Life, Process, Thread};
use crate::request::StreamInfo;
use crate::state::{Phase, VmState};

/// Fuel a callback has: far more than it needs, so that one that hangs ends as a trap.
const FUEL: u64 = 2_000_000_000;

/// A VM and what it exports.
pub(crate) struct Vm {
    store: Store<VmState>,
    exports: Exports,
    failed: bool,
    /// Fuel of the next callback alone, to make it trap.
    starved: Option<u64>,
}

/// The callbacks; Envoy skips those that a module does not export.
struct Exports {
    context_create: Option<TypedFunc<(u32, u32), ()>>,
    vm_start: Option<TypedFunc<(u32, u32), u32>>,
    configure: Option<TypedFunc<(u32, u32), u32>>,
    tick: Option<TypedFunc<u32, ()>>,
    request_headers: Option<TypedFunc<(u32, u32, u32), u32>>,
    response_headers: Option<TypedFunc<(u32, u32, u32), u32>>,
    log: Option<TypedFunc<u32, ()>>,
    done: Option<TypedFunc<u32, u32>>,
    delete: Option<TypedFunc<u32, ()>>,
    grpc_receive: Option<TypedFunc<(u32, u32, u32), ()>>,
    grpc_close: Option<TypedFunc<(u32, u32, u32), ()>>,
}

// === impl Vm ===

impl Vm {
    /// Loads a module into a VM and initialises it.
    pub(crate) fn new(
        linker: &Linker<VmState>,
        module: &Module,
        process: Rc<RefCell<Process>>,
        who: (VmIndex, Thread, Life),
        vm_id: &str,
    ) -> Result<Self> {
        let (index, thread, life) = who;
        let state = VmState::new(process, index, thread, life, vm_id.to_owned());
        let mut store = Store::new(linker.engine(), state);
        store.set_fuel(FUEL)?;
        let instance = linker.instantiate(&mut store, module)?;
        let memory = instance.get_memory(&mut store, "memory");
        store.data_mut().memory = Some(memory.context("no memory exported")?);
        let allocator = typed(&mut store, instance, "proxy_on_memory_allocate")?;
        let allocator = match allocator {
            Some(allocator) => Some(allocator),
            None => typed(&mut store, instance, "malloc")?,
        };
        store.data_mut().allocator = Some(allocator.context("no allocator exported")?);
        let exports = Exports::of(&mut store, instance)?;
        instance
            .get_func(&mut store, "proxy_abi_version_0_2_1")
            .context("Missing or unknown Proxy-Wasm ABI version")?;
        let initialize = typed::<(), ()>(&mut store, instance, "_initialize")?;
        if let Some(initialize) = initialize {
            initialize.call(&mut store, ())?;
        }
        store.data_mut().phase = Phase::Run;
        Ok(Self {
            store,
            exports,
            failed: false,
            starved: None,
        })
    }

    pub(crate) fn state(&self) -> &VmState {
        self.store.data()
    }

    pub(crate) fn state_mut(&mut self) -> &mut VmState {
        self.store.data_mut()
    }

    /// True once the VM trapped.
    pub(crate) fn failed(&self) -> bool {
        self.failed
    }

    /// Bytes of the module's memory.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.state()
            .memory
            .map_or(0, |memory| memory.data_size(&self.store))
    }

    /// Makes the next callback trap after so much work (1 is about one instruction).
    pub(crate) fn starve(&mut self, fuel: u64) {
        self.starved = Some(fuel);
    }

    /// Starts a root: the one that has the key of `plugin`, if there is one, else a new one.
    /// Returns its id and whether the module liked it.
    pub(crate) fn start(&mut self, plugin: &Plugin) -> (u32, bool) {
        let root = self.root(plugin.root_key());
        if let Some(create) = self.exports.context_create.clone() {
            self.call("proxy_on_context_create", root, &create, (root, 0));
        }
        let Some(start) = self.exports.vm_start.clone() else {
            return (root, true);
        };
        let liked = self.call("proxy_on_vm_start", root, &start, (root, 0));
        (root, liked.is_some_and(|liked| liked != 0))
    }

    fn root(&mut self, key: RootKey) -> u32 {
        match self.state().root_of_key(&key) {
            Some(root) => root,
            None => self.state_mut().add_root(key),
        }
    }

    /// Configures a root; false if the module refused.
    pub(crate) fn configure(&mut self, root: u32, configuration: &str) -> bool {
        let Some(configure) = self.exports.configure.clone() else {
            return true;
        };
        let size = u32::try_from(configuration.len()).unwrap_or(u32::MAX);
        self.state_mut().plugin_configuration = Some(configuration.as_bytes().to_vec());
        let liked = self.call("proxy_on_configure", root, &configure, (root, size));
        self.state_mut().plugin_configuration = None;
        liked.is_some_and(|liked| liked != 0)
    }

    pub(crate) fn on_tick(&mut self, root: u32) {
        if !self.state().contexts.contains_key(&root) {
            return;
        }
        if let Some(tick) = self.exports.tick.clone() {
            self.call("proxy_on_tick", root, &tick, root);
        }
    }

    /// A stream context with its request; `None` if the VM is dead.
    pub(crate) fn create_stream(&mut self, root: u32, info: Rc<StreamInfo>) -> Option<u32> {
        if self.failed {
            return None;
        }
        let context = self.state_mut().add_stream(root, info);
        if let Some(create) = self.exports.context_create.clone() {
            self.call("proxy_on_context_create", context, &create, (context, root));
        }
        (!self.failed).then_some(context)
    }

    /// Action of the module; `None` if it does not export the callback or trapped.
    pub(crate) fn on_request_headers(&mut self, context: u32) -> Option<u32> {
        let headers = self.exports.request_headers.clone()?;
        self.call(
            "proxy_on_request_headers",
            context,
            &headers,
            (context, 8, 1),
        )
    }

    /// As [`Self::on_request_headers`].
    pub(crate) fn on_response_headers(&mut self, context: u32) -> Option<u32> {
        let headers = self.exports.response_headers.clone()?;
        self.call(
            "proxy_on_response_headers",
            context,
            &headers,
            (context, 4, 0),
        )
    }

    /// A line of the access log: on the request's stream context, which knows the request until it
    /// ends, or on the root of an access logger.
    pub(crate) fn on_log(&mut self, context: u32, info: Rc<StreamInfo>) {
        let former = self.set_info(context, Some(info));
        if let Some(log) = self.exports.log.clone() {
            self.call("proxy_on_log", context, &log, context);
        }
        if former.is_none() {
            self.set_info(context, None);
        }
    }

    fn set_info(&mut self, context: u32, info: Option<Rc<StreamInfo>>) -> Option<Rc<StreamInfo>> {
        let context = self.state_mut().contexts.get_mut(&context)?;
        std::mem::replace(&mut context.info, info)
    }

    /// Ends a context: `proxy_on_done`, `proxy_on_delete`, and a reset of its streams.
    pub(crate) fn end_context(&mut self, context: u32) {
        if !self.state().contexts.contains_key(&context) {
            return;
        }
        let mut done = true;
        if let Some(on_done) = self.exports.done.clone() {
            self.state_mut().done_called = false;
            let answer = self.call("proxy_on_done", context, &on_done, context);
            done = answer != Some(0) || self.state().done_called;
        }
        if done && let Some(delete) = self.exports.delete.clone() {
            self.call("proxy_on_delete", context, &delete, context);
        }
        self.state_mut().remove_context(context);
    }

    pub(crate) fn on_grpc_receive(&mut self, root: u32, token: u32, message: Vec<u8>) {
        let Some(receive) = self.exports.grpc_receive.clone() else {
            return;
        };
        let size = u32::try_from(message.len()).unwrap_or(u32::MAX);
        self.state_mut().grpc_message = Some(message);
        self.call("proxy_on_grpc_receive", root, &receive, (root, token, size));
        self.state_mut().grpc_message = None;
    }

    pub(crate) fn on_grpc_close(&mut self, root: u32, token: u32, status: u32, message: &str) {
        if let Some(close) = self.exports.grpc_close.clone() {
            self.state_mut().grpc_status = (status, message.to_owned());
            self.call("proxy_on_grpc_close", root, &close, (root, token, status));
            self.state_mut().grpc_status.1.clear();
        }
        // Envoy forgets the stream only if this side had closed it; else the module has to close
        // it.
        if let Some(context) = self.state_mut().contexts.get_mut(&root) {
            let closed = |stream: &crate::state::GrpcStream| stream.local_closed;
            if context.streams.get(&token).is_some_and(closed) {
                context.streams.remove(&token);
            }
        }
    }

    /// Runs a callback, then those that had to wait for it. `None` if the VM is dead.
    fn call<P: WasmParams, R: WasmResults>(
        &mut self,
        name: &'static str,
        context: u32,
        function: &TypedFunc<P, R>,
        arguments: P,
    ) -> Option<R> {
        if self.failed {
            return None;
        }
        let result = self.enter(name, context, function, arguments);
        for close in std::mem::take(&mut self.state_mut().deferred) {
            self.on_grpc_close(close.root, close.token, close.status, &close.message);
        }
        result
    }

    fn enter<P: WasmParams, R: WasmResults>(
        &mut self,
        name: &'static str,
        context: u32,
        function: &TypedFunc<P, R>,
        arguments: P,
    ) -> Option<R> {
        let fuel = self.starved.take().unwrap_or(FUEL);
        let state = self.store.data_mut();
        (state.current, state.effective, state.callback) = (context, 0, name);
        let key = (state.life, name, "(callback)");
        *state.process.borrow_mut().calls.entry(key).or_default() += 1;
        let result = self
            .store
            .set_fuel(fuel)
            .and_then(|()| function.call(&mut self.store, arguments));
        self.note_work(name, fuel);
        match result {
            Ok(value) => Some(value),
            Err(trap) => {
                self.failed = true;
                let state = self.store.data();
                let (thread, life) = (state.thread, state.life);
                let text = format!("VM trapped in {name}: {trap:#}");
                state.process.borrow_mut().log(thread, life, text);
                None
            }
        }
    }

    fn note_work(&self, name: &'static str, fuel: u64) {
        let state = self.store.data();
        if state.life == Life::Live {
            let left = self.store.get_fuel().unwrap_or(fuel);
            let mut process = state.process.borrow_mut();
            *process.work.entry(name).or_default() += fuel.saturating_sub(left);
        }
    }
}

impl std::fmt::Debug for Vm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vm")
            .field("index", &self.state().index)
            .field("thread", &self.state().thread)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

// === impl Exports ===

impl Exports {
    fn of(store: &mut Store<VmState>, instance: Instance) -> Result<Self> {
        Ok(Self {
            context_create: typed(store, instance, "proxy_on_context_create")?,
            vm_start: typed(store, instance, "proxy_on_vm_start")?,
            configure: typed(store, instance, "proxy_on_configure")?,
            tick: typed(store, instance, "proxy_on_tick")?,
            request_headers: typed(store, instance, "proxy_on_request_headers")?,
            response_headers: typed(store, instance, "proxy_on_response_headers")?,
            log: typed(store, instance, "proxy_on_log")?,
            done: typed(store, instance, "proxy_on_done")?,
            delete: typed(store, instance, "proxy_on_delete")?,
            grpc_receive: typed(store, instance, "proxy_on_grpc_receive")?,
            grpc_close: typed(store, instance, "proxy_on_grpc_close")?,
        })
    }
}

/// An export with its type; `None` if there is none, an error if the type is another.
fn typed<P: WasmParams, R: WasmResults>(
    store: &mut Store<VmState>,
    instance: Instance,
    name: &str,
) -> Result<Option<TypedFunc<P, R>>> {
    let Some(function) = instance.get_func(&mut *store, name) else {
        return Ok(None);
    };
    let typed = function.typed::<P, R>(&*store);
    typed
        .map(Some)
        .map_err(|error| anyhow::anyhow!("Bad function signature for {name}: {error}"))
}
