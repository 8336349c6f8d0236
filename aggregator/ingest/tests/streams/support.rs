//! A server on loopback, and sidecars that talk to it.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use aggregator_core::limits::StoreLimits;
use aggregator_core::pod::PodKey;
use aggregator_core::status::PodStatus;
use aggregator_core::store::Store;
use aggregator_directory::Directory;
use aggregator_ingest::{Identity, Limits, Pulse, Server};
use bytes::{Buf as _, BufMut as _};
use common_time::{Clock, Monotonic, UnixMillis};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use proto::v1::aggregator_frame::Frame;
use proto::v1::{self, AggregatorFrame, SidecarFrame, sidecar_frame};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status, Streaming};

/// Far more than anything here takes.
const DEADLINE: Duration = Duration::from_secs(20);

/// A running server and what it fills.
pub(crate) struct Aggregator {
    pub(crate) store: Arc<Store>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) pulse: Pulse,
    pub(crate) registry: Registry,
    pub(crate) shutdown: CancellationToken,
    pub(crate) serving: JoinHandle<()>,
    pub(crate) address: SocketAddr,
    /// Unix milliseconds, moved by the test alone.
    time: Arc<AtomicU64>,
}

/// A stream of a sidecar.
pub(crate) struct Stream {
    frames: Option<mpsc::Sender<Vec<u8>>>,
    answers: Streaming<AggregatorFrame>,
    /// Dropping it cuts the connection.
    channel: Channel,
}

/// Sends bytes as they are and understands the answers.
#[derive(Default)]
struct RawCodec;

// === impl Aggregator ===

impl Aggregator {
    pub(crate) async fn start(limits: Limits) -> Self {
        Self::start_with(limits, Identity::None).await
    }

    pub(crate) async fn start_with(limits: Limits, identity: Identity) -> Self {
        let now = UNIX_EPOCH.elapsed().map(|d| d.as_millis());
        let now = u64::try_from(now.expect("after 1970")).expect("before the year 584554531");
        let time = Arc::new(AtomicU64::new(now));
        let store = Arc::new(Store::new(StoreLimits::default()));
        let directory = Arc::new(Directory::default());
        let mut registry = Registry::with_prefix("meshmeter");
        let shutdown = CancellationToken::new();
        let clock = Arc::clone(&time);
        let learns_pods = matches!(identity, Identity::None);
        let server = Server::new(
            Arc::clone(&store),
            Arc::clone(&directory),
            Clock::new(
                move || Monotonic(clock.load(Ordering::SeqCst)),
                UnixMillis::default,
            ),
            limits,
            &mut registry,
            learns_pods,
            identity,
            common_http::Security::Plain,
            shutdown.clone(),
        );
        let connections = common_http::Metrics::register(&mut registry);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self {
            store,
            directory,
            pulse: server.pulse(),
            registry,
            shutdown,
            serving: tokio::spawn(async move { server.serve(listener, &connections).await }),
            address,
            time,
        }
    }

    pub(crate) fn now(&self) -> Monotonic {
        Monotonic(self.time.load(Ordering::SeqCst))
    }

    pub(crate) fn a_second_later(&self) {
        self.time.fetch_add(1000, Ordering::SeqCst);
    }

    /// Opens a stream on a connection of its own.
    pub(crate) async fn stream(&self) -> Result<Stream, Status> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).unwrap();
        let channel = endpoint.connect().await.unwrap();
        let (frames, outbound) = mpsc::channel(64);
        let mut grpc = Grpc::new(channel.clone());
        grpc.ready().await.unwrap();
        let path = PathAndQuery::from_static("/meshmeter.v1.Ingest/Report");
        let request = Request::new(ReceiverStream::new(outbound));
        let answers = grpc.streaming(request, path, RawCodec).await?;
        Ok(Stream {
            frames: Some(frames),
            answers: answers.into_inner(),
            channel,
        })
    }

    /// A call of Envoy's metrics service that has said nothing yet. Aborting it resets its stream.
    pub(crate) async fn metrics_call(&self) -> (JoinHandle<Result<(), Status>>, Channel) {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).unwrap();
        let channel = endpoint.connect().await.unwrap();
        let mut grpc = Grpc::new(channel.clone());
        grpc.ready().await.unwrap();
        let path = "/envoy.service.metrics.v3.MetricsService/StreamMetrics";
        let path = PathAndQuery::from_static(path);
        let request = Request::new(tokio_stream::pending::<Vec<u8>>());
        let call = async move { grpc.streaming(request, path, RawCodec).await.map(drop) };
        (tokio::spawn(call), channel)
    }

    /// Opens a stream and says `hello`.
    pub(crate) async fn connect(&self, hello: v1::Hello) -> Stream {
        let mut stream = self.stream().await.unwrap();
        stream.send(sidecar_frame::Frame::Hello(hello)).await;
        let answer = stream.answer().await.unwrap();
        assert!(matches!(answer, Frame::Settings(_)), "{answer:?}");
        stream
    }

    /// A hello of the pod `name` in namespace `prod`, whose counters began this moment.
    pub(crate) fn hello(&self, name: &str, instance: u64) -> v1::Hello {
        v1::Hello {
            identity: Some(v1::Identity {
                namespace: "prod".to_owned(),
                pod: name.to_owned(),
                labels: [("app".to_owned(), "jazz".to_owned())].into(),
                ..v1::Identity::default()
            }),
            instance,
            process: 7,
            scope: v1::CounterScope::Process.into(),
            started_at_unix_ms: self.now().0,
            clock_unix_ms: self.now().0,
            flush_interval_ms: 1000,
            build: "test".to_owned(),
            protocol: 1,
            hot_restart: false,
        }
    }

    /// A report of the last second in which inbound requests rose to `requests`.
    pub(crate) fn report(&self, seq: u64, requests: u64) -> v1::Report {
        v1::Report {
            seq,
            interval_end_unix_ms: self.now().0,
            interval_ms: 1000,
            series: vec![v1::Series {
                direction: v1::Direction::Inbound.into(),
                requests: Some(requests),
                ..v1::Series::default()
            }],
            vms_expected: 1,
            vms_live: 1,
            next_report_within_ms: 1000,
            snapshot: true,
            ..v1::Report::default()
        }
    }

    pub(crate) fn pod(&self, name: &str) -> PodStatus {
        let pod = self.find_pod(name);
        pod.unwrap_or_else(|| panic!("no pod {name}"))
    }

    /// Open streams of a pod, if there is one.
    pub(crate) fn streams(&self, name: &str) -> Option<usize> {
        self.find_pod(name).map(|pod| pod.streams)
    }

    fn find_pod(&self, name: &str) -> Option<PodStatus> {
        let key = PodKey::new("prod", name);
        let mut pods = self.store.inspect(self.now()).into_iter();
        pods.find(|pod| pod.key == key)
    }

    /// The running total of inbound requests of a pod.
    pub(crate) fn requests(&self, name: &str) -> Option<u64> {
        self.pod(name).series.first()?.requests
    }

    /// Our metrics as a scrape reads them.
    pub(crate) fn metrics(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).unwrap();
        text
    }

    /// The value of one of our metrics; 0 if it is not there yet.
    pub(crate) fn metric(&self, sample: &str) -> u64 {
        let metrics = self.metrics();
        let mut lines = metrics.lines();
        let value = lines.find_map(|line| line.strip_prefix(sample)?.trim().parse().ok());
        value.unwrap_or(0)
    }

    /// A connection that is closed before the server says anything.
    pub(crate) async fn connection_is_refused(&self) {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        let mut bytes = [0; 1];
        let read = within(socket.read(&mut bytes)).await;
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    }

    pub(crate) fn refused(&self, reason: &str) -> u64 {
        self.metric(&format!(
            "meshmeter_ingest_refused_total{{reason=\"{reason}\"}}"
        ))
    }

    /// Waits until the server is done.
    pub(crate) async fn ended(self) {
        within(self.serving).await.unwrap();
    }
}

// === impl Stream ===

impl Stream {
    /// As long as this is there, so is its connection.
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(crate) async fn send(&mut self, frame: sidecar_frame::Frame) {
        let frame = SidecarFrame { frame: Some(frame) };
        self.send_bytes(prost::Message::encode_to_vec(&frame)).await;
    }

    pub(crate) async fn send_bytes(&mut self, frame: Vec<u8>) {
        let frames = self.frames.as_ref().expect("open");
        // An error: the server has ended the stream; the answer says why.
        let _ = frames.send(frame).await;
    }

    /// Sends a report and waits for its acknowledgement.
    pub(crate) async fn report(&mut self, report: v1::Report) -> Result<(), Status> {
        let seq = report.seq;
        self.send(sidecar_frame::Frame::Report(report)).await;
        let answer = self.answer().await?;
        assert_eq!(answer, Frame::Ack(v1::Ack { seq }));
        Ok(())
    }

    /// The next answer, or the status the stream ended with.
    pub(crate) async fn answer(&mut self) -> Result<Frame, Status> {
        match within(self.answers.message()).await? {
            Some(answer) => Ok(answer.frame.expect("an answer holds something")),
            None => Err(Status::ok("ended")),
        }
    }

    /// True once all that was sent is with the connection.
    pub(crate) fn is_sent(&self) -> bool {
        let frames = self.frames.as_ref().expect("open");
        frames.capacity() == frames.max_capacity()
    }

    /// Says that nothing more comes.
    pub(crate) fn half_close(&mut self) {
        self.frames = None;
    }

    /// The status the stream ends with.
    pub(crate) async fn status(&mut self) -> Status {
        loop {
            if let Err(status) = self.answer().await {
                return status;
            }
        }
    }
}

/// The result of `future`, which must come in time.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(DEADLINE, future)
        .await
        .expect("done in time")
}

/// Waits until `condition` holds.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let done = tokio::time::timeout(DEADLINE, wait).await;
    assert!(done.is_ok(), "{what}: not in time");
}

// === impl RawCodec ===

impl Codec for RawCodec {
    type Encode = Vec<u8>;
    type Decode = AggregatorFrame;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for RawCodec {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, dst: &mut EncodeBuf<'_>) -> Result<(), Status> {
        dst.put_slice(&item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = AggregatorFrame;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<AggregatorFrame>, Status> {
        let bytes = src.copy_to_bytes(src.remaining());
        let frame = prost::Message::decode(bytes);
        frame.map(Some).map_err(|e| Status::internal(e.to_string()))
    }
}
