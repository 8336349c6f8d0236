//! A well-behaved sidecar: it says hello, reports each second and wants its acknowledgement in
//! time.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use proto::v1::aggregator_frame::Frame;
use proto::v1::ingest_client::IngestClient;
use proto::v1::{self, AggregatorFrame, SidecarFrame, sidecar_frame};
use tests_support::clock;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tonic::transport::Endpoint;

use crate::probes::PATIENCE;

const REPORT_EVERY: Duration = Duration::from_secs(1);
const REQUESTS: u64 = 100;

/// A sidecar that goes on until asked for its outcome.
#[derive(Debug)]
pub struct Sidecar {
    stop: CancellationToken,
    task: JoinHandle<Result<Outcome>>,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    /// Reports that were acknowledged in time.
    pub reports: u64,
    pub requests: u64,
    pub slowest: Duration,
}

struct Stream {
    frames: mpsc::Sender<SidecarFrame>,
    answers: Streaming<AggregatorFrame>,
}

// === impl Sidecar ===

impl Sidecar {
    /// One of the pod `pod` in namespace `prod`.
    pub async fn start(ingest: SocketAddr, pod: &str) -> Result<Self> {
        let mut stream = Stream::open(ingest, pod).await.context("the sidecar")?;
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            let mut outcome = Outcome::default();
            let mut ticks = tokio::time::interval(REPORT_EVERY);
            while !stopped.is_cancelled() {
                ticks.tick().await;
                let seq = outcome.reports + 1;
                let begun = clock::now();
                stream
                    .send(sidecar_frame::Frame::Report(report(seq)))
                    .await?;
                let answer = stream
                    .answer()
                    .await
                    .with_context(|| format!("report {seq}"))?;
                ensure!(matches!(answer, Frame::Ack(v1::Ack { seq: told }) if told == seq));
                outcome.slowest = outcome.slowest.max(begun.elapsed());
                outcome.reports = seq;
                outcome.requests = seq * REQUESTS;
            }
            Ok(outcome)
        });
        Ok(Self { stop, task })
    }

    /// Ends; fails if a report was not acknowledged in time.
    pub async fn finish(self) -> Result<Outcome> {
        self.stop.cancel();
        self.task.await?
    }
}

impl Stream {
    async fn open(ingest: SocketAddr, pod: &str) -> Result<Self> {
        let endpoint = Endpoint::from_shared(format!("http://{ingest}"))?;
        let mut client = IngestClient::new(endpoint.connect().await?);
        let (frames, outbound) = mpsc::channel(4);
        let hello = sidecar_frame::Frame::Hello(hello(pod));
        frames.send(SidecarFrame { frame: Some(hello) }).await?;
        let answers = client.report(ReceiverStream::new(outbound)).await?;
        let mut stream = Self {
            frames,
            answers: answers.into_inner(),
        };
        let answer = stream.answer().await?;
        ensure!(matches!(answer, Frame::Settings(_)), "{answer:?}");
        Ok(stream)
    }

    async fn send(&self, frame: sidecar_frame::Frame) -> Result<()> {
        let frame = SidecarFrame { frame: Some(frame) };
        Ok(self.frames.send(frame).await?)
    }

    async fn answer(&mut self) -> Result<Frame> {
        let answer = timeout(PATIENCE, self.answers.message()).await;
        let answer = answer.with_context(|| format!("no answer within {PATIENCE:?}"))??;
        let answer = answer.context("the stream ended")?;
        answer.frame.context("an empty frame")
    }
}

fn hello(pod: &str) -> v1::Hello {
    v1::Hello {
        identity: Some(v1::Identity {
            namespace: "prod".to_owned(),
            pod: pod.to_owned(),
            ..v1::Identity::default()
        }),
        instance: 7,
        process: 7,
        scope: v1::CounterScope::Process.into(),
        started_at_unix_ms: unix_ms(),
        clock_unix_ms: unix_ms(),
        flush_interval_ms: 1000,
        build: "test".to_owned(),
        protocol: proto::PROTOCOL,
        ..v1::Hello::default()
    }
}

fn report(seq: u64) -> v1::Report {
    v1::Report {
        seq,
        interval_end_unix_ms: unix_ms(),
        interval_ms: 1000,
        series: vec![v1::Series {
            direction: v1::Direction::Inbound.into(),
            requests: Some(seq * REQUESTS),
            ..v1::Series::default()
        }],
        vms_expected: 1,
        vms_live: 1,
        next_report_within_ms: 2000,
        snapshot: true,
        ..v1::Report::default()
    }
}

#[expect(clippy::disallowed_methods, reason = "a sidecar dates its reports")]
fn unix_ms() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(0))
}
