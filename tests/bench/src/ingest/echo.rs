//! The yardstick: a tonic server that takes in the same frames and acknowledges each, and does nothing else.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::pin::Pin;

use anyhow::{Context, Result};
use proto::v1::ingest_server::{Ingest, IngestServer};
use proto::v1::{Ack, AggregatorFrame, Settings, SidecarFrame, aggregator_frame, sidecar_frame};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

/// Answers under way on a stream.
const ANSWERS_MAX: usize = 4;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to write the address that it listens on.
    #[arg(long)]
    addresses_file: PathBuf,
}

struct Echo;

#[tonic::async_trait]
impl Ingest for Echo {
    type ReportStream = Pin<Box<dyn Stream<Item = Result<AggregatorFrame, Status>> + Send>>;

    async fn report(
        &self,
        request: Request<Streaming<SidecarFrame>>,
    ) -> Result<Response<Self::ReportStream>, Status> {
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
                if answers
                    .send(Ok(AggregatorFrame {
                        frame: Some(answer),
                    }))
                    .await
                    .is_err()
                {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(outbound))))
    }
}

/// Serves until it is killed.
pub(crate) fn run(args: &Args) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .context("listen")?;
        let address = listener.local_addr()?;
        let aside = args.addresses_file.with_extension("new");
        std::fs::write(&aside, format!("{{\"ingest\":\"{address}\"}}"))?;
        std::fs::rename(&aside, &args.addresses_file)?;
        tonic::transport::Server::builder()
            .serve_with_incoming(IngestServer::new(Echo), TcpListenerStream::new(listener))
            .await
            .context("serve")
    })
}
