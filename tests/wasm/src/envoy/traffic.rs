//! Requests and upstream attempts, through whatever plugins see them.

use std::rc::Rc;
use std::time::Duration;

use super::{Envoy, Handle, PluginIndex};
use crate::plugin::{Failure, Role};
use crate::process::Thread;
use crate::request::{Progress, Request, StreamInfo};

/// Time after a trap in which `FAIL_RELOAD` makes no new VM.
const RELOAD_BACKOFF: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct RequestId(u64);

/// What became of a request at the Wasm filters.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    Passed,
    /// Envoy answered 503 since a VM was dead.
    Failed,
}

#[derive(Debug)]
pub(super) struct InFlight {
    worker: usize,
    request: Request,
    /// Plugin, its handle at the start of the request, and the stream context of a filter.
    seen_by: Vec<(PluginIndex, Handle, Option<u32>)>,
    outcome: Outcome,
}

// === impl InFlight ===

impl InFlight {
    pub(super) fn thread(&self) -> Thread {
        Thread::Worker(self.worker)
    }

    pub(super) fn uses(&self, plugin: PluginIndex, handles: &[Handle]) -> bool {
        let mut seen = self.seen_by.iter();
        seen.any(|(index, handle, _)| *index == plugin && handles.contains(handle))
    }

    fn info(&self, progress: Progress) -> Rc<StreamInfo> {
        Rc::new(StreamInfo {
            request: self.request.clone(),
            progress,
        })
    }
}

// === impl Envoy ===

impl Envoy {
    /// A request arrives at a worker.
    pub fn begin(&mut self, worker: usize, request: &Request) -> RequestId {
        self.last_request += 1;
        let mut flight = InFlight {
            worker,
            request: request.clone(),
            seen_by: Vec::new(),
            outcome: Outcome::Passed,
        };
        for index in 0..self.installed.len() {
            let plugin = &self.installed[index].current.plugin;
            let role = plugin.role;
            if plugin.direction != request.direction || role == Role::UpstreamLog {
                continue;
            }
            let Some(handle) = self.handle(index, Thread::Worker(worker)) else {
                continue;
            };
            let mut context = None;
            if role == Role::Filter {
                context = self.enter_filter(index, handle, &mut flight);
            }
            flight.seen_by.push((index, handle, context));
        }
        let id = RequestId(self.last_request);
        self.requests.insert(id, flight);
        id
    }

    /// Runs the filter's side of a new request; returns the stream context.
    fn enter_filter(
        &mut self,
        index: PluginIndex,
        handle: Handle,
        flight: &mut InFlight,
    ) -> Option<u32> {
        let open = self.installed[index].current.plugin.failure == Failure::Open;
        let (_, vm) = self.vms.get_mut(&handle.vm)?;
        let context = vm.create_stream(handle.root, flight.info(Progress::Begun));
        if let Some(context) = context {
            let action = vm.on_request_headers(context);
            if action.is_some_and(|action| action != 0) {
                let text = "proxy_on_request_headers paused the request".to_owned();
                self.process.borrow_mut().violations.push(text);
            }
        }
        let (_, vm) = self.vms.get(&handle.vm)?;
        if vm.failed() && !open {
            flight.outcome = Outcome::Failed;
        }
        context
    }

    /// The thread's handle of a plugin; with `FAIL_RELOAD` one to a new VM when it is time.
    fn handle(&mut self, index: PluginIndex, thread: Thread) -> Option<Handle> {
        let now = self.now();
        let generation = &mut self.installed[index].current;
        let plugin = generation.plugin.clone();
        let handle = generation.handles.get_mut(&thread)?;
        let failed = self.vms.get(&handle.vm).is_none_or(|(_, vm)| vm.failed());
        if !failed || plugin.failure != Failure::Reload {
            return Some(*handle);
        }
        let at = *handle.reload_at.get_or_insert(now + RELOAD_BACKOFF);
        let old = *handle;
        if now < at {
            return Some(old);
        }
        generation.handles.remove(&thread);
        self.release(&[old]);
        let new = self.attach(thread, &plugin).ok()?;
        self.installed[index].current.handles.insert(thread, new);
        Some(new)
    }

    /// A request in flight ends with the status that it said, or with another.
    pub fn finish(&mut self, id: RequestId) -> Outcome {
        let Some(flight) = self.requests.remove(&id) else {
            return Outcome::Failed;
        };
        let info = flight.info(Progress::Complete);
        let contexts = flight.seen_by.iter();
        let contexts: Vec<_> = contexts
            .map(|(_, handle, stream)| (handle.vm, stream.unwrap_or(handle.root), *stream))
            .collect();
        let has_response = flight.request.status.is_some();
        for (vm, _, stream) in &contexts {
            if let (Some((_, vm)), Some(stream), true) =
                (self.vms.get_mut(vm), stream, has_response)
            {
                vm.on_response_headers(*stream);
            }
        }
        for (vm, context, _) in &contexts {
            if let Some((_, vm)) = self.vms.get_mut(vm) {
                vm.on_log(*context, Rc::clone(&info));
            }
        }
        for (vm, _, stream) in contexts {
            if let (Some((_, vm)), Some(stream)) = (self.vms.get_mut(&vm), stream) {
                vm.end_context(stream);
            }
        }
        flight.outcome
    }

    pub fn request(&mut self, worker: usize, request: &Request) -> Outcome {
        let id = self.begin(worker, request);
        self.finish(id)
    }

    /// An upstream attempt ends, as the router's `upstream_log` sees it.
    pub fn attempt(&mut self, worker: usize, attempt: &Request) {
        for index in 0..self.installed.len() {
            let plugin = &self.installed[index].current.plugin;
            if plugin.role != Role::UpstreamLog || plugin.direction != attempt.direction {
                continue;
            }
            let Some(handle) = self.handle(index, Thread::Worker(worker)) else {
                continue;
            };
            if let Some((_, vm)) = self.vms.get_mut(&handle.vm) {
                let info = StreamInfo {
                    request: attempt.clone(),
                    progress: Progress::Complete,
                };
                vm.on_log(handle.root, Rc::new(info));
            }
        }
    }

    /// Cuts off requests: they end without a response.
    pub(super) fn abort_requests(&mut self, which: impl Fn(&InFlight) -> bool) {
        let aborted = self.requests.iter().filter(|(_, flight)| which(flight));
        let aborted: Vec<_> = aborted.map(|(id, _)| *id).collect();
        for id in aborted {
            if let Some(flight) = self.requests.get_mut(&id) {
                flight.request.status = None;
            }
            self.finish(id);
        }
    }
}
