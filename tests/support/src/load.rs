//! A bounded open-loop load: requests leave at the times a schedule says, however long the answers
//! take, and each one that was written is counted, as is what came back.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Highest rate of a phase, in requests per second: what one machine serves beside everything else.
pub const RATE_MAX: f64 = 5_000.0;
pub const DURATION_MAX: Duration = Duration::from_mins(10);
/// Most requests open at once; further ones are left out and counted as `skipped`.
pub const OPEN_MAX: usize = 1_024;
/// Longest wait for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(15);

/// A stretch of even load.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Phase {
    /// Requests per second.
    pub rate: f64,
    pub duration: Duration,
}

/// When each request is due, as time since the start.
#[derive(Clone, Debug)]
pub struct Schedule {
    phases: Vec<Phase>,
    phase: usize,
    /// Start of the current phase.
    base: Duration,
    /// Requests of the current phase so far.
    done: u32,
}

#[derive(Clone, Debug)]
pub struct Load {
    pub target: SocketAddr,
    pub host: String,
    pub path: String,
    /// Even phases, one after the other.
    pub phases: Vec<Phase>,
}

/// Counts of requests and responses. Can be read while the load runs.
#[derive(Debug, Default)]
pub struct Tally {
    written: AtomicU64,
    skipped: AtomicU64,
    refused: AtomicU64,
    broken: AtomicU64,
    answers: Mutex<BTreeMap<u16, u64>>,
}

type HttpClient = Client<HttpConnector, Empty<Bytes>>;

// === impl Schedule ===

impl Schedule {
    /// The schedule of `phases`; refuses rates and durations beyond the limits.
    pub fn new(phases: &[Phase]) -> Result<Self> {
        for phase in phases {
            if !(0.0..=RATE_MAX).contains(&phase.rate) {
                bail!("rate: {} requests/s is not in 0..={RATE_MAX}", phase.rate);
            }
        }
        let total: Duration = phases.iter().map(|phase| phase.duration).sum();
        if total > DURATION_MAX {
            bail!("duration: {total:?} is more than {DURATION_MAX:?}");
        }
        Ok(Self {
            phases: phases.to_vec(),
            phase: 0,
            base: Duration::ZERO,
            done: 0,
        })
    }
}

impl Iterator for Schedule {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        while let Some(phase) = self.phases.get(self.phase) {
            let offset = f64::from(self.done) / phase.rate;
            if offset < phase.duration.as_secs_f64() {
                self.done += 1;
                return Some(self.base + Duration::from_secs_f64(offset));
            }
            self.base += phase.duration;
            self.phase += 1;
            self.done = 0;
        }
        None
    }
}

// === impl Load ===

impl Load {
    /// GETs `/` of `target` in the given phases.
    pub fn new(target: SocketAddr, phases: Vec<Phase>) -> Self {
        Self {
            target,
            host: target.to_string(),
            path: "/".to_owned(),
            phases,
        }
    }

    /// Sends everything, waits for the answers, and counts into `tally`. Ends early, but orderly,
    /// on `stop`.
    pub async fn run(self, tally: Arc<Tally>, stop: CancellationToken) -> Result<()> {
        let schedule = Schedule::new(&self.phases)?;
        let client: HttpClient = Client::builder(TokioExecutor::new())
            // What was written is counted once: nothing may be written again behind our back.
            .retry_canceled_requests(false)
            .pool_timer(TokioTimer::new())
            .build_http();
        let permits = Arc::new(Semaphore::new(OPEN_MAX));
        let tasks = TaskTracker::new();
        let start = tokio::time::Instant::from_std(crate::clock::now());
        for due in schedule {
            let pause = tokio::time::sleep_until(start + due);
            if stop.run_until_cancelled(pause).await.is_none() {
                break;
            }
            let Ok(permit) = permits.clone().try_acquire_owned() else {
                tally.skipped.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            let request = self.request()?;
            let (client, tally) = (client.clone(), tally.clone());
            tasks.spawn(async move {
                send(&client, request, &tally).await;
                drop(permit);
            });
        }
        tasks.close();
        tasks.wait().await;
        Ok(())
    }

    fn request(&self) -> Result<Request<Empty<Bytes>>> {
        Request::builder()
            .uri(format!("http://{}{}", self.target, self.path))
            .header(header::HOST, &self.host)
            .body(Empty::new())
            .with_context(|| format!("path {}", self.path))
    }
}

async fn send(client: &HttpClient, request: Request<Empty<Bytes>>, tally: &Tally) {
    tally.written.fetch_add(1, Ordering::Relaxed);
    let exchange = async {
        let (head, body) = client.request(request).await?.into_parts();
        // The body is read to its end so that the connection can be used again.
        let whole = body.collect().await.is_ok();
        Ok::<_, hyper_util::client::legacy::Error>(whole.then_some(head.status.as_u16()))
    };
    match tokio::time::timeout(ANSWER_MAX, exchange).await {
        Ok(Ok(Some(status))) => tally.answered(status),
        Ok(Err(error)) if error.is_connect() => {
            tally.written.fetch_sub(1, Ordering::Relaxed);
            tally.refused.fetch_add(1, Ordering::Relaxed);
        }
        _ => {
            tally.broken.fetch_add(1, Ordering::Relaxed);
        }
    }
}

// === impl Tally ===

impl Tally {
    /// Requests written to the listener. Exact once the load has ended and [`Self::broken`] is 0.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Requests left out since too many were open.
    pub fn skipped(&self) -> u64 {
        self.skipped.load(Ordering::Relaxed)
    }

    /// Requests never written since no connection could be had.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Requests without a whole answer: whether the other side saw them is not known.
    pub fn broken(&self) -> u64 {
        self.broken.load(Ordering::Relaxed)
    }

    pub fn answers(&self) -> BTreeMap<u16, u64> {
        self.answers.lock().clone()
    }

    fn answered(&self, status: u16) {
        let mut answers = self.answers.lock();
        *answers.entry(status).or_default() += 1;
    }
}

#[cfg(test)]
mod tests;
