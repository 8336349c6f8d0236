//! The custom metrics API over TLS, on one connection that is kept open, as the Kubernetes API
//! server keeps its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::StatusCode;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::http::{Response, request};

/// Longest answer that is read, in bytes.
const BODY_MAX: usize = 16 << 20;
/// Longest time for one exchange.
const EXCHANGE_MAX: Duration = Duration::from_secs(10);
/// Header that says how old the oldest value of an answer is.
const SIGNAL_AGE: &str = "Meshmeter-Signal-Age-Ms";

/// A client of the API that takes any certificate, as `curl -k` does.
pub struct ApiClient {
    address: SocketAddr,
    connector: TlsConnector,
    /// The open connection, if any.
    connection: Mutex<Option<Sender>>,
}

/// A `MetricValueList`, as far as an HPA reads it.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct MetricList {
    /// One item per pod.
    pub items: Vec<MetricValue>,
    /// Age of the oldest item, in milliseconds. From a header, not from the document.
    #[serde(skip)]
    pub signal_age_ms: Option<u64>,
}

/// One item of a [`MetricList`].
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct MetricValue {
    pub described_object: DescribedObject,
    pub value: String,
    /// RFC 3339, whole seconds.
    pub timestamp: String,
    pub window_seconds: Option<u64>,
}

/// The object an item is about.
#[derive(Clone, Debug, Deserialize, PartialEq)]
pub struct DescribedObject {
    pub name: String,
    #[serde(default)]
    pub namespace: String,
}

#[derive(Debug)]
struct AnyCertificate(CryptoProvider);

type Sender = SendRequest<Empty<Bytes>>;

// === impl ApiClient ===

impl ApiClient {
    pub(super) fn new(address: SocketAddr) -> Result<Self> {
        let provider = ring::default_provider();
        let config = ClientConfig::builder_with_provider(Arc::new(provider.clone()))
            .with_safe_default_protocol_versions()
            .context("choose TLS versions")?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            .with_no_client_auth();
        Ok(Self {
            address,
            connector: TlsConnector::from(Arc::new(config)),
            connection: Mutex::new(None),
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// GETs `path`, whatever the status of the answer.
    pub async fn get(&self, path: &str) -> Result<Response> {
        self.get_as(path, "").await
    }

    /// As [`Self::get`], by a client that calls itself `user_agent`.
    pub async fn get_as(&self, path: &str, user_agent: &str) -> Result<Response> {
        let done = timeout(EXCHANGE_MAX, self.exchange(path, user_agent)).await;
        done.context("no answer in time")
            .flatten()
            .with_context(|| format!("GET https://{}{path}", self.address))
    }

    /// The metric of all pods of `namespace` that `selector` matches, by the URL an HPA asks; `Err`
    /// unless 200.
    pub async fn pods_metric(
        &self,
        namespace: &str,
        selector: &str,
        metric: &str,
    ) -> Result<MetricList> {
        let path = pods_metric_path(namespace, selector, metric);
        let response = self.get(&path).await?;
        if response.status != StatusCode::OK {
            bail!("GET {path}: {} {}", response.status, response.text());
        }
        let mut list: MetricList = response.json()?;
        let age = response.headers.get(SIGNAL_AGE);
        list.signal_age_ms = age.and_then(|age| age.to_str().ok()?.parse().ok());
        Ok(list)
    }

    async fn exchange(&self, path: &str, user_agent: &str) -> Result<Response> {
        let mut connection = self.connection.lock().await;
        // A connection that broke or was cut off in the middle of an answer is not put back.
        if let Some(sender) = connection.take().filter(|sender| !sender.is_closed())
            && let Ok((response, sender)) = self.exchange_on(sender, path, user_agent).await
        {
            *connection = sender;
            return Ok(response);
        }
        // There was none, or the server had closed it while it was idle.
        let sender = self.connect().await?;
        let (response, sender) = self.exchange_on(sender, path, user_agent).await?;
        *connection = sender;
        Ok(response)
    }

    /// The answer, and the sender if it can be used again.
    async fn exchange_on(
        &self,
        mut sender: Sender,
        path: &str,
        user_agent: &str,
    ) -> Result<(Response, Option<Sender>)> {
        let mut request = request("GET", &self.address.to_string(), path)?;
        if !user_agent.is_empty() {
            let value = user_agent.parse().context("name the client")?;
            request
                .headers_mut()
                .insert(http::header::USER_AGENT, value);
        }
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, BODY_MAX).collect().await;
        let body = body.map_err(|error| anyhow::anyhow!("read the body: {error}"))?;
        let response = Response {
            status: head.status,
            headers: head.headers,
            body: body.to_bytes(),
        };
        let usable = sender.ready().await.is_ok();
        Ok((response, usable.then_some(sender)))
    }

    async fn connect(&self) -> Result<Sender> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::from(self.address.ip());
        let stream = self.connector.connect(name, stream).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Ends when the sender is dropped or the server closes; errors show at the sender.
        tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(sender)
    }
}

impl std::fmt::Debug for ApiClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiClient")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// The path an HPA asks for a metric of type `Pods`; `selector` as in `app=jazz,version=v1`.
pub fn pods_metric_path(namespace: &str, selector: &str, metric: &str) -> String {
    let selector = selector.replace('=', "%3D").replace(',', "%2C");
    format!(
        "/apis/custom.metrics.k8s.io/v1beta2/namespaces/{namespace}/pods/%2A/{metric}?labelSelector={selector}"
    )
}

// === impl MetricList ===

impl MetricList {
    /// The value of the pod `name`, if it is listed.
    pub fn value(&self, name: &str) -> Option<f64> {
        self.item(name)?.number()
    }

    /// The item of the pod `name`, if it is listed.
    pub fn item(&self, name: &str) -> Option<&MetricValue> {
        let mut items = self.items.iter();
        items.find(|item| item.described_object.name == name)
    }
}

// === impl MetricValue ===

impl MetricValue {
    /// The quantity as a number; `None` if it is none of the forms that a metric is served in.
    pub fn number(&self) -> Option<f64> {
        let digits = self
            .value
            .trim_end_matches(|c: char| c.is_ascii_alphabetic());
        // Divided, not multiplied by 0.001: so 86972m reads 86.972 to the last bit.
        let (factor, divisor) = match self.value.get(digits.len()..)? {
            "m" => (1.0, 1e3),
            "" => (1.0, 1.0),
            "k" => (1e3, 1.0),
            "M" => (1e6, 1.0),
            "G" => (1e9, 1.0),
            _ => return None,
        };
        Some(digits.parse::<f64>().ok()? * factor / divisor)
    }
}

// === impl AnyCertificate ===

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> MetricValue {
        MetricValue {
            described_object: DescribedObject {
                name: "a".into(),
                namespace: "b".into(),
            },
            value: text.into(),
            timestamp: String::new(),
            window_seconds: None,
        }
    }

    /// The forms in which quantities are served, and nothing else.
    #[test]
    fn reads_quantities() {
        let close = |text, expected: f64| {
            let number = value(text).number().unwrap();
            assert!((number - expected).abs() < 1e-9, "{text}: {number}");
        };
        close("0", 0.0);
        close("1500m", 1.5);
        close("12", 12.0);
        close("2k", 2_000.0);
        assert_eq!(value("3Ki").number(), None);
        assert_eq!(value("").number(), None);
    }
}
