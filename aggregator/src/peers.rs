//! The other replicas of the aggregator, asked over TLS for what each of them alone knows.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aggregator_api::view::peers::{PeerAnswer, PeerAnswers, Peers};
use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use futures_util::future::join_all;
use http::header::{ACCEPT, AUTHORIZATION, HOST};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Body;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::config::PeersConfig;

/// How long one of them may take, with the connection.
const WITHIN: Duration = Duration::from_secs(2);

/// Replicas asked at once; further ones are said to be left out.
const PEERS_MAX: usize = 8;

/// Bytes of all answers together. Each read was answered by one replica, so one may have them all.
const ANSWERS_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Bytes of a token.
const TOKEN_BYTES_MAX: u64 = 16 * 1024;

/// Characters of another replica's refusal that are repeated.
const MESSAGE_CHARS_MAX: usize = 300;

/// By which CAs the others are verified.
#[derive(Debug)]
pub(crate) enum Roots {
    /// As this program publishes them; "" until they are known.
    Published(watch::Receiver<String>),
    File(PathBuf),
}

/// The other replicas.
#[derive(Debug)]
pub(crate) struct OtherReplicas {
    config: PeersConfig,
    roots: Roots,
    /// The name for which their certificates are valid.
    name: String,
}

/// Bytes that the answers of one question may still have.
#[derive(Debug)]
struct Allowance(AtomicUsize);

// === impl OtherReplicas ===

impl OtherReplicas {
    pub(crate) fn new(config: PeersConfig, roots: Roots, name: String) -> Self {
        Self {
            config,
            roots,
            name,
        }
    }

    async fn ask_all(&self, path: &str) -> Vec<PeerAnswer> {
        let found = self.config.hosts.iter().map(|host| self.resolve(host));
        let mut addresses = BTreeSet::new();
        let mut answers = Vec::new();
        for found in join_all(found).await {
            match found {
                Ok(found) => addresses.extend(found),
                Err(unknown) => answers.push(unknown),
            }
        }
        let asked = addresses.iter().take(PEERS_MAX);
        let allowance = Allowance(AtomicUsize::new(ANSWERS_BYTES_MAX));
        let asked = asked.map(|address| self.ask_one(*address, path, &allowance));
        answers.extend(join_all(asked).await);
        let others = addresses.len().saturating_sub(PEERS_MAX);
        if others > 0 {
            answers.push(PeerAnswer {
                name: format!("{others} more"),
                answer: Err(format!("at most {PEERS_MAX} other replicas are asked")),
            });
        }
        answers
    }

    /// Addresses of all but this one.
    async fn resolve(&self, host: &(String, u16)) -> Result<Vec<SocketAddr>, PeerAnswer> {
        let (name, port) = (host.0.as_str(), host.1);
        let why = match timeout(WITHIN, tokio::net::lookup_host((name, port))).await {
            Ok(Ok(found)) => {
                let own = self.config.own.map(|own| own.to_canonical());
                return Ok(found
                    .map(|address| SocketAddr::new(address.ip().to_canonical(), address.port()))
                    .filter(|address| own != Some(address.ip()))
                    .collect());
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => late(),
        };
        Err(PeerAnswer {
            name: name.to_owned(),
            answer: Err(format!("its addresses cannot be found: {why}")),
        })
    }

    async fn ask_one(&self, address: SocketAddr, path: &str, allowance: &Allowance) -> PeerAnswer {
        let answer = timeout(WITHIN, self.get(address, path, allowance)).await;
        let answer = match answer {
            Ok(answer) => answer.map_err(|error| format!("{error:#}")),
            Err(_) => Err(late()),
        };
        PeerAnswer {
            name: address.to_string(),
            answer,
        }
    }

    async fn get(&self, address: SocketAddr, path: &str, allowance: &Allowance) -> Result<Bytes> {
        let config = common_tls::config::client(&self.roots()?, "the CA of the API")?;
        let request = Request::get(path)
            .header(HOST, &self.name)
            .header(ACCEPT, "application/json")
            .header(AUTHORIZATION, format!("Bearer {}", self.token()?))
            .body(Empty::<Bytes>::new())
            .context("the request cannot be made")?;
        let stream = TcpStream::connect(address).await;
        let stream = stream.context("cannot connect")?;
        let name = ServerName::try_from(self.name.clone()).context("its name")?;
        let stream = TlsConnector::from(config).connect(name, stream).await;
        let stream = stream.context("TLS handshake failed")?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let response = sender.send_request(request).await;
        let answer = match response {
            Ok(response) => {
                let status = response.status();
                let body = allowance.collect(response.into_body()).await;
                body.map(|body| (status, body))
            }
            Err(error) => Err(error.into()),
        };
        connection.abort();
        let (status, body) = answer?;
        if status != StatusCode::OK {
            bail!("{}: {}", status.as_u16(), message(&body));
        }
        Ok(body)
    }

    fn roots(&self) -> Result<String> {
        match &self.roots {
            Roots::File(path) => Ok(common_tls::files::text(path)?),
            Roots::Published(bundle) => {
                let bundle = bundle.borrow().clone();
                if bundle.is_empty() {
                    bail!("the CA of the API is not known yet");
                }
                Ok(bundle)
            }
        }
    }

    fn token(&self) -> Result<String> {
        let path: &Path = &self.config.token_file;
        let named = || format!("the token {}", path.display());
        let bytes = std::fs::metadata(path).with_context(named)?.len();
        if bytes > TOKEN_BYTES_MAX {
            bail!(
                "{}: {bytes} bytes, at most {TOKEN_BYTES_MAX} are allowed",
                named()
            );
        }
        let token = std::fs::read_to_string(path).with_context(named)?;
        Ok(token.trim().to_owned())
    }
}

impl Peers for OtherReplicas {
    fn ask<'a>(&'a self, path: &'a str) -> PeerAnswers<'a> {
        Box::pin(self.ask_all(path))
    }
}

// === impl Allowance ===

impl Allowance {
    /// Reads an answer as long as something is left.
    async fn collect<B>(&self, mut body: B) -> Result<Bytes>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: std::error::Error + Send + Sync + 'static,
    {
        let mut whole = Vec::new();
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.context("its answer was cut")?.into_data() else {
                continue;
            };
            let take = |left: usize| left.checked_sub(data.len());
            let taken = self
                .0
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
            ensure!(
                taken.is_ok(),
                "the answers of all replicas are longer than {ANSWERS_BYTES_MAX} bytes together; ask for less: \
                 hpa=NAME, a later from"
            );
            whole.extend_from_slice(&data);
        }
        Ok(whole.into())
    }
}

/// `roots` and the rest, ready to be shared.
pub(crate) fn shared(config: PeersConfig, roots: Roots, name: String) -> Arc<dyn Peers> {
    Arc::new(OtherReplicas::new(config, roots, name))
}

fn late() -> String {
    format!("no answer within {} s", WITHIN.as_secs())
}

/// The sentence of a refusal.
fn message(body: &[u8]) -> String {
    let status: Option<Value> = serde_json::from_slice(body).ok();
    let message = status.and_then(|status| Some(status["message"].as_str()?.to_owned()));
    let message = message.unwrap_or_else(|| "not a Kubernetes answer".to_owned());
    message.chars().take(MESSAGE_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;

    /// What one answer leaves is for the others; one that takes more is refused, and ends there.
    #[tokio::test]
    async fn answers_share_an_allowance() {
        let allowance = Allowance(AtomicUsize::new(10));
        let answer = async |length: usize| {
            let body = Full::new(Bytes::from(vec![b'x'; length]));
            let read = allowance.collect(body).await;
            read.map(|bytes| bytes.len())
                .map_err(|error| error.to_string())
        };
        assert_eq!(answer(7).await, Ok(7));
        let refused = answer(4).await.unwrap_err();
        assert!(
            refused.contains("longer than 8388608 bytes together"),
            "{refused}"
        );
        assert_eq!(answer(3).await, Ok(3));
    }
}
