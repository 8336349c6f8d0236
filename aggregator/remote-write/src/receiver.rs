//! HTTP client of a remote-write receiver.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use common_aws::credentials::CredentialCache;
use common_aws::signer::Signer;
use common_time::{Clock, Now};
use http::header::{AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, DATE, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue};
use parking_lot::Mutex;
use reqwest::{Client, Response};
use thiserror::Error;

use crate::endpoint::Endpoint;
use crate::protocol::Version;
use crate::skew::Skew;
use crate::write_response::{BODY_BYTES_MAX, WriteResponse};

/// Time to connect, TLS included.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Time for a whole request.
const RESPONSE_WITHIN: Duration = Duration::from_secs(30);
/// Idle time of connections: below that of load balancers (AWS: 60 s), which would reset a request.
const IDLE: Duration = Duration::from_secs(55);
/// Bytes of a bearer token.
const TOKEN_BYTES_MAX: usize = 16 * 1024;

const VERSION: HeaderName = HeaderName::from_static("x-prometheus-remote-write-version");
/// Headers that a receiver of 2.0 sends with each request it stored.
const WRITTEN: [HeaderName; 3] = [
    HeaderName::from_static("x-prometheus-remote-write-samples-written"),
    HeaderName::from_static("x-prometheus-remote-write-histograms-written"),
    HeaderName::from_static("x-prometheus-remote-write-exemplars-written"),
];
const RETRY_ATTEMPT: HeaderName = HeaderName::from_static("retry-attempt");

/// The HTTP receiver, or a scripted one in tests.
pub trait Receiver: Send + Sync + 'static {
    /// Sends `body`, a request of `version` in Snappy's block format; `attempt` counts from 0.
    fn send(
        &self,
        body: Bytes,
        version: Version,
        attempt: u32,
    ) -> impl Future<Output = WriteResponse> + Send;

    /// The receiver's clock minus ours, in seconds; 0 if unknown.
    fn clock_skew(&self) -> f64;

    /// Discards cached credentials that the receiver refused.
    fn invalidate_credentials(&self) -> impl Future<Output = ()> + Send;
}

/// How requests are authenticated.
#[derive(Clone, Debug)]
pub enum Auth {
    None,
    Basic {
        user: String,
        /// Read for each request.
        password_file: PathBuf,
    },
    Bearer {
        /// Read for each request: tokens are rotated.
        token_file: PathBuf,
    },
    /// AWS Signature Version 4.
    SigV4 {
        signer: Signer,
        credentials: Arc<CredentialCache>,
    },
}

#[derive(Debug, Error)]
pub enum ClientError {
    #[error("HTTP client: {0}")]
    Client(#[from] reqwest::Error),
    #[error("CA certificates: {0}")]
    Ca(String),
}

#[derive(Debug)]
pub struct HttpReceiver {
    client: Client,
    endpoint: Endpoint,
    auth: Auth,
    clock: Clock,
    skew: Mutex<Skew>,
}

// === impl HttpReceiver ===

impl HttpReceiver {
    /// The receiver at `endpoint`. `ca` is a PEM bundle to trust instead of the system's. Proxies
    /// come from the environment (`HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`).
    pub fn new(
        endpoint: Endpoint,
        auth: Auth,
        ca: Option<&[u8]>,
        clock: Clock,
    ) -> Result<Self, ClientError> {
        let client = Client::builder()
            .tls_backend_preconfigured(tls(ca)?)
            .connect_timeout(CONNECT_WITHIN)
            .timeout(RESPONSE_WITHIN)
            .pool_idle_timeout(IDLE)
            // A redirect would send signed headers elsewhere; retries are the sender's.
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .build()?;
        Ok(Self {
            client,
            endpoint,
            auth,
            clock,
            skew: Mutex::default(),
        })
    }

    /// Expiry of the credentials in use; `None` if they do not expire, or there are none.
    pub async fn credentials_expire_at(&self) -> Option<SystemTime> {
        match &self.auth {
            Auth::SigV4 { credentials, .. } => credentials.expires_at().await,
            Auth::None | Auth::Basic { .. } | Auth::Bearer { .. } => None,
        }
    }

    async fn try_send(
        &self,
        body: Bytes,
        version: Version,
        attempt: u32,
    ) -> Result<WriteResponse, WriteResponse> {
        let mut headers = fixed_headers(version);
        if attempt > 0 {
            headers.insert(RETRY_ATTEMPT, HeaderValue::from(attempt));
        }
        headers.extend(self.authorization(&body).await?);
        let request = self
            .client
            .post(self.endpoint.url())
            .headers(headers)
            .body(body);
        let sent = self.clock.wall().into();
        let response = request
            .send()
            .await
            .map_err(|error| WriteResponse::None(causes(&error)))?;
        let received = self.clock.wall().into();
        if let Some(date) = http_date(response.headers().get(DATE)) {
            self.skew.lock().observe(sent, received, date);
        }
        let written = written(response.headers());
        // A receiver of 1.0 may decode a request of 2.0 as an empty one, and store nothing.
        if version == Version::V2 && response.status().is_success() && written.is_none() {
            return Ok(WriteResponse::NotUnderstood);
        }
        Ok(write_response(response, received, written).await)
    }

    async fn authorization(&self, body: &Bytes) -> Result<HeaderMap, WriteResponse> {
        let mut headers = HeaderMap::new();
        match &self.auth {
            Auth::None => {}
            Auth::Basic {
                user,
                password_file,
            } => {
                let password = secret(password_file).await?;
                let request = self
                    .client
                    .get(self.endpoint.url())
                    .basic_auth(user, Some(password));
                let built = request
                    .build()
                    .map_err(|error| WriteResponse::Unsigned(causes(&error)))?;
                headers.extend(
                    built
                        .headers()
                        .get(AUTHORIZATION)
                        .map(|value| (AUTHORIZATION, value.clone())),
                );
            }
            Auth::Bearer { token_file } => {
                let token = secret(token_file).await?;
                let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| {
                    WriteResponse::Unsigned(format!("{}: not a token", token_file.display()))
                })?;
                value.set_sensitive(true);
                headers.insert(AUTHORIZATION, value);
            }
            Auth::SigV4 {
                signer,
                credentials,
            } => {
                // The receiver checks both the signature's time and the expiry by its own clock.
                let time = self.skew.lock().corrected(self.clock.wall().into());
                let now = Now {
                    monotonic: self.clock.now(),
                    wall: time.into(),
                };
                let credentials = credentials
                    .get(now)
                    .await
                    .map_err(|error| WriteResponse::Unsigned(error.to_string()))?;
                let signed = signer.sign(self.endpoint.url(), body, &credentials, time);
                headers = signed.map_err(|error| WriteResponse::Unsigned(error.to_string()))?;
            }
        }
        Ok(headers)
    }
}

impl Receiver for HttpReceiver {
    async fn send(&self, body: Bytes, version: Version, attempt: u32) -> WriteResponse {
        self.try_send(body, version, attempt)
            .await
            .unwrap_or_else(|failed| failed)
    }

    fn clock_skew(&self) -> f64 {
        self.skew.lock().seconds()
    }

    async fn invalidate_credentials(&self) {
        if let Auth::SigV4 { credentials, .. } = &self.auth {
            credentials.invalidate().await;
        }
    }
}

fn tls(ca: Option<&[u8]>) -> Result<rustls::ClientConfig, ClientError> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;

    let mut roots = rustls::RootCertStore::empty();
    if let Some(pem) = ca {
        for certificate in CertificateDer::pem_slice_iter(pem) {
            let certificate = certificate.map_err(|error| ClientError::Ca(error.to_string()))?;
            roots
                .add(certificate)
                .map_err(|error| ClientError::Ca(error.to_string()))?;
        }
        if roots.is_empty() {
            return Err(ClientError::Ca("the file holds no certificate".to_owned()));
        }
    } else {
        // One certificate that rustls cannot parse must not disable all others of the system.
        let native = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(native.certs);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ClientError::Ca(error.to_string()))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

fn fixed_headers(version: Version) -> HeaderMap {
    let (content_type, number) = match version {
        Version::V1 => ("application/x-protobuf", "0.1.0"),
        Version::V2 => (
            "application/x-protobuf;proto=io.prometheus.write.v2.Request",
            "2.0.0",
        ),
    };
    HeaderMap::from_iter([
        (CONTENT_ENCODING, HeaderValue::from_static("snappy")),
        (CONTENT_TYPE, HeaderValue::from_static(content_type)),
        (VERSION, HeaderValue::from_static(number)),
        (
            USER_AGENT,
            HeaderValue::from_static(concat!("meshmeter/", env!("CARGO_PKG_VERSION"))),
        ),
    ])
}

async fn secret(file: &PathBuf) -> Result<String, WriteResponse> {
    let unreadable = |why: &str| WriteResponse::Unsigned(format!("{}: {why}", file.display()));
    let text = tokio::fs::read_to_string(file)
        .await
        .map_err(|error| unreadable(&error.to_string()))?;
    let text = text.trim();
    if text.is_empty() || text.len() > TOKEN_BYTES_MAX {
        return Err(unreadable("expected one line"));
    }
    Ok(text.to_owned())
}

async fn write_response(
    mut response: Response,
    received: SystemTime,
    written: Option<u32>,
) -> WriteResponse {
    let code = response.status().as_u16();
    let retry_after = retry_after(response.headers(), received);
    let mut body = Vec::new();
    if !(200..300).contains(&code) {
        while let Ok(Some(chunk)) = response.chunk().await {
            let room = BODY_BYTES_MAX - body.len();
            body.extend_from_slice(&chunk[..room.min(chunk.len())]);
            if body.len() == BODY_BYTES_MAX {
                break;
            }
        }
    }
    WriteResponse::Status {
        code,
        retry_after,
        body: String::from_utf8_lossy(&body).trim().to_owned(),
        written,
    }
}

/// Samples that the receiver reports as written; 0 if it sends only other headers of [`WRITTEN`].
fn written(headers: &HeaderMap) -> Option<u32> {
    let present = WRITTEN.iter().any(|name| headers.contains_key(name));
    let [samples, ..] = &WRITTEN;
    let samples = headers.get(samples).and_then(|value| value.to_str().ok());
    let samples = samples.and_then(|text| text.trim().parse().ok());
    present.then_some(samples.unwrap_or(0))
}

fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?;
    match value.to_str().ok()?.trim().parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => http_date(Some(value))?.duration_since(now).ok(),
    }
}

fn http_date(value: Option<&HeaderValue>) -> Option<SystemTime> {
    httpdate::parse_http_date(value?.to_str().ok()?).ok()
}

/// An error with its sources, on one line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
