//! A well-behaved sidecar: it says hello, reports each second and wants its acknowledgement in
//! time.

use std::pin::Pin;
use std::task::{Context as Polled, Poll};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use http::Uri;
use hyper_util::rt::TokioIo;
use prost::Message as _;
use proto::v1::aggregator_frame::Frame;
use proto::v1::ingest_client::IngestClient;
use proto::v1::{self, AggregatorFrame, SidecarFrame, sidecar_frame};
use tests_support::stopwatch::{Summary, Times};
use tokio::sync::mpsc;
use tokio::time::{interval, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint;
use tonic::{Request, Streaming};

use crate::probes::PATIENCE;
use crate::target::{Connection, HTTP2, Target};

/// The namespace of pods.
pub const NAMESPACE: &str = "prod";
/// The pod of the sidecar.
pub const POD: &str = "jazz-1";
/// A pod whose sidecar connects again and again.
pub const NEWCOMER: &str = "jazz-2";

const REPORT_EVERY: Duration = Duration::from_secs(1);
const REQUESTS: u64 = 100;
/// Limit of an acknowledgement: a sidecar promises its next report within two seconds.
const ACK_WITHIN: Duration = Duration::from_secs(2);
/// How long it may take until a newcomer is let in: one that is refused tries again.
const LET_IN_WITHIN: Duration = Duration::from_secs(3);
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// What a newcomer tells apart: its report comes in more than one frame of HTTP/2, so it needs
/// room.
const CLUSTERS: usize = 200;

#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// Those that were acknowledged, and so have to be counted.
    pub requests: u64,
    pub acks: Summary,
}

struct Stream {
    frames: mpsc::Sender<SidecarFrame>,
    answers: Streaming<AggregatorFrame>,
}

/// Makes connections to a target.
struct Connector(Target);

/// Streams from [`POD`] to the ingest `target` of the program `pid` until `stop`. Fails if the
/// stream ends, or acknowledgements do not come in time.
pub async fn run(pid: u32, target: &Target, stop: &CancellationToken) -> Result<Outcome> {
    let mut stream = Stream::open(target, POD).await.context("the sidecar")?;
    let mut times = Times::new(pid, ACK_WITHIN);
    let mut seq = 0;
    let mut ticks = interval(REPORT_EVERY);
    while !stop.is_cancelled() {
        ticks.tick().await;
        seq += 1;
        let lap = times.begin();
        stream
            .send(sidecar_frame::Frame::Report(report(seq)))
            .await?;
        let answer = stream.answer().await;
        let answer = answer.with_context(|| format!("report {seq}"))?;
        ensure!(matches!(answer, Frame::Ack(v1::Ack { seq: acked }) if acked == seq));
        times.end(&lap);
    }
    Ok(Outcome {
        requests: seq * REQUESTS,
        acks: times.judge("acknowledgements")?,
    })
}

/// Streams of [`NEWCOMER`], one after the other, until `stop`: each is let in before long, with a
/// first report that is large.
pub async fn newcomers(pid: u32, target: &Target, stop: &CancellationToken) -> Result<Summary> {
    let mut times = Times::new(pid, LET_IN_WITHIN);
    while !stop.is_cancelled() {
        let lap = times.begin();
        let mut why = String::new();
        let let_in = async {
            while let Err(error) = introduce(target).await {
                why = format!("{error:#}");
                sleep(AGAIN_AFTER).await;
            }
        };
        let let_in = timeout(PATIENCE, let_in).await;
        ensure!(
            let_in.is_ok(),
            "a sidecar that connects anew is kept out: {why}"
        );
        times.end(&lap);
        sleep(REPORT_EVERY).await;
    }
    let summary = times.judge("newcomers")?;
    // None may wait for the deadlines of others.
    ensure!(summary.worst <= LET_IN_WITHIN, "newcomers: {summary:?}");
    Ok(summary)
}

async fn introduce(target: &Target) -> Result<()> {
    let mut stream = Stream::open(target, NEWCOMER).await?;
    let clusters = (0..CLUSTERS).map(|nth| v1::Series {
        direction: v1::Direction::Outbound.into(),
        cluster: format!("backend-{nth}-{}", "x".repeat(150)),
        requests: Some(1),
        ..v1::Series::default()
    });
    let mut report = report(1);
    report.series.extend(clusters);
    stream.send(sidecar_frame::Frame::Report(report)).await?;
    let answer = stream.answer().await?;
    ensure!(matches!(answer, Frame::Ack(_)), "{answer:?}");
    Ok(())
}

/// The first message of a stream that says that it is of `pod`, as gRPC frames it.
pub fn first_message(pod: &str) -> Bytes {
    let hello = sidecar_frame::Frame::Hello(hello(pod));
    let message = SidecarFrame { frame: Some(hello) }.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut framed = vec![0];
    framed.extend(length.to_be_bytes());
    framed.extend(message);
    framed.into()
}

// === impl Stream ===

impl Stream {
    async fn open(target: &Target, pod: &str) -> Result<Self> {
        let endpoint = Endpoint::from_static("http://aggregator");
        let channel = endpoint.connect_with_connector(Connector(target.clone()));
        let mut client = IngestClient::new(channel.await?);
        let (frames, outbound) = mpsc::channel(4);
        let hello = sidecar_frame::Frame::Hello(hello(pod));
        frames.send(SidecarFrame { frame: Some(hello) }).await?;
        let mut request = Request::new(ReceiverStream::new(outbound));
        if let Some(token) = &target.token {
            let value = format!("Bearer {token}").parse()?;
            request.metadata_mut().insert("authorization", value);
        }
        let answers = client.report(request).await?;
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

// === impl Connector ===

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<Connection>;
    type Error = anyhow::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Polled<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let target = self.0.clone();
        Box::pin(async move { Ok(TokioIo::new(target.connect(HTTP2).await?)) })
    }
}

fn hello(pod: &str) -> v1::Hello {
    v1::Hello {
        identity: Some(v1::Identity {
            namespace: NAMESPACE.to_owned(),
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
