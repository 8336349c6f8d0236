//! The agent of EKS Pod Identity, which hands out credentials to the pods of its node.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Result;
use http::Response;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

#[derive(Debug)]
pub struct Agent {
    address: SocketAddr,
    offer: Arc<Offer>,
    _stop: DropGuard,
}

#[derive(Debug)]
struct Offer {
    key: Mutex<String>,
    asked: AtomicU32,
}

// === impl Agent ===

impl Agent {
    /// Starts it; it offers the key `key`, whose secret is `secret` and whose token is `token`.
    pub async fn start(key: &str) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let offer = Arc::new(Offer {
            key: Mutex::new(key.to_owned()),
            asked: AtomicU32::new(0),
        });
        let stop = CancellationToken::new();
        let serving = serve(listener, Arc::clone(&offer));
        tokio::spawn(stop.clone().run_until_cancelled_owned(serving));
        Ok(Self {
            address,
            offer,
            _stop: stop.drop_guard(),
        })
    }

    /// Where it is, for `AWS_CONTAINER_CREDENTIALS_FULL_URI`.
    pub fn url(&self) -> String {
        format!("http://{}/v1/credentials", self.address)
    }

    /// From now on another key.
    pub fn offer(&self, key: &str) {
        let mut held = self.offer.key.lock();
        key.clone_into(&mut held);
    }

    /// How often it was asked.
    pub fn asked(&self) -> u32 {
        self.offer.asked.load(Ordering::Relaxed)
    }
}

async fn serve(listener: TcpListener, offer: Arc<Offer>) {
    while let Ok((stream, _)) = listener.accept().await {
        let offer = Arc::clone(&offer);
        let service = service_fn(move |_| {
            let answer = offer.answer();
            async move { Ok::<_, Infallible>(answer) }
        });
        let serving = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service);
        tokio::spawn(async move { drop(serving.await) });
    }
}

// === impl Offer ===

impl Offer {
    fn answer(&self) -> Response<Full<Bytes>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let key = self.key.lock().clone();
        let body = serde_json::json!({
            "AccessKeyId": key,
            "SecretAccessKey": "secret",
            "Token": "token",
            "Expiration": "2099-01-01T00:00:00Z",
        });
        Response::new(Full::from(body.to_string()))
    }
}
