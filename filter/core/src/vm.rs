//! One Wasm VM: handles the host's callbacks, counts, flushes and streams.
//!
//! Request callbacks only add to [`Counters`]. The tick of the oldest root does everything else, in
//! this order: renew the registry entry, flush to the process-wide totals, stream if this VM leads.

use std::cell::OnceCell;

use crate::config::{Config, ConfiguredIdentity, Module};
use crate::counter::Counters;
use crate::host::{ContextId, Host, LogLevel, RootId, StreamToken};
use crate::identity;
use crate::member::{Lead, Member};
use crate::open_requests::OpenRequests;
use crate::process::{ProcessTotals, Unusable};
use crate::registry::ModuleTag;
use crate::root::Roots;
use crate::series::Role;
use crate::streamer::{Scope, Sources, Streamer, TICK_MS};
use crate::time::{Now, UnixMillis};

mod lookup;

/// Property that only attempts with an upstream connection have.
const UPSTREAM_LOCAL_ADDRESS: &[u8] = b"upstream\0local_address";

#[derive(Debug)]
pub struct Vm<H> {
    host: H,
    module: Module,
    roots: Roots,
    counters: Counters,
    open: OpenRequests,
    /// The newest stream context: its root is known even if the table of open requests is full.
    newest: Option<Newest>,
    started_at: UnixMillis,
    /// Both clocks at the VM's start, the reference for [`Now`].
    began: OnceCell<Now>,
    member: Member,
    process: ProcessTotals,
    scope: Scope,
    streamer: Streamer,
    /// Whether the identity has to be resolved (again).
    unidentified: bool,
}

#[derive(Clone, Copy, Debug)]
struct Newest {
    context: ContextId,
    root: RootId,
    began: bool,
}

// === impl Vm ===

impl<H: Host> Vm<H> {
    pub fn new(host: H, module: Module) -> Self {
        Self {
            host,
            module,
            roots: Roots::default(),
            counters: Counters::default(),
            open: OpenRequests::default(),
            newest: None,
            started_at: UnixMillis::default(),
            began: OnceCell::new(),
            member: Member::default(),
            process: ProcessTotals::default(),
            scope: Scope::default(),
            streamer: Streamer::default(),
            unidentified: false,
        }
    }

    fn now(&self) -> Now {
        let monotonic = self.host.monotonic_now();
        let first = || Now {
            unix: self.host.unix_now(),
            monotonic,
        };
        self.began.get_or_init(first).at(monotonic)
    }

    /// Configures a root context, possibly again. Has no visible effect except log lines: the VM
    /// may be a canary that Envoy discards.
    pub fn on_configure(&mut self, root: RootId, text: &[u8]) {
        let now = self.now();
        let (config, problems) = Config::parse(text, self.module);
        for problem in problems {
            self.host.log(LogLevel::Warn, &problem);
        }
        let tag = ModuleTag(u8::from(self.module == Module::Log));
        self.member.configured(tag, now.monotonic);
        if self.started_at == UnixMillis::default() {
            self.started_at = now.unix;
        }
        if !self.roots.configure(root, config) {
            self.host.log(
                LogLevel::Error,
                "more than 256 plugin configurations in one VM: one of them counts nothing",
            );
            return;
        }
        self.configure_streams(now);
        // Resolves the series in advance if the configuration has a direction; otherwise each
        // request reads it.
        let _ = self.series_of(root, false);
        if self.host.set_tick_period(TICK_MS).is_err() {
            self.host.log(
                LogLevel::Error,
                "the host refuses ticks: nothing is streamed",
            );
        }
    }

    /// Sets the streams from the configurations of all roots.
    fn configure_streams(&mut self, now: Now) {
        let (aggregators, left_out) = self.roots.aggregators();
        if left_out {
            self.host.log(
                LogLevel::Warn,
                "plugin configuration: `aggregators` of all plugins together are more than 4; using the newest",
            );
        }
        self.member.can_stream(!aggregators.is_empty());
        self.streamer
            .configure(&self.host, aggregators, now.monotonic);
        self.unidentified = !self.streamer.is_idle();
    }

    /// Resolves the identity once for each set of configurations.
    fn identify(&mut self) {
        if !std::mem::take(&mut self.unidentified) {
            return;
        }
        let default = Config::new(self.module);
        let newest = |wanted: fn(&Config) -> bool| {
            self.roots
                .newest_first()
                .map(|root| &root.config)
                .find(|config| wanted(config))
                .unwrap_or(&default)
        };
        let configured =
            &newest(|config| config.identity != ConfiguredIdentity::default()).identity;
        let flush_interval_ms = newest(|config| !config.aggregators.is_empty()).flush_interval_ms;
        match identity::resolve(&self.host, configured) {
            Ok(identity) => self.streamer.introduce(identity, flush_interval_ms),
            Err(sentence) => self.host.log(LogLevel::Error, &sentence),
        }
    }

    /// The root that ticks for the VM and owns its streams.
    pub fn primary(&self) -> Option<RootId> {
        match self.module {
            Module::Native => self.roots.newest(),
            Module::Filter | Module::Log => self.roots.primary(),
        }
    }

    /// Takes over what a thread of the process counted since the last time, for hosts whose threads
    /// have counters but no VM. Without a root nothing is taken.
    pub fn collect(&mut self, worker: &mut Counters) {
        if self.roots.is_empty() {
            return;
        }
        if worker.has_pending() {
            self.member.saw_request();
        }
        self.counters.collect(worker, self.roots.max_series());
    }

    /// Whether all plugin configurations are gone.
    pub fn is_empty(&self) -> bool {
        self.roots.is_empty()
    }

    /// Sends the last report of a process that is about to end, while its roots still exist; true
    /// if there was a stream for it. Ticks have to stop then.
    pub fn on_shutdown(&mut self) -> bool {
        let now = self.now();
        self.flush(now);
        let was_streaming = self.streamer.is_streaming();
        let sources = Sources {
            scope: self.scope,
            process: &self.process,
            counters: &self.counters,
            member: &self.member,
        };
        self.streamer.finish(&self.host, &sources, now, true);
        was_streaming
    }

    /// Only the primary root's tick has an effect: all roots tick.
    pub fn on_tick(&mut self, root: RootId) {
        if self.primary() != Some(root) {
            return;
        }
        let now = self.now();
        self.member.tick(&self.host, now.monotonic);
        self.flush(now);
        if self.streamer.is_idle() {
            return;
        }
        self.identify();
        if let Scope::Vm { has_parent, .. } = &mut self.scope {
            *has_parent = self.process.has_parent(&self.host);
        }
        let lead = match self.scope {
            Scope::Process => self.member.lead(now.monotonic),
            Scope::Vm { .. } => Lead::Me,
        };
        match lead {
            Lead::Unknown => {}
            Lead::Other => self.streamer.end(&self.host, now.monotonic),
            // Keeps open streams until the new leader's are open, but opens none.
            Lead::HandingOver if !self.streamer.is_streaming() => {}
            Lead::Me | Lead::HandingOver => {
                let sources = Sources {
                    scope: self.scope,
                    process: &self.process,
                    counters: &self.counters,
                    member: &self.member,
                };
                self.streamer.tick(&self.host, root, &sources, now);
            }
        }
    }

    /// Flushes counts to the process-wide totals.
    fn flush(&mut self, now: Now) {
        self.counters.advance(now.monotonic);
        if self.scope != Scope::Process {
            return;
        }
        if let Err(why) = self.flush_to_process() {
            self.switch_to_vm_scope(&why, now);
            if why != Unusable::Elsewhere {
                self.member.set_per_vm(&self.host, now.monotonic);
            }
        }
    }

    fn flush_to_process(&mut self) -> Result<(), Unusable> {
        let is_per_vm = self.member.is_per_vm();
        self.process.probe(&self.host, self.started_at)?;
        // Before `Elsewhere` is returned: every VM detects a hot restart by itself.
        if is_per_vm || !self.process.has_instance() {
            self.process.read_instance(&self.host)?;
        }
        if is_per_vm {
            return Err(Unusable::Elsewhere);
        }
        self.process.flush(&self.host, &mut self.counters)
    }

    fn switch_to_vm_scope(&mut self, why: &Unusable, now: Now) {
        let is_merged = *why == Unusable::Merged;
        if is_merged {
            // Counts so far were reported as the process's, or are from a time of unknown totals.
            self.counters.restart();
            // The parent's reports alone are too low from now on.
            self.streamer.hurry(now.monotonic);
        }
        self.scope = Scope::Vm {
            instance: self.host.random().max(1),
            started_at: if is_merged { now.unix } else { self.started_at },
            has_parent: is_merged,
        };
        let why = match why {
            Unusable::Hidden(why) => why,
            Unusable::Elsewhere => "another VM cannot rely on process-wide counters",
            Unusable::Merged => {
                "hot restart: Envoy added counts of the parent process to ours, and the value of the pod is unknown \
                 until the parent ends"
            }
        };
        let consequence = if self.streamer.is_idle() {
            "this VM has no `aggregators`: what it counts is not reported"
        } else {
            "each VM streams for itself"
        };
        self.host
            .log(LogLevel::Warn, &format!("{why}; {consequence}"));
    }

    /// Root contexts are added by [`Self::on_configure`] instead.
    #[inline]
    pub fn on_context_create(&mut self, context: ContextId, root: RootId) {
        if root.0 == 0 {
            return;
        }
        self.newest = Some(Newest {
            context,
            root,
            began: false,
        });
        self.open.insert(context, root);
    }

    #[inline]
    pub fn on_request_headers(&mut self, context: ContextId) {
        self.member.saw_request();
        let Some(root) = self.root_of(context) else {
            return;
        };
        if let Some(newest) = self.newest.as_mut().filter(|new| new.context == context) {
            newest.began = true;
        }
        let Some(series) = self.series_of(root, true) else {
            return;
        };
        self.counters.event(series);
        if self.open.enter(context, series) {
            self.counters.enter(series, self.host.monotonic_now());
        } else {
            self.counters.untracked();
        }
    }

    /// A line of an access log: the end of a request or attempt. The filter's module does not
    /// export it: its requests end in [`Self::on_done`].
    #[inline]
    pub fn on_log(&mut self, context: ContextId) {
        if self.module == Module::Filter {
            return;
        }
        self.member.saw_request();
        // Envoy calls access loggers with their root context.
        let as_root = RootId(context.0);
        let root = if self.roots.get(as_root).is_some() {
            Some(as_root)
        } else {
            self.root_of(context)
        };
        if let Some(root) = root {
            self.count_end(root);
        }
    }

    /// The end of a stream context or of a root.
    #[inline]
    pub fn on_done(&mut self, context: ContextId) {
        let as_root = RootId(context.0);
        if self.roots.get(as_root).is_some() {
            self.on_root_done(as_root);
        } else if self.module == Module::Filter {
            self.on_stream_done(context);
        }
    }

    /// The end of a request. Envoy also creates contexts, only to end them at once, for requests
    /// that it answered before they reached the filter.
    #[inline]
    fn on_stream_done(&mut self, context: ContextId) {
        self.member.saw_request();
        let root = self.root_of(context);
        let open = self.open.remove(context);
        if let Some(series) = open.and_then(|open| open.series) {
            self.counters.leave(series, self.host.monotonic_now());
            self.counters
                .respond(series, || self.host.response_status());
            return;
        }
        let began = !self
            .newest
            .is_some_and(|newest| newest.context == context && !newest.began);
        if open.is_none()
            && began
            && let Some(root) = root
            && let Some(series) = self.series_of(root, true)
        {
            // It was counted, but the table of open requests had no room for it.
            self.counters
                .respond(series, || self.host.response_status());
        }
    }

    /// Counts in a role that counts ends.
    #[inline]
    fn count_end(&mut self, id: RootId) {
        match self.roots.get(id).map(|root| root.config.role) {
            Some(Role::AccessLog) => {
                if let Some(series) = self.series_of(id, true) {
                    self.counters.event(series);
                    self.counters
                        .respond(series, || self.host.response_status());
                }
            }
            Some(Role::UpstreamLog) => {
                // An attempt that never got a connection has no local address.
                if self.host.property(UPSTREAM_LOCAL_ADDRESS, &mut []).is_ok()
                    && let Some(series) = self.series_of(id, true)
                {
                    self.counters.event(series);
                }
            }
            Some(Role::Filter) | None => {}
        }
    }

    fn on_root_done(&mut self, root: RootId) {
        let now = self.now();
        let was_primary = self.primary() == Some(root);
        let _ = self.host.set_tick_period(0);
        // Before the root is removed: the last report below includes these counts.
        self.flush(now);
        self.roots.remove(root);
        let is_last = self.roots.is_empty() && self.member.leave(&self.host, now.monotonic);
        if was_primary {
            let sources = Sources {
                scope: self.scope,
                process: &self.process,
                counters: &self.counters,
                member: &self.member,
            };
            self.streamer.finish(&self.host, &sources, now, is_last);
        }
        self.configure_streams(now);
    }

    pub fn on_grpc_receive(&mut self, token: StreamToken, message: &[u8]) {
        let now = self.host.monotonic_now();
        self.streamer.receive(&self.host, token, message, now);
    }

    /// A stream was closed, or failed to open.
    pub fn on_grpc_close(&mut self, token: StreamToken, status: u32) {
        let now = self.host.monotonic_now();
        self.streamer.closed(&self.host, token, status, now);
    }

    #[cfg(any(test, feature = "testing"))]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    #[cfg(any(test, feature = "testing"))]
    pub fn host(&self) -> &H {
        &self.host
    }
}

#[cfg(test)]
mod tests;
