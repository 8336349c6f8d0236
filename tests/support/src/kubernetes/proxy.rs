//! The aggregation layer: requests to an `APIService` as kube-apiserver passes them on, with a
//! front-proxy certificate and the user in headers, and the server verified by the `caBundle`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::Empty;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::ca::{CertificateAuthority, Identity, certificates};
use super::objects::{API_SERVICE, Objects};
use crate::http::{Response, exchange_over};

/// Longest time for one request.
const EXCHANGE_MAX: Duration = Duration::from_secs(10);
/// The user the HPA controller is.
pub const HPA_USER: &str = "system:serviceaccount:kube-system:horizontal-pod-autoscaler";
/// kube-apiserver's response if it cannot reach the server.
const UNAVAILABLE: &str = "the server is currently unable to handle the request";

/// The certificate with which kube-apiserver comes to the servers behind it.
#[derive(Debug)]
pub struct FrontProxy {
    ca: CertificateAuthority,
    client: Identity,
}

/// Passes requests on to one aggregated server.
#[derive(Debug)]
pub struct AggregationLayer {
    address: SocketAddr,
    server_name: String,
    client: Identity,
}

/// A refusal, as the HPA controller prints it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Refused {
    pub code: u16,
    /// `message` of the `Status`.
    pub message: String,
    /// Why the server could not be reached, if that is it. No autoscaler hears that.
    pub detail: String,
}

// === impl FrontProxy ===

impl FrontProxy {
    pub(super) fn new() -> Result<Self> {
        let ca = CertificateAuthority::new("front-proxy-ca")?;
        let client = ca.client("front-proxy-client", &[])?;
        Ok(Self { ca, client })
    }

    /// The config map `extension-apiserver-authentication` of a cluster whose clients `client_ca`
    /// signs.
    pub(super) fn config_map(&self, client_ca: &str) -> Value {
        json!({
            "metadata": {"namespace": "kube-system", "name": "extension-apiserver-authentication"},
            "data": {
                "client-ca-file": client_ca,
                "requestheader-client-ca-file": self.ca.pem,
                "requestheader-allowed-names": "[\"front-proxy-client\"]",
                "requestheader-username-headers": "[\"X-Remote-User\"]",
                "requestheader-uid-headers": "[\"X-Remote-Uid\"]",
                "requestheader-group-headers": "[\"X-Remote-Group\"]",
                "requestheader-extra-headers-prefix": "[\"X-Remote-Extra-\"]",
            },
        })
    }

    pub fn ca(&self) -> &CertificateAuthority {
        &self.ca
    }

    /// The certificate with which kube-apiserver comes.
    pub fn identity(&self) -> &Identity {
        &self.client
    }

    /// The way to the server at `address` that is called `server_name`.
    pub fn layer(&self, address: SocketAddr, server_name: &str) -> AggregationLayer {
        AggregationLayer {
            address,
            server_name: server_name.to_owned(),
            client: self.client.clone(),
        }
    }
}

// === impl AggregationLayer ===

impl AggregationLayer {
    /// GETs `path` as the HPA controller, through the `APIService` called `service`.
    pub async fn get(
        &self,
        objects: &Objects,
        service: &str,
        path: &str,
    ) -> Result<Value, Refused> {
        let response = timeout(EXCHANGE_MAX, self.exchange(objects, service, path)).await;
        let response = response.context("no answer in time").flatten();
        // The autoscaler hears no more than that; the reason is for whoever debugs a test.
        let response = response.map_err(|error| Refused {
            code: 503,
            message: UNAVAILABLE.to_owned(),
            detail: format!("{error:#}"),
        })?;
        let body: Value = response.json().unwrap_or(Value::Null);
        if response.status == StatusCode::OK {
            return Ok(body);
        }
        let message = body["message"].as_str().unwrap_or(UNAVAILABLE).to_owned();
        Err(Refused {
            code: response.status.as_u16(),
            message,
            detail: String::new(),
        })
    }

    async fn exchange(&self, objects: &Objects, service: &str, path: &str) -> Result<Response> {
        let service = objects
            .get(API_SERVICE, "", service)
            .context("no such APIService")?;
        let bundle = service["spec"]["caBundle"].as_str();
        let roots = roots(bundle.context("the APIService has no caBundle")?)?;
        let (chain, key) = self.client.to_rustls()?;
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .context("choose TLS versions")?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .context("use the front-proxy certificate")?;
        let name = ServerName::try_from(self.server_name.clone()).context("server name")?;
        let stream = TcpStream::connect(self.address).await?;
        let stream = TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await?;
        exchange_over(stream, self.request(path)?).await
    }

    fn request(&self, path: &str) -> Result<Request<Empty<Bytes>>> {
        Request::get(path)
            .header(header::HOST, &self.server_name)
            .header(header::ACCEPT, "application/vnd.kubernetes.protobuf, */*")
            .header(
                header::USER_AGENT,
                "kube-controller-manager/v1.36.2 (linux/amd64) kubernetes/test",
            )
            .header("X-Remote-User", HPA_USER)
            .header("X-Remote-Group", "system:serviceaccounts")
            .header("X-Remote-Group", "system:serviceaccounts:kube-system")
            .header("X-Remote-Group", "system:authenticated")
            .body(Empty::new())
            .context("build the request")
    }
}

/// The CAs in a `caBundle` (base64 of PEM).
fn roots(bundle: &str) -> Result<RootCertStore> {
    let pem = String::from_utf8(decode(bundle)?).context("the caBundle is not text")?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&pem)? {
        roots.add(certificate).context("a CA of the caBundle")?;
    }
    ensure!(!roots.is_empty(), "the caBundle is empty");
    Ok(roots)
}

/// Base64 with padding.
pub fn decode(text: &str) -> Result<Vec<u8>> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::new();
    let (mut held, mut bits) = (0_u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        let digit = ALPHABET.iter().position(|letter| *letter == byte);
        let digit = u32::try_from(digit.context("not base64")?).context("not base64")?;
        held = (held << 6) | digit;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.extend(u8::try_from((held >> bits) & 0xff));
        }
    }
    Ok(bytes)
}
