//! `meshmeter-mesh injector`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aggregator_tls::files::Files;
use aggregator_tls::{Protocols, config};
use anyhow::{Context as _, Result};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use mesh_injector::review;
use mesh_injector::settings::Settings;
use mesh_injector::virtual_node::Unknown;
use prometheus_client::registry::Registry;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::inject::PodArgs;
use crate::{admin, interposer};

/// Longest body of a request: etcd takes objects of 1.5 MiB.
const BODY_MAX: usize = 4 * 1024 * 1024;
/// Connections at once; kube-apiserver has a few.
const CONNECTIONS_MAX: usize = 256;
/// Time for a connection's handshake.
const HANDSHAKE_WITHIN: Duration = Duration::from_secs(5);

/// Flags of the webhook.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pod: PodArgs,

    /// Where kube-apiserver connects.
    #[arg(long, env = "MESHMETER_LISTEN", default_value = "[::]:8443")]
    listen: SocketAddr,

    /// Where /metrics and /readyz are.
    #[arg(long, env = "MESHMETER_ADMIN_LISTEN", default_value = "[::]:15091")]
    admin_listen: SocketAddr,

    /// File with the certificate (PEM), read again as it changes.
    #[arg(long, env = "MESHMETER_CERT_FILE", value_name = "FILE")]
    cert_file: PathBuf,

    /// File with its key (PEM).
    #[arg(long, env = "MESHMETER_KEY_FILE", value_name = "FILE")]
    key_file: PathBuf,

    /// File to write the addresses to once it listens.
    #[arg(long, env = "MESHMETER_ADDRESSES_FILE", value_name = "FILE")]
    addresses_file: Option<PathBuf>,
}

/// Serves the webhook until `stop`.
pub(crate) async fn serve(args: ServeArgs, stop: CancellationToken) -> Result<()> {
    let files = Files {
        certificate: args.cert_file,
        key: args.key_file,
    };
    let followed = files.load().context("--cert-file, --key-file")?;
    let tls = config::server(followed.serving(), None, Protocols::Http)?;
    tokio::spawn(followed.follow(stop.clone()));
    let listener = TcpListener::bind(args.listen).await;
    let listener = listener.with_context(|| format!("--listen {}", args.listen))?;
    let registry = Registry::with_prefix("meshmeter_mesh");
    let admin = admin::start(args.admin_listen, registry, stop.clone()).await?;
    let address = listener.local_addr()?;
    if let Some(file) = &args.addresses_file {
        interposer::write(file, &json!({"webhook": address, "admin": admin}))?;
    }
    tracing::info!(%address, %admin, "listening");
    let settings = Arc::new(args.pod.settings()?);
    let accepting = accept(listener, TlsAcceptor::from(tls), settings);
    stop.run_until_cancelled(accepting).await;
    Ok(())
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, settings: Arc<Settings>) {
    let free = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Ok(permit) = Arc::clone(&free).acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let (acceptor, settings) = (acceptor.clone(), Arc::clone(&settings));
        tokio::spawn(async move {
            connection(stream, acceptor, settings).await;
            drop(permit);
        });
    }
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, settings: Arc<Settings>) {
    let shaken = tokio::time::timeout(HANDSHAKE_WITHIN, acceptor.accept(stream)).await;
    let Ok(Ok(stream)) = shaken else {
        return;
    };
    let service = service_fn(move |request| {
        let settings = Arc::clone(&settings);
        async move { Ok::<_, Infallible>(answer(request, &settings).await) }
    });
    let server = auto::Builder::new(TokioExecutor::new());
    drop(server.serve_connection(TokioIo::new(stream), service).await);
}

async fn answer(request: Request<Incoming>, settings: &Settings) -> Response<Full<Bytes>> {
    if (request.method(), request.uri().path()) != (&Method::POST, "/mutate") {
        return reply(StatusCode::NOT_FOUND, "there is POST /mutate\n".to_owned());
    }
    let body = Limited::new(request.into_body(), BODY_MAX).collect().await;
    let Ok(body) = body else {
        let text = format!("at most {BODY_MAX} bytes are read\n");
        return reply(StatusCode::PAYLOAD_TOO_LARGE, text);
    };
    match review::answer(&body.to_bytes(), settings, &Unknown) {
        Ok(answer) => {
            if let Some(skipped) = answer.skipped {
                tracing::info!(reason = %skipped, "a pod is left as it is");
            }
            let mut response = reply(StatusCode::OK, answer.review.to_string());
            let json = http::HeaderValue::from_static("application/json");
            response.headers_mut().insert(header::CONTENT_TYPE, json);
            response
        }
        Err(error) => reply(StatusCode::BAD_REQUEST, format!("{error}\n")),
    }
}

fn reply(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response
}
