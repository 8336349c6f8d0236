//! The state of the process: its workers, its configurations and the one VM that reports what the
//! workers count.
//!
//! The VM runs on Envoy's main thread. Envoy may call back from within its calls: such events wait
//! in a queue until the VM is free. A configuration may be destroyed on a worker, with the last
//! request that used it: then nothing of it is called any more, not even its streams, and the next
//! tick opens them in another configuration.

use std::collections::VecDeque;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, ThreadId};
use std::time::Duration;

use filter_core::config::Module;
use filter_core::host::{ContextId, Host as _, LogLevel, RootId};
use filter_core::time::Monotonic;
use filter_core::vm::Vm;
use parking_lot::Mutex;

use crate::clock;
use crate::grpc::{self, Status};
use crate::host::{ConfigHandle, Native, Proxy, StreamEvent, StreamId};
use crate::plugin::Plugin;
use crate::worker::Worker;

/// Longest wait for the acknowledgement of the last report, while Envoy waits for us to end.
const LAST_WITHIN: Duration = Duration::from_millis(500);

/// All state of the module in one Envoy.
pub(crate) struct Process<P: Proxy> {
    host: Native<P>,
    main_thread: OnceLock<ThreadId>,
    workers: Mutex<Vec<&'static Worker>>,
    /// Living configurations, oldest first.
    plugins: Mutex<Vec<(RootId, ConfigHandle)>>,
    last_root: AtomicU32,
    /// What Envoy said while the VM was busy.
    events: Mutex<VecDeque<Event>>,
    main: Mutex<Main<P>>,
}

enum Event {
    Stream(StreamEvent),
    Destroyed(RootId, ConfigHandle),
}

struct Main<P: Proxy> {
    vm: Option<Vm<Native<P>>>,
    /// Set when the process ends: nothing is reported any more.
    ending: Option<Ending>,
}

struct Ending {
    deadline: Monotonic,
    /// To be called once, when Envoy may end.
    completion: Option<Box<dyn FnOnce() + Send>>,
}

// === impl Process ===

impl<P: Proxy> Process<P> {
    pub(crate) fn new(proxy: P) -> Self {
        Self {
            host: Native::new(proxy),
            main_thread: OnceLock::new(),
            workers: Mutex::default(),
            plugins: Mutex::default(),
            last_root: AtomicU32::new(0),
            events: Mutex::default(),
            main: Mutex::new(Main {
                vm: None,
                ending: None,
            }),
        }
    }

    pub(crate) fn proxy(&self) -> &P {
        self.host.proxy()
    }

    /// A worker for the calling thread. It lives as long as the process, which has as many as
    /// threads that ever served a request.
    pub(crate) fn add_worker(&self) -> &'static Worker {
        let worker: &'static Worker = Box::leak(Box::default());
        self.workers.lock().push(worker);
        worker
    }

    /// A new configuration, on the main thread; `None` if it is refused, which is logged.
    pub(crate) fn configure(&self, handle: ConfigHandle, text: &[u8]) -> Option<Plugin> {
        let _ = self.main_thread.set(thread::current().id());
        let root = RootId(
            self.last_root
                .fetch_add(1, Ordering::Relaxed)
                .wrapping_add(1),
        );
        let plugin = match Plugin::parse(root, text) {
            Ok(plugin) => plugin,
            Err(sentence) => {
                self.host.log(LogLevel::Error, &sentence);
                return None;
            }
        };
        self.plugins.lock().push((root, handle));
        let mut main = self.main.lock();
        main.vm
            .get_or_insert_with(|| Vm::new(self.host.clone(), Module::Native))
            .on_configure(root, text);
        Some(plugin)
    }

    /// Envoy destroys a configuration: on the main thread, or on a worker.
    pub(crate) fn destroy(&self, root: RootId) {
        let handle = {
            let mut plugins = self.plugins.lock();
            let position = plugins.iter().position(|(known, _)| *known == root);
            let Some(position) = position else { return };
            plugins.remove(position).1
        };
        let event = Event::Destroyed(root, handle);
        if self.main_thread.get() == Some(&thread::current().id()) {
            self.events.lock().push_back(event);
            self.pump();
            return;
        }
        // Waits until the main thread makes no calls to the configuration.
        let mut main = self.main.lock();
        let ends = self.host.forget(handle);
        self.take(&mut main, event);
        for end in ends {
            self.take(&mut main, Event::Stream(end));
        }
    }

    /// Adds up what the workers counted, and lets the VM report it. On the main thread.
    pub(crate) fn tick(&self) {
        {
            let mut main = self.main.lock();
            if let Some(ending) = &mut main.ending {
                if clock::now() >= ending.deadline {
                    ending.complete();
                }
                return;
            }
            let Some(vm) = &mut main.vm else { return };
            self.collect(vm);
            if let Some(root) = vm.primary() {
                self.host.set_current(self.handle(root));
                vm.on_tick(root);
            }
        }
        self.pump();
    }

    /// The process is about to end: sends the last report, and calls `completion` when it is
    /// acknowledged, or soon.
    pub(crate) fn shut_down(&self, completion: Box<dyn FnOnce() + Send>) {
        {
            let mut main = self.main.lock();
            let sent = main.vm.as_mut().is_some_and(|vm| {
                self.collect(vm);
                vm.on_shutdown()
            });
            let within = u64::try_from(LAST_WITHIN.as_millis()).unwrap_or(0);
            let mut ending = Ending {
                deadline: clock::now().plus_millis(within),
                completion: Some(completion),
            };
            if !sent {
                ending.complete();
            }
            main.ending = Some(ending);
        }
        self.pump();
    }

    /// Headers or trailers of a response; `ends`: nothing follows.
    pub(crate) fn on_fields<'a>(
        &self,
        config: ConfigHandle,
        stream: StreamId,
        fields: impl Iterator<Item = (&'a [u8], &'a [u8])>,
        ends: bool,
    ) {
        if let Some(status) = grpc::status(fields, ends) {
            self.on_end(config, stream, status, false);
        }
    }

    pub(crate) fn on_data(&self, config: ConfigHandle, stream: StreamId, data: &[u8]) {
        let events = self.host.on_data(config, stream, data);
        self.events
            .lock()
            .extend(events.into_iter().map(Event::Stream));
        self.pump();
    }

    /// The end of a stream. With `gone`, Envoy has freed it.
    pub(crate) fn on_end(
        &self,
        config: ConfigHandle,
        stream: StreamId,
        status: Status,
        gone: bool,
    ) {
        let end = self.host.on_end(config, stream, status, gone);
        self.events.lock().extend(end.map(Event::Stream));
        self.pump();
    }

    fn handle(&self, root: RootId) -> Option<ConfigHandle> {
        let plugins = self.plugins.lock();
        let found = plugins.iter().find(|(known, _)| *known == root);
        found.map(|(_, handle)| *handle)
    }

    fn collect(&self, vm: &mut Vm<Native<P>>) {
        // Not one lock within the other: a thread may be adding its worker.
        let workers = self.workers.lock().clone();
        for worker in workers {
            let mut state = worker.lock();
            state.counters.advance(clock::now());
            vm.collect(&mut state.counters);
        }
    }

    /// Handles what waits, unless the VM is busy: then whoever has it does.
    fn pump(&self) {
        while let Some(mut main) = self.main.try_lock() {
            let Some(event) = self.events.lock().pop_front() else {
                return;
            };
            self.take(&mut main, event);
        }
    }

    fn take(&self, main: &mut Main<P>, event: Event) {
        match event {
            Event::Destroyed(root, handle) => {
                if let Some(vm) = &mut main.vm {
                    self.collect(vm);
                    vm.on_done(ContextId(root.0));
                    if vm.is_empty() {
                        main.vm = None;
                    }
                }
                // Streams end with it. The VM has let go of those of its primary root.
                for end in self.host.forget(handle) {
                    self.take(main, Event::Stream(end));
                }
            }
            Event::Stream(event) => {
                if let Some(ending) = &mut main.ending {
                    // The last report was acknowledged, or never will be.
                    ending.complete();
                }
                let Some(vm) = &mut main.vm else { return };
                match event {
                    StreamEvent::Message(token, message) => vm.on_grpc_receive(token, &message),
                    StreamEvent::Closed(token, status) => {
                        self.host.set_close_message(Some(status.text));
                        vm.on_grpc_close(token, status.code);
                        self.host.set_close_message(None);
                    }
                }
            }
        }
    }
}

// === impl Ending ===

impl Ending {
    fn complete(&mut self) {
        if let Some(completion) = self.completion.take() {
            completion();
        }
    }
}

#[cfg(test)]
mod tests;
