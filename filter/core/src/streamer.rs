//! Streaming the totals of the process, or of this VM, to every aggregator.
//!
//! Reads totals when a report is due, not before; a tick without news reads five metrics.

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

/// Milliseconds between ticks. What a worker counted may take this long to be seen by the streaming
/// VM.
pub const TICK_MS: u32 = 100;

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Scope {
    #[default]
    Process,
    /// Those of this VM, under a name of its own.
    Vm {
        /// Random name of the counters.
        instance: u64,
        /// When they began at 0.
        started_at: UnixMillis,
        /// Whether the process takes over from a parent that is still there (a hot restart).
        has_parent: bool,
    },
}

/// The totals to stream, and where from.
#[derive(Debug)]
pub struct Sources<'a> {
    pub scope: Scope,
    pub process: &'a ProcessTotals,
    pub counters: &'a Counters,
    /// The VMs of the process.
    pub member: &'a Member,
}

#[derive(Debug, Default)]
pub struct Streamer {
    links: Vec<Link>,
    view: View,
    /// Who the sidecar is, once that is known, and whose counters were last observed.
    hello: Option<Hello>,
    /// What `changes` read when totals were last read.
    changes: Option<u64>,
    quiet_at: Option<Monotonic>,
    /// The counters were found set back to 0, one tick ago.
    fell: bool,
    /// The sum of what is in flight is not known any more.
    inflight_lost: bool,
}

// === impl Streamer ===

impl Streamer {
    /// Sets whom to stream to. Streams that are wanted as before go on.
    pub fn configure(&mut self, host: &impl Host, wanted: Vec<Aggregator>, now: Monotonic) {
        let mut former = std::mem::take(&mut self.links);
        for aggregator in wanted {
            let known = former
                .iter()
                .position(|link| *link.aggregator() == aggregator);
            self.links.push(match known {
                Some(position) => former.swap_remove(position),
                None => Link::new(aggregator, now, host.random()),
            });
        }
        for link in &mut former {
            link.end(host, now);
        }
    }

    /// Sets who the sidecar is and how often it reports.
    pub fn introduce(&mut self, identity: Identity, flush_interval_ms: u64) {
        self.hello = Some(Hello {
            identity,
            flush_interval_ms,
            counters: Reported::default(),
        });
    }

    /// Opens streams that wait for their time at once.
    pub fn hurry(&mut self, now: Monotonic) {
        for link in &mut self.links {
            link.hurry(now);
        }
    }

    /// Whether there is anyone to stream to.
    pub fn is_idle(&self) -> bool {
        self.links.is_empty()
    }

    /// Whether any stream is open.
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

    /// What to send on the streams, and whether something changed; `None` if nothing is to be sent.
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

    /// Finds out, cheaply, whose totals these are and whether they changed since they were last
    /// read. `None` if nothing can be said now.
    fn observe(&mut self, host: &impl Host, sources: &Sources<'_>, now: Now) -> Option<bool> {
        let process = sources.member.process();
        if process == 0 || self.hello.is_none() {
            return None;
        }
        let (instance, started_at, hot_restart) = match sources.scope {
            Scope::Process => {
                let signs = sources.process.signs(host)?;
                if signs.was_reset || self.fell {
                    self.reset(host, sources, now);
                    return None;
                }
                let news = self.changes != Some(signs.changes);
                if !news {
                    // A worker's tick is at most that far behind ours.
                    self.quiet_at = Some(now.monotonic.minus_millis(u64::from(TICK_MS)));
                }
                let counters = Reported {
                    process,
                    of_vm: false,
                    instance: signs.instance,
                    started_at: signs.started_at,
                    hot_restart: false,
                };
                self.name(counters, now);
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
        self.name(counters, now);
        let before = self.view.version();
        self.view.read_vm(sources.counters, now.monotonic);
        let news = self.view.version() != before || self.changes.is_some();
        if self.view.version() == before {
            self.quiet_at = Some(now.monotonic);
        }
        self.changes = None;
        Some(news)
    }

    /// Notes whose counters are reported. All that is known belongs to the former ones.
    fn name(&mut self, counters: Reported, now: Now) {
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

    /// The counters were set back to 0: gives them a new name, after a tick in which all of them
    /// are.
    fn reset(&mut self, host: &impl Host, sources: &Sources<'_>, now: Now) {
        if self.fell {
            let started_at = UnixMillis(now.unix.0.saturating_sub(u64::from(TICK_MS)));
            sources.process.rename(host, started_at);
            self.view.forget();
            self.changes = None;
            host.log(
                LogLevel::Warn,
                "the process-wide counters were set back to 0 (/reset_counters): they go on under a new name",
            );
        }
        self.fell = !self.fell;
    }

    /// Reads the totals; false if they cannot be relied on.
    fn read(&mut self, host: &impl Host, sources: &Sources<'_>, now: Now) -> bool {
        if sources.scope != Scope::Process {
            return true;
        }
        // First what tells of changes, then the totals: a change between the two is read twice, not
        // missed.
        let Some(signs) = sources.process.signs(host) else {
            return false;
        };
        let found = self.view.read_process(host, now.monotonic, signs.listings);
        if signs.was_reset || found == Found::Fall {
            self.fell = true;
            return false;
        }
        self.changes = Some(signs.changes);
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

    /// Ends all streams, since another VM streams.
    pub fn end(&mut self, host: &impl Host, now: Monotonic) {
        for link in &mut self.links {
            link.end(host, now);
        }
    }

    /// Sends the last report of the root that holds the streams.
    pub fn finish(&mut self, host: &impl Host, sources: &Sources<'_>, now: Now, is_final: bool) {
        if !self.is_streaming() {
            return;
        }
        let known = self.observe(host, sources, now).is_some();
        if known
            && self.read(host, sources, now)
            && let Some(hello) = &self.hello
        {
            let facts = self.facts(sources, now);
            for link in &mut self.links {
                link.finish(host, hello.counters.instance, &self.view, &facts, is_final);
            }
        }
    }

    /// Takes in a message of an aggregator.
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

    /// A stream was ended by its peer, or never began.
    pub fn closed(&mut self, host: &impl Host, token: StreamToken, status: u32, now: Monotonic) {
        if let Some(link) = self.links.iter_mut().find(|link| link.is(token)) {
            link.closed(host, status, now);
        }
        // Envoy keeps its half of what the peer ended until it is told.
        let _ = host.close_stream(token);
    }
}
