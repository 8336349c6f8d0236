//! The yardstick: a tonic server that takes in the same frames and acknowledges each, and does
//! nothing else.

use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};

use anyhow::{Context, Result};
use proto::v1::{Ack, AggregatorFrame, Settings, SidecarFrame, aggregator_frame, sidecar_frame};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_stream::{Stream, StreamExt as _};
use tonic::body::Body;
use tonic::server::{Grpc, StreamingService};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tower_service::Service;

/// Answers under way on a stream.
const ANSWERS_MAX: usize = 4;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to write the address that it listens on.
    #[arg(long)]
    addresses_file: PathBuf,
}

/// Stock tonic: its own codec, its own settings.
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
    tonic::transport::Server::builder()
        .serve_with_incoming(Echo, TcpListenerStream::new(listener))
        .await
        .context("serve")
}
