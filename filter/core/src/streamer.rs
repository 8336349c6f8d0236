//! Streaming the totals of the process, or of this VM, to every aggregator.
//!
//! Totals are read only when a report is due; a tick without changes reads five metrics.

use crate::config::Aggregator;
use crate::counter::Counters;
use crate::host::{Host, LogLevel, RootId, StreamToken};
use crate::identity::Identity;
use crate::member::Member;
use crate::process::ProcessTotals;
use crate::report::{Facts, Hello, Reported};
use crate::stream::Link;
use crate::time::{Monotonic, Now, UnixMillis};
use crate::view::{Found, Version, View};

/// Milliseconds between ticks. A worker's counts reach the streaming VM after at most this time.
pub const TICK_MS: u32 = 100;

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Scope {
    #[default]
    Process,
    /// The counters of this VM, under their own instance.
    Vm {
        instance: u64,
        started_at: UnixMillis,
        /// Whether the parent of a hot restart still runs.
        has_parent: bool,
    },
}

/// Sources of the totals.
#[derive(Debug)]
pub struct Sources<'a> {
    pub scope: Scope,
    pub process: &'a ProcessTotals,
    pub counters: &'a Counters,
    pub member: &'a Member,
}

#[derive(Debug, Default)]
pub struct Streamer {
    links: Vec<Link>,
    view: View,
    /// Identity, once known, and the counters last observed.
    hello: Option<Hello>,
    /// [`CounterEpoch::changes`](crate::process::CounterEpoch::changes) at the last reading.
    changes: Option<u64>,
    quiet_at: Option<Monotonic>,
    /// A reset was detected in the last tick: the next one starts a new epoch.
    reset_pending: bool,
    /// The sum of `inflight` is unknown from now on.
    inflight_lost: bool,
}

// === impl Streamer ===

impl Streamer {
    /// Sets the aggregators. Streams to those that stay continue.
    pub fn configure(&mut self, host: &impl Host, wanted: Vec<Aggregator>, now: Monotonic) {
        let mut former = std::mem::take(&mut self.links);
        for aggregator in wanted {
            let existing = former
                .iter()
                .position(|link| *link.aggregator() == aggregator);
            self.links.push(match existing {
                Some(position) => former.swap_remove(position),
                None => Link::new(aggregator, now, host.random()),
            });
        }
        for link in &mut former {
            link.end(host, now);
        }
    }

    /// Sets identity and flush interval.
    pub fn introduce(&mut self, identity: Identity, flush_interval_ms: u64) {
        self.hello = Some(Hello {
            identity,
            flush_interval_ms,
            counters: Reported::default(),
        });
    }

    /// Skips the backoff of all streams.
    pub fn hurry(&mut self, now: Monotonic) {
        for link in &mut self.links {
            link.hurry(now);
        }
    }

    /// Whether there are no aggregators.
    pub fn is_idle(&self) -> bool {
        self.links.is_empty()
    }

    pub fn is_streaming(&self) -> bool {
        self.links.iter().any(Link::is_open)
    }

    pub fn tick(&mut self, host: &impl Host, root: RootId, sources: &Sources<'_>, now: Now) {
        let due = self.due(host, sources, now);
        if let (Some((facts, news)), Some(hello)) = (due, &self.hello) {
            for link in &mut self.links {
                link.tick(host, root, hello, &self.view, &facts, news);
            }
        }
    }

    /// Facts for the reports that are due, and whether totals changed; `None` if none is due.
    fn due(&mut self, host: &impl Host, sources: &Sources<'_>, now: Now) -> Option<(Facts, bool)> {
        let news = self.observe(host, sources, now)?;
        if !news && let Some(quiet_at) = self.quiet_at {
            for link in &mut self.links {
                link.settle(self.view.version(), quiet_at);
            }
        }
        let hello = self.hello.as_ref()?;
        let mut links = self.links.iter();
        if !links.any(|link| link.is_due(now.monotonic, hello, news)) {
            return None;
        }
        let unread = news || self.view.version() == Version(0);
        if unread && !self.read(host, sources, now) {
            return None;
        }
        let facts = self.facts(sources, now);
        if facts.inflight_lost && !std::mem::replace(&mut self.inflight_lost, true) {
            self.view.touch();
        }
        Some((facts, news))
    }

    /// Reads the epoch, without totals; true if totals changed since the last reading. `None` if
    /// nothing can be reported now.
    fn observe(&mut self, host: &impl Host, sources: &Sources<'_>, now: Now) -> Option<bool> {
        let process = sources.member.process();
        if process == 0 || self.hello.is_none() {
            return None;
        }
        let (instance, started_at, hot_restart) = match sources.scope {
            Scope::Process => {
                let epoch = sources.process.epoch(host)?;
                if epoch.was_reset || self.reset_pending {
                    self.reset(host, sources, now);
                    return None;
                }
                let news = self.changes != Some(epoch.changes);
                if !news {
                    // A worker may have counted since its last flush, at most one tick ago.
                    self.quiet_at = Some(now.monotonic.minus_millis(u64::from(TICK_MS)));
                }
                let counters = Reported {
                    process,
                    of_vm: false,
                    instance: epoch.instance,
                    started_at: epoch.started_at,
                    hot_restart: false,
                };
                self.set_counters(counters, now);
                return Some(news);
            }
            Scope::Vm {
                instance,
                started_at,
                has_parent,
            } => (instance, started_at, has_parent),
        };
        let counters = Reported {
            process,
            of_vm: true,
            instance,
            started_at,
            hot_restart,
        };
        self.set_counters(counters, now);
        let before = self.view.version();
        self.view.read_vm(sources.counters, now.monotonic);
        let news = self.view.version() != before || self.changes.is_some();
        if self.view.version() == before {
            self.quiet_at = Some(now.monotonic);
        }
        self.changes = None;
        Some(news)
    }

    /// Sets the reported counters. With another instance the view's values are obsolete.
    fn set_counters(&mut self, counters: Reported, now: Now) {
        let Some(hello) = &mut self.hello else {
            return;
        };
        let former = std::mem::replace(&mut hello.counters, counters).instance;
        if former != counters.instance && former != 0 {
            self.view.forget();
        }
        let age_ms = now.unix.0.saturating_sub(counters.started_at.0);
        self.quiet_at
            .get_or_insert(now.monotonic.minus_millis(age_ms));
    }

    /// Handles a reset in two ticks: `/reset_counters` resets one counter after another, so the new
    /// epoch starts one tick later, when all of them are 0.
    fn reset(&mut self, host: &impl Host, sources: &Sources<'_>, now: Now) {
        if self.reset_pending {
            let started_at = UnixMillis(now.unix.0.saturating_sub(u64::from(TICK_MS)));
            sources.process.new_epoch(host, started_at);
            self.view.forget();
            self.changes = None;
            host.log(
                LogLevel::Warn,
                "the process-wide counters were set back to 0 (/reset_counters): they go on under a new name",
            );
        }
        self.reset_pending = !self.reset_pending;
    }

    /// Reads the totals; false if they are unreliable.
    fn read(&mut self, host: &impl Host, sources: &Sources<'_>, now: Now) -> bool {
        if sources.scope != Scope::Process {
            return true;
        }
        // The epoch before the totals: a change between the two is read twice, not missed.
        let Some(epoch) = sources.process.epoch(host) else {
            return false;
        };
        let found = self.view.read_process(host, now.monotonic, epoch.listings);
        if epoch.was_reset || found == Found::Fall {
            self.reset_pending = true;
            return false;
        }
        self.changes = Some(epoch.changes);
        true
    }

    fn facts(&self, sources: &Sources<'_>, now: Now) -> Facts {
        let (vms_expected, vms_live) = sources.member.vms(now.monotonic);
        Facts {
            now,
            quiet_at: self.quiet_at.unwrap_or(now.monotonic),
            vms_expected,
            vms_live,
            inflight_lost: sources.scope == Scope::Process && sources.member.is_inflight_lost(),
        }
    }

    /// Closes all streams, since another VM streams.
    pub fn end(&mut self, host: &impl Host, now: Monotonic) {
        for link in &mut self.links {
            link.end(host, now);
        }
    }

    /// Sends the last report of the root that owns the streams.
    pub fn finish(&mut self, host: &impl Host, sources: &Sources<'_>, now: Now, is_final: bool) {
        if !self.is_streaming() {
            return;
        }
        let observed = self.observe(host, sources, now).is_some();
        if observed
            && self.read(host, sources, now)
            && let Some(hello) = &self.hello
        {
            let facts = self.facts(sources, now);
            for link in &mut self.links {
                link.finish(host, hello.counters.instance, &self.view, &facts, is_final);
            }
        }
    }

    pub fn receive(
        &mut self,
        host: &impl Host,
        token: StreamToken,
        message: &[u8],
        now: Monotonic,
    ) {
        if let Some(link) = self.links.iter_mut().find(|link| link.is(token)) {
            link.receive(host, message, now);
        }
    }

    /// The peer closed a stream, or it failed to open.
    pub fn closed(&mut self, host: &impl Host, token: StreamToken, status: u32, now: Monotonic) {
        if let Some(link) = self.links.iter_mut().find(|link| link.is(token)) {
            link.closed(host, status, now);
        }
        // Envoy keeps a stream that the peer closed until we close our half.
        let _ = host.close_stream(token);
    }
}
