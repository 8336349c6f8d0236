//! Connects to the cluster, by the pod's service account or a kubeconfig, and sends requests.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::io::{AsyncRead, AsyncReadExt as _};
use http::Request;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::time::timeout;

/// Deadline for connecting.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Deadline for the begin of a response, and then for each further part of it.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// Deadline for a whole response: a page of a list over a slow line.
const ANSWER_ENDS_WITHIN: Duration = Duration::from_mins(1);

/// Bytes of a response at most: a page of 500 objects with 128 KiB each.
const ANSWER_MAX: usize = 64 * 1024 * 1024;

/// Bytes of a response read at once.
const CHUNK: usize = 64 * 1024;

/// Pause after a 429 without a longer `retryAfterSeconds`.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Why a request to the cluster failed.
#[derive(Debug, Error)]
pub enum ClusterError {
    /// Not in a pod with a service account.
    #[error("this is not a pod of a cluster with a service account (and no kubeconfig was given)")]
    NotInCluster(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The kubeconfig cannot be used.
    #[error("invalid kubeconfig {}", path.display())]
    Kubeconfig {
        path: PathBuf,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The client cannot be made.
    #[error("the Kubernetes client cannot be made")]
    Client(#[source] Box<kube::Error>),
    /// The request was refused, or there was no answer.
    #[error("{what}: {source}")]
    Request {
        what: String,
        source: Box<kube::Error>,
    },
    #[error("{what}: no answer within {within:?}")]
    Late {
        what: String,
        /// How long it may take.
        within: Duration,
    },
    /// The API server has no such kind.
    #[error(
        "the API server does not know {resource} of {group}: is the CustomResourceDefinition installed?"
    )]
    NotServed {
        resource: &'static str,
        /// Path of the group and version.
        group: &'static str,
    },
    /// The request cannot be made.
    #[error("{what}: not a request")]
    Malformed { what: String },
}

/// A client for the cluster of `kubeconfig`, or else the one this process runs in.
pub async fn connect(kubeconfig: Option<&Path>) -> Result<Client, ClusterError> {
    // Fails if a provider is installed already, which serves as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut config = match kubeconfig {
        None => Config::incluster().map_err(|error| ClusterError::NotInCluster(error.into()))?,
        Some(path) => {
            let read =
                Kubeconfig::read_from(path).map_err(|error| invalid_kubeconfig(path, error))?;
            Config::from_custom_kubeconfig(read, &KubeConfigOptions::default())
                .await
                .map_err(|error| invalid_kubeconfig(path, error))?
        }
    };
    config.connect_timeout = Some(CONNECT_WITHIN);
    // Each caller retries by its own schedule.
    config.default_retry = false;
    Client::try_from(config).map_err(|error| ClusterError::Client(Box::new(error)))
}

fn invalid_kubeconfig(path: &Path, error: kube::config::KubeconfigError) -> ClusterError {
    ClusterError::Kubeconfig {
        path: path.to_owned(),
        source: error.into(),
    }
}

/// Sends `body` and reads the response.
pub async fn send<T: DeserializeOwned>(
    client: &Client,
    method: http::Method,
    path: &str,
    content_type: &str,
    body: &impl Serialize,
) -> Result<T, ClusterError> {
    let what = format!("{method} {path}");
    let malformed = || ClusterError::Malformed { what: what.clone() };
    let body = serde_json::to_vec(body).map_err(|_| malformed())?;
    let request = Request::builder()
        .method(method.clone())
        .uri(path)
        .header(http::header::CONTENT_TYPE, content_type)
        .body(body)
        .map_err(|_| malformed())?;
    ask(client, request, what).await
}

/// Reads the object at `path` in the media type `accept`.
pub async fn get<T: DeserializeOwned>(
    client: &Client,
    path: &str,
    accept: &str,
) -> Result<T, ClusterError> {
    let what = format!("GET {path}");
    let request =
        request(path, accept).ok_or_else(|| ClusterError::Malformed { what: what.clone() })?;
    ask(client, request, what).await
}

/// A GET of `path` in the media type `accept`.
pub(crate) fn request(path: &str, accept: &str) -> Option<Request<Vec<u8>>> {
    let request = Request::get(path).header(http::header::ACCEPT, accept);
    request.body(Vec::new()).ok()
}

/// Sends `request`, named `what` in errors, and reads the response.
pub(crate) async fn ask<T: DeserializeOwned>(
    client: &Client,
    request: Request<Vec<u8>>,
    what: String,
) -> Result<T, ClusterError> {
    let bytes = ask_bytes(client, request, what.clone(), None).await?;
    common_json::from_slice(&bytes).map_err(|error| ClusterError::Request {
        what,
        source: Box::new(kube::Error::SerdeError(error)),
    })
}

/// Sends `request`, named `what` in errors, and returns the body of the response. `within` replaces
/// the deadlines for the response's begin and for all of it.
pub async fn ask_bytes(
    client: &Client,
    request: Request<Vec<u8>>,
    what: String,
    within: Option<Duration>,
) -> Result<Vec<u8>, ClusterError> {
    let failed = |source| ClusterError::Request {
        what: what.clone(),
        source: Box::new(source),
    };
    let late = |within| ClusterError::Late {
        what: what.clone(),
        within,
    };
    let begins_within = within.unwrap_or(ANSWER_WITHIN);
    let begins = timeout(begins_within, client.request_stream(request));
    let body = begins.await.map_err(|_| late(begins_within))?;
    let body = body.map_err(failed)?;
    let ends_within = within.unwrap_or(ANSWER_ENDS_WITHIN);
    let read = timeout(ends_within, read(body));
    let bytes = read.await.map_err(|_| late(ends_within))?;
    bytes.map_err(|error| failed(kube::Error::ReadEvents(error)))
}

/// Reads the whole body; fails if it stalls or is too large.
async fn read(body: impl AsyncRead) -> io::Result<Vec<u8>> {
    let mut body = std::pin::pin!(body);
    let mut bytes = Vec::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        let read = timeout(ANSWER_WITHIN, body.read(&mut chunk)).await;
        let read = read.map_err(|_| {
            let message = format!("the answer stopped for {ANSWER_WITHIN:?}");
            io::Error::new(io::ErrorKind::TimedOut, message)
        })??;
        if read == 0 {
            return Ok(bytes);
        }
        if bytes.len() + read > ANSWER_MAX {
            let message = format!("the answer is longer than {ANSWER_MAX} bytes");
            return Err(io::Error::other(message));
        }
        bytes.extend_from_slice(&chunk[..read]);
    }
}

// === impl ClusterError ===

impl ClusterError {
    /// The pause that the API server asks for; `None` if it asks for none.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        let Self::Request { source, .. } = self else {
            return None;
        };
        let kube::Error::Api(status) = &**source else {
            return None;
        };
        let retry_after = status
            .details
            .as_ref()
            .map_or(0, |details| details.retry_after_seconds);
        let retry_after = Duration::from_secs(retry_after.into());
        match status.code {
            429 => Some(retry_after.max(RETRY_AFTER)),
            _ => (!retry_after.is_zero()).then_some(retry_after),
        }
    }

    /// The HTTP status of an error response.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Request { source, .. } => match &**source {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
            _ => None,
        }
    }
}
