//! A sidecar as the filter is one: hello, then reports with running totals, one unacknowledged at a
//! time.

use std::collections::HashMap;
use std::net::SocketAddr;

use proto::v1::aggregator_frame::Frame as Answer;
use proto::v1::ingest_client::IngestClient;
use proto::v1::sidecar_frame::Frame;
use proto::v1::{
    AggregatorFrame, CounterScope, Direction, Hello, Identity, Report, Responses, Series,
    SidecarFrame,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

/// How long it waits for an answer.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);

/// How long ago every fake sidecar began to count.
pub(crate) const AGE_MS: u64 = 10_000;

pub(crate) struct Sidecar {
    frames: mpsc::Sender<SidecarFrame>,
    answers: Streaming<AggregatorFrame>,
    started_at_ms: u64,
    seq: u64,
}

/// Inbound totals of a sidecar with the roles `filter` and `upstream_log`.
pub(crate) fn inbound(requests: u64, attempts: u64) -> Series {
    Series {
        direction: Direction::Inbound.into(),
        cluster: String::new(),
        requests: Some(requests),
        requests_at_completion: false,
        upstream_attempts: Some(attempts),
        responses: vec![
            Responses {
                code: 2,
                total: requests - requests / 10,
            },
            Responses {
                code: 5,
                total: requests / 10,
            },
        ],
        inflight: Some(0),
        // Two requests in flight all the time.
        inflight_ns: Some(2 * AGE_MS * 1_000_000),
    }
}

impl Sidecar {
    /// Connects as a pod of namespace prod with the label `app`.
    pub(crate) async fn connect(ingest: SocketAddr, pod: &str, app: &str) -> Self {
        Self::connect_in("prod", ingest, pod, app).await
    }

    /// As [`Self::connect`], as a pod of another namespace.
    pub(crate) async fn connect_in(
        namespace: &str,
        ingest: SocketAddr,
        pod: &str,
        app: &str,
    ) -> Self {
        let connecting = Self::open(ingest, namespace, pod, app);
        tokio::time::timeout(PATIENCE, connecting)
            .await
            .expect("the aggregator greets in time")
            .unwrap()
    }

    /// As [`Self::connect_in`], where it may be refused.
    pub(crate) async fn try_connect(
        namespace: &str,
        ingest: SocketAddr,
        pod: &str,
    ) -> Result<Self, Status> {
        let connecting = Self::open(ingest, namespace, pod, "llm");
        tokio::time::timeout(PATIENCE, connecting)
            .await
            .expect("an answer in time")
    }

    async fn open(
        ingest: SocketAddr,
        namespace: &str,
        pod: &str,
        app: &str,
    ) -> Result<Self, Status> {
        let client = IngestClient::connect(format!("http://{ingest}"));
        Self::over(client.await.unwrap(), None, namespace, pod, app).await
    }

    /// As [`Self::try_connect`], by a client of any kind, with a bearer token.
    pub(crate) async fn over(
        mut client: IngestClient<Channel>,
        token: Option<&str>,
        namespace: &str,
        pod: &str,
        app: &str,
    ) -> Result<Self, Status> {
        let (frames, receiver) = mpsc::channel(4);
        let now_ms = aggregator::clock::system().wall().0;
        let started_at_ms = now_ms - AGE_MS;
        let hello = Hello {
            identity: Some(Identity {
                namespace: namespace.to_owned(),
                pod: pod.to_owned(),
                pod_uid: format!("uid-{pod}"),
                node: "node-1".to_owned(),
                labels: HashMap::from([("app".to_owned(), app.to_owned())])
                    .into_iter()
                    .collect(),
            }),
            instance: pod
                .bytes()
                .fold(1, |hash: u64, byte| hash.wrapping_mul(31) + u64::from(byte)),
            process: 7,
            scope: CounterScope::Process.into(),
            started_at_unix_ms: started_at_ms,
            clock_unix_ms: now_ms,
            flush_interval_ms: 1000,
            build: "test".to_owned(),
            protocol: proto::PROTOCOL,
            hot_restart: false,
        };
        frames
            .send(SidecarFrame {
                frame: Some(Frame::Hello(hello)),
            })
            .await
            .unwrap();
        let mut request = Request::new(ReceiverStream::new(receiver));
        if let Some(token) = token {
            let value = format!("Bearer {token}").parse().unwrap();
            request.metadata_mut().insert("authorization", value);
        }
        let mut answers = client.report(request).await?.into_inner();
        let first = answers.message().await?.unwrap();
        assert!(
            matches!(first.frame, Some(Answer::Settings(_))),
            "{first:?}"
        );
        Ok(Self {
            frames,
            answers,
            started_at_ms,
            seq: 0,
        })
    }

    /// Reports `series` up to [`AGE_MS`] after the counters began, later reports up to a second
    /// more each, and waits for the acknowledgement.
    pub(crate) async fn report(&mut self, series: Vec<Series>) {
        self.report_vms(series, 3).await;
    }

    /// As [`Self::report`], with `vms_live` of three VMs counting.
    pub(crate) async fn report_vms(&mut self, series: Vec<Series>, vms_live: u32) {
        self.seq += 1;
        let report = Report {
            seq: self.seq,
            // Of the sidecar's own making, so that rates do not depend on how fast the test runs.
            interval_end_unix_ms: self.started_at_ms + AGE_MS + (self.seq - 1) * 1000,
            interval_ms: 1000,
            series,
            vms_expected: 3,
            vms_live,
            next_report_within_ms: 10_000,
            snapshot: self.seq == 1,
            r#final: false,
            refused: None,
        };
        self.frames
            .send(SidecarFrame {
                frame: Some(Frame::Report(report)),
            })
            .await
            .unwrap();
        let answer = tokio::time::timeout(PATIENCE, self.answers.message()).await;
        let answer = answer
            .expect("an acknowledgement in time")
            .unwrap()
            .unwrap();
        match answer.frame {
            Some(Answer::Ack(ack)) => assert_eq!(ack.seq, self.seq),
            other => panic!("expected an acknowledgement, got {other:?}"),
        }
    }

    /// Waits for the aggregator to end the stream; the status it ends with.
    pub(crate) async fn end(mut self) -> Status {
        let ending = async {
            loop {
                match self.answers.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => return Status::ok(""),
                    Err(status) => return status,
                }
            }
        };
        tokio::time::timeout(PATIENCE, ending)
            .await
            .expect("the stream ends in time")
    }
}
