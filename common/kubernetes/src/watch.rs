//! One watch: a paginated list, then the changes, and a new list when they cannot be resumed.
//!
//! Every sign of life is recorded: a page, the response to a watch, an event, a bookmark, the end
//! of a watch in its time. A watch without one for [`LOST_AFTER`] is lost: its objects are still
//! served, but this replica is no longer ready.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use common_json::Tolerant;
use common_time::{Clock, Monotonic};
use futures_util::StreamExt as _;
use kube::Client;
use kube::core::WatchEvent;
use parking_lot::Mutex;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::time::{sleep, timeout};
use tokio_util::codec::{FramedRead, LinesCodec, LinesCodecError};
use tokio_util::compat::FuturesAsyncReadCompatExt as _;
use tokio_util::sync::CancellationToken;

use crate::connection::{ANSWER_WITHIN, ClusterError, get, request};
use crate::index::Index;
use crate::objects::{List, Named};
use crate::scope::Scope;

/// Objects on one page of a list: a pod has some 10 KiB of JSON, so a page has some 5 MiB.
const PAGE_MAX: usize = 500;

/// Pages of one list: 2,000 times [`PAGE_MAX`] is a million objects, more than a cluster holds.
const PAGES_MAX: usize = 2_000;

/// Duration of one watch request. Short, so that a connection that died silently is noticed soon;
/// resuming costs kube-apiserver next to nothing.
const WATCH_SECONDS: u64 = 45;

/// How much longer the end of a watch may take.
const WATCH_END_WITHIN: Duration = Duration::from_secs(10);

/// Pause between attempts: doubled from the minimum to the maximum as long as they fail.
const RETRY_MIN: Duration = Duration::from_millis(250);
const RETRY_MAX: Duration = Duration::from_secs(8);

/// Bytes of an event, which has one object, at most. etcd takes objects of 1.5 MiB.
const EVENT_MAX: usize = 8 * 1024 * 1024;

/// Characters that are percent-encoded in a query: all but the unreserved (RFC 3986, section 2.3).
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// How long a watch may be without a sign of life before it is lost: one watch, its end, and an
/// attempt or two.
pub const LOST_AFTER: Duration = Duration::from_secs(90);

/// The state of one watch, shared by its task, metrics and readiness checks.
#[derive(Debug)]
pub struct WatchState {
    name: &'static str,
    scope: String,
    /// Monotonic time of the last sign of life.
    last_sign: AtomicU64,
    /// Monotonic time of which the index shows all that there was; of the start before the first
    /// list.
    current: AtomicU64,
    listed: AtomicBool,
    /// The API server does not serve the kind, which is optional, or refuses one that is not
    /// needed.
    absent: AtomicBool,
    pub(crate) objects: AtomicU64,
    pub(crate) failures: AtomicU64,
    pub(crate) lists: AtomicU64,
    /// The last failure since the last sign of life.
    failure: Mutex<Option<String>>,
}

/// A watch and its index.
pub(crate) struct Watch<T> {
    pub(crate) client: Client,
    pub(crate) index: Arc<T>,
    pub(crate) scope: Scope,
    pub(crate) state: Arc<WatchState>,
    pub(crate) clock: Clock,
}

/// Why a watch ended early.
enum Broken {
    /// The server no longer has the resource version (410): list again.
    Expired,
    /// Any other error: resume from the same version.
    Failed(ClusterError),
}

// === impl WatchState ===

impl WatchState {
    pub(crate) fn new(name: &'static str, scope: &Scope, now: Monotonic) -> Self {
        Self {
            name,
            scope: scope.to_string(),
            last_sign: AtomicU64::new(now.0),
            current: AtomicU64::new(now.0),
            listed: AtomicBool::new(false),
            absent: AtomicBool::new(false),
            objects: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            lists: AtomicU64::new(0),
            failure: Mutex::new(None),
        }
    }

    /// The name in metrics; from a fixed set.
    pub fn name(&self) -> &'static str {
        self.name
    }

    pub fn scope(&self) -> &str {
        &self.scope
    }

    /// Time since its last sign of life, or since its start.
    pub fn age(&self, now: Monotonic) -> Duration {
        now.since(Monotonic(self.last_sign.load(Ordering::Relaxed)))
    }

    /// How far its objects lag behind at most: while a list is being read, those of the list before
    /// are still there.
    pub(crate) fn lag(&self, now: Monotonic) -> Duration {
        now.since(Monotonic(self.current.load(Ordering::Relaxed)))
    }

    /// Why its objects may be missing or stale; `None` while they are current.
    pub fn fault(&self, now: Monotonic) -> Option<String> {
        if let Some(missing) = self.missing() {
            return Some(missing);
        }
        let age = self.age(now);
        let absent = self.absent.load(Ordering::Relaxed);
        (age > LOST_AFTER && !absent).then(|| {
            let (name, scope, seconds) = (self.name, &self.scope, age.as_secs());
            format!(
                "the watch of {name} in {scope} has been silent for {seconds} s: {}",
                self.last_failure()
            )
        })
    }

    /// Why its first list is not complete; `None` once it is.
    pub(crate) fn missing(&self) -> Option<String> {
        let done = [&self.listed, &self.absent];
        if done.iter().any(|done| done.load(Ordering::Relaxed)) {
            return None;
        }
        let (name, scope) = (self.name, &self.scope);
        Some(format!(
            "{name} in {scope} are not listed yet: {}",
            self.last_failure()
        ))
    }

    /// Why there are no objects of a kind that the program does without.
    pub(crate) fn absence(&self) -> Option<String> {
        let absent = self.is_absent();
        absent.then(|| format!("{} in {}: {}", self.name, self.scope, self.last_failure()))
    }

    pub(crate) fn is_absent(&self) -> bool {
        self.absent.load(Ordering::Relaxed)
    }

    fn last_failure(&self) -> String {
        let failure = self.failure.lock();
        failure
            .clone()
            .unwrap_or_else(|| "no answer yet".to_owned())
    }

    fn alive(&self, now: Monotonic) {
        self.last_sign.store(now.0, Ordering::Relaxed);
        let mut failure = self.failure.lock();
        *failure = None;
    }

    /// A sign of life of a watch, which leaves no change out.
    fn mark_current(&self, now: Monotonic) {
        self.alive(now);
        self.current.store(now.0, Ordering::Relaxed);
    }

    fn failed(&self, error: &ClusterError) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let mut message = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(error) = source {
            let text = error.to_string();
            if !message.contains(&text) {
                message = format!("{message}: {text}");
            }
            source = error.source();
        }
        let mut failure = self.failure.lock();
        let first = failure.is_none();
        *failure = Some(message.clone());
        drop(failure);
        if first {
            tracing::warn!(
                watch = self.name,
                scope = self.scope,
                error = message,
                "watch failed"
            );
        }
    }
}

// === impl Watch ===

impl<T: Index> Watch<T> {
    /// Watches until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.follow() => {}
        }
    }

    async fn follow(&self) {
        let mut pause = RETRY_MIN;
        loop {
            let mut asked_to_wait = Duration::ZERO;
            match self.list().await {
                Ok(version) => {
                    if self.watch_on(version).await {
                        pause = RETRY_MIN;
                    }
                }
                Err(error) => {
                    let error = self.explained(error);
                    self.state.failed(&error);
                    asked_to_wait = error.retry_after().unwrap_or_default();
                }
            }
            // After a successful list too: if the server then reports its version as expired (410),
            // listing everything again at once would be a hot loop.
            sleep(pause.max(asked_to_wait.min(RETRY_MAX))).await;
            pause = (2 * pause).min(RETRY_MAX);
        }
    }

    /// Turns a 404 of the collection into [`ClusterError::NotServed`]. Objects of a kind that is
    /// not needed are forgotten where they are refused: they would never change again.
    fn explained(&self, error: ClusterError) -> ClusterError {
        let refused = matches!(error.status(), Some(403 | 404)) && !self.index.is_needed();
        if refused {
            self.index.reset(&self.scope, &HashSet::new());
            self.state.objects.store(0, Ordering::Relaxed);
            self.state.absent.store(true, Ordering::Relaxed);
        }
        if error.status() != Some(404) {
            return error;
        }
        if self.index.optional() {
            self.state.absent.store(true, Ordering::Relaxed);
        }
        ClusterError::NotServed {
            resource: self.index.resource(),
            group: self.index.group_path(),
        }
    }

    /// Watches from `version` until a new list is needed. True if any event was received or any
    /// watch ended in its time.
    async fn watch_on(&self, mut version: String) -> bool {
        let mut pause = RETRY_MIN;
        let mut progressed = false;
        loop {
            let began = version.clone();
            let outcome = self.watch(&mut version).await;
            progressed |= outcome.is_ok() || version != began;
            // Progress resets the backoff, even if the watch failed in the end.
            if version != began {
                pause = RETRY_MIN;
            }
            match outcome {
                Ok(()) => pause = RETRY_MIN,
                Err(Broken::Expired) => return progressed,
                Err(Broken::Failed(error)) => {
                    self.state.failed(&error);
                    let asked = error.retry_after().unwrap_or_default();
                    sleep(pause.max(asked.min(RETRY_MAX))).await;
                    pause = (2 * pause).min(RETRY_MAX);
                }
            }
        }
    }

    /// Lists everything into the index; returns the version to watch from.
    async fn list(&self) -> Result<String, ClusterError> {
        let (accept, _) = self.index.accepts();
        let began = self.clock.now();
        let mut listed = HashSet::new();
        let mut next: Option<String> = None;
        let mut version = String::new();
        for _ in 0..PAGES_MAX {
            let from = next
                .take()
                .map(|token| format!("&continue={}", utf8_percent_encode(&token, RESERVED)));
            let query = format!("limit={PAGE_MAX}{}", from.unwrap_or_default());
            let path = self.path(&query);
            let page: List<T::Object> = get(&self.client, &path, accept).await?;
            self.state.alive(self.clock.now());
            version = page.metadata.resource_version;
            for object in page.items {
                let metadata = object.metadata();
                listed.insert((metadata.namespace.clone(), metadata.name.clone()));
                self.index.apply(object);
            }
            next = page.metadata.next.filter(|token| !token.is_empty());
            if next.is_none() {
                break;
            }
        }
        // Only after the last page: a list that fails halfway must not delete the objects of the
        // rest.
        self.index.reset(&self.scope, &listed);
        self.state.current.store(began.0, Ordering::Relaxed);
        self.state
            .objects
            .store(listed.len() as u64, Ordering::Relaxed);
        self.state.lists.fetch_add(1, Ordering::Relaxed);
        self.state.absent.store(false, Ordering::Relaxed);
        if !self.state.listed.swap(true, Ordering::Relaxed) {
            let (name, scope) = (self.state.name, &self.state.scope);
            tracing::info!(watch = name, scope, object.count = listed.len(), "listed");
        }
        Ok(version)
    }

    async fn watch(&self, version: &mut String) -> Result<(), Broken> {
        let (_, accept) = self.index.accepts();
        let query = format!(
            "watch=true&allowWatchBookmarks=true&timeoutSeconds={WATCH_SECONDS}&resourceVersion={version}"
        );
        let path = self.path(&query);
        let what = format!("GET {path}");
        let failed = |source| Broken::of(&what, source);
        let late = |within| {
            let what = what.clone();
            Broken::Failed(ClusterError::Late { what, within })
        };
        let request = request(&path, accept)
            .ok_or_else(|| Broken::Failed(ClusterError::Malformed { what: what.clone() }))?;
        let opened = timeout(ANSWER_WITHIN, self.client.request_stream(request));
        let opened = opened.await.map_err(|_| late(ANSWER_WITHIN))?;
        let body = std::pin::pin!(opened.map_err(failed)?);
        let mut lines = FramedRead::new(body.compat(), LinesCodec::new_with_max_length(EVENT_MAX));
        self.state.mark_current(self.clock.now());
        let silence = Duration::from_secs(WATCH_SECONDS) + WATCH_END_WITHIN;
        while let Some(line) = timeout(silence, lines.next())
            .await
            .map_err(|_| late(silence))?
        {
            let line = line.map_err(|error| failed(kube::Error::ReadEvents(unreadable(error))))?;
            if !line.trim().is_empty() {
                let event = match common_json::from_str(&line) {
                    Ok(event) => event,
                    // The connection was closed in the middle of a line: resume.
                    Err(error) if error.is_eof() => return Ok(()),
                    Err(error) => return Err(failed(kube::Error::SerdeError(error))),
                };
                self.take(event, version, &what)?;
            }
            self.state.mark_current(self.clock.now());
        }
        Ok(())
    }

    fn take(
        &self,
        event: WatchEvent<Tolerant<T::Object>>,
        version: &mut String,
        what: &str,
    ) -> Result<(), Broken> {
        let objects = &self.state.objects;
        match event {
            WatchEvent::Added(Tolerant(object)) => {
                object.metadata().resource_version.clone_into(version);
                objects.fetch_add(1, Ordering::Relaxed);
                self.index.apply(object);
            }
            WatchEvent::Modified(Tolerant(object)) => {
                object.metadata().resource_version.clone_into(version);
                self.index.apply(object);
            }
            WatchEvent::Deleted(Tolerant(object)) => {
                object.metadata().resource_version.clone_into(version);
                let less = |count: u64| Some(count.saturating_sub(1));
                // Never an error: `less` always returns `Some`.
                let _ = objects.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
                self.index.delete(&object);
            }
            WatchEvent::Bookmark(bookmark) => *version = bookmark.metadata.resource_version,
            WatchEvent::Error(status) => return Err(Broken::of(what, kube::Error::Api(status))),
        }
        Ok(())
    }

    fn path(&self, query: &str) -> String {
        let index = &self.index;
        let namespace = match &self.scope {
            Scope::All => String::new(),
            Scope::Namespace(namespace) => format!("/namespaces/{namespace}"),
        };
        let field = index.field_selector();
        let field =
            field.map(|field| format!("&fieldSelector={}", utf8_percent_encode(field, RESERVED)));
        format!(
            "{}{namespace}/{}?{query}{}",
            index.group_path(),
            index.resource(),
            field.unwrap_or_default()
        )
    }
}

// === impl Broken ===

impl Broken {
    fn of(what: &str, source: kube::Error) -> Self {
        let error = ClusterError::Request {
            what: what.to_owned(),
            source: Box::new(source),
        };
        match error.status() {
            Some(410) => Self::Expired,
            _ => Self::Failed(error),
        }
    }
}

fn unreadable(error: LinesCodecError) -> io::Error {
    match error {
        LinesCodecError::Io(error) => error,
        LinesCodecError::MaxLineLengthExceeded => {
            io::Error::other(format!("an event is longer than {EVENT_MAX} bytes"))
        }
    }
}
