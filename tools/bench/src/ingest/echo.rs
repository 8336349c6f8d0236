//! The yardstick: a tonic server that takes in the same frames and acknowledges each, and does
//! nothing else.

use std::convert::Infallible;
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use anyhow::{Context, Result};
use common_tls::ReloadableCert;
use common_tls::config::{self, Protocols};
use proto::v1::{Ack, AggregatorFrame, Settings, SidecarFrame, aggregator_frame, sidecar_frame};
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::body::Body;
use tonic::server::{Grpc, StreamingService};
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tower_service::Service;

/// Answers under way on a stream.
const ANSWERS_MAX: usize = 4;
/// The HTTP/2 of the aggregator (`aggregator/ingest/src/server.rs`): window in bytes, streams of a
/// connection, bytes of a call's headers, pings, and resets.
const WINDOW: u32 = 64 * 1024 - 1;
const STREAMS_MAX: u32 = 32;
const HEADER_BYTES_MAX: u32 = 16 * 1024;
const PING_EVERY: Duration = Duration::from_secs(30);
const PONG_WITHIN: Duration = Duration::from_secs(5);
const PENDING_RESETS_MAX: usize = 16;
const ERROR_RESETS_MAX: usize = 128;
/// Connections accepted and not yet taken up.
const ACCEPTED_MAX: usize = 64;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to write the address that it listens on.
    #[arg(long)]
    addresses_file: PathBuf,
    /// File of the certificate, for TLS.
    #[arg(long, requires = "key")]
    certificate: Option<PathBuf>,
    /// File of its key.
    #[arg(long)]
    key: Option<PathBuf>,
}

/// A connection as tonic takes it.
enum Io {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Stock tonic with its own codec.
#[derive(Clone)]
struct Echo;

type Frames = Request<Streaming<SidecarFrame>>;
type Answers = Pin<Box<dyn Stream<Item = Result<AggregatorFrame, Status>> + Send>>;

impl StreamingService<SidecarFrame> for Echo {
    type Response = AggregatorFrame;
    type ResponseStream = Answers;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Answers>, Status>> + Send>>;

    fn call(&mut self, request: Frames) -> Self::Future {
        let mut frames = request.into_inner();
        let (answers, outbound) = mpsc::channel(ANSWERS_MAX);
        tokio::spawn(async move {
            while let Some(Ok(frame)) = frames.next().await {
                let answer = match frame.frame {
                    Some(sidecar_frame::Frame::Report(report)) => {
                        aggregator_frame::Frame::Ack(Ack { seq: report.seq })
                    }
                    _ => aggregator_frame::Frame::Settings(Settings::default()),
                };
                let frame = Some(answer);
                if answers.send(Ok(AggregatorFrame { frame })).await.is_err() {
                    return;
                }
            }
        });
        let outbound: Answers = Box::pin(ReceiverStream::new(outbound));
        Box::pin(async { Ok(Response::new(outbound)) })
    }
}

impl Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async {
            let mut grpc = Grpc::new(ProstCodec::default());
            Ok(grpc.streaming(Self, request).await)
        })
    }
}

/// Serves until it is killed, on as many threads as the aggregator does.
pub(crate) fn run(args: &Args) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    // This program's own runtime has one thread.
    let serving = std::thread::scope(|scope| scope.spawn(|| runtime.block_on(serve(args))).join());
    serving.map_err(|_| anyhow::anyhow!("the server panicked"))?
}

async fn serve(args: &Args) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .context("listen")?;
    let address = listener.local_addr()?;
    let aside = args.addresses_file.with_extension("new");
    std::fs::write(&aside, format!("{{\"ingest\":\"{address}\"}}"))?;
    std::fs::rename(&aside, &args.addresses_file)?;
    let tls = args.tls()?;
    let (connections, accepted) = mpsc::channel(ACCEPTED_MAX);
    tokio::spawn(accept(listener, tls, connections));
    tonic::transport::Server::builder()
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_concurrent_streams(STREAMS_MAX)
        .http2_max_header_list_size(HEADER_BYTES_MAX)
        .http2_keepalive_interval(Some(PING_EVERY))
        .http2_keepalive_timeout(Some(PONG_WITHIN))
        .http2_max_pending_accept_reset_streams(Some(PENDING_RESETS_MAX))
        .http2_max_local_error_reset_streams(Some(ERROR_RESETS_MAX))
        .serve_with_incoming(Echo, ReceiverStream::new(accepted))
        .await
        .context("serve")
}

/// Accepts for ever; handshakes do not wait for each other.
async fn accept(
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    connections: mpsc::Sender<io::Result<Io>>,
) {
    loop {
        let Ok((connection, _)) = listener.accept().await else {
            // Out of files: connections that end make room.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let _ = connection.set_nodelay(true);
        let (tls, connections) = (tls.clone(), connections.clone());
        tokio::spawn(async move {
            let connection = match tls {
                None => Ok(Io::Plain(connection)),
                Some(tls) => {
                    let accepted = TlsAcceptor::from(tls).accept(connection).await;
                    accepted.map(|connection| Io::Tls(Box::new(connection)))
                }
            };
            // A handshake that fails is the sender's to report.
            if connection.is_ok() {
                let _ = connections.send(connection).await;
            }
        });
    }
}

// === impl Args ===

impl Args {
    fn tls(&self) -> Result<Option<Arc<ServerConfig>>> {
        let (Some(certificate), Some(key)) = (&self.certificate, &self.key) else {
            return Ok(None);
        };
        let read = |file| std::fs::read_to_string(file).context("read the certificate");
        let certificate = ReloadableCert::from_pem(&read(certificate)?, &read(key)?)?;
        Ok(Some(config::server(certificate, None, Protocols::Grpc)?))
    }
}

// === impl Io ===

impl Connected for Io {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Io {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_read(cx, buf),
            Self::Tls(io) => Pin::new(io).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_write(cx, buf),
            Self::Tls(io) => Pin::new(io).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_flush(cx),
            Self::Tls(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_shutdown(cx),
            Self::Tls(io) => Pin::new(io).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut TaskContext<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(io) => Pin::new(io).poll_write_vectored(cx, bufs),
            Self::Tls(io) => Pin::new(io).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(io) => io.is_write_vectored(),
            Self::Tls(io) => io.is_write_vectored(),
        }
    }
}
