//! The standby's side: fetches each checkpoint of the writer.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Client, StatusCode};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;

use super::{HAS, NEWS_WITHIN, PATH, STANDBY};
use crate::series::flush_of;

/// Time to connect.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);

/// Time for a request: what the writer lets us wait, and the way of a large copy.
const ANSWER_WITHIN: Duration = NEWS_WITHIN.saturating_add(Duration::from_secs(10));

/// Bytes of a copy: 50,000 pods with 20 totals each take some 14 million.
const COPY_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Asks a writer for its checkpoints, one after the other.
#[derive(Debug)]
pub struct Copies {
    client: Client,
    name: String,
    /// The flush that the newest copy is of.
    has: Option<i64>,
}

/// Why there is no copy.
#[derive(Debug, Error)]
pub enum CopyError {
    /// The client cannot be made.
    #[error("the client cannot be made: {0}")]
    Client(#[from] rustls::Error),
    /// No answer, or not all of it.
    #[error("the writer did not answer")]
    Request(#[from] reqwest::Error),
    /// Another answer than a copy.
    #[error("the writer answered {status}: {text}")]
    Refused {
        /// Its status.
        status: StatusCode,
        /// What it says.
        text: String,
    },
    /// Larger than any copy.
    #[error("the copy has more than {COPY_BYTES_MAX} bytes")]
    TooLarge,
    /// Not a checkpoint, or not of our version.
    #[error("the copy is damaged, or of another version")]
    Damaged,
}

// === impl Copies ===

impl Copies {
    /// For the replica called `name`.
    pub fn new(name: &str) -> Result<Self, CopyError> {
        // Replicas speak plain HTTP; the backend has to be named all the same.
        let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let client = Client::builder()
            .tls_backend_preconfigured(tls)
            .no_proxy()
            .connect_timeout(CONNECT_WITHIN)
            .timeout(ANSWER_WITHIN)
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .build()?;
        let name = name.to_owned();
        let has = None;
        Ok(Self { client, name, has })
    }

    /// Another writes from now on: copies of the one before say nothing of its.
    pub fn begin_anew(&mut self) {
        self.has = None;
    }

    /// A copy that is newer than the last one, of the writer at `address` (with its port), and the flush that it is of;
    /// `None` if there was none for a while. The writer takes the next call for word that this copy is safe.
    pub async fn next(
        &mut self,
        address: &str,
        key: &str,
    ) -> Result<Option<(i64, Vec<u8>)>, CopyError> {
        let has = self.has.map(|has| format!("&{HAS}={has}"));
        let query = format!("{STANDBY}={}{}", self.name, has.unwrap_or_default());
        let request = self.client.get(format!("http://{address}{PATH}?{query}"));
        let mut response = request.bearer_auth(key).send().await?;
        let status = response.status();
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await? {
            if bytes.len() + chunk.len() > COPY_BYTES_MAX {
                return Err(CopyError::TooLarge);
            }
            bytes.extend_from_slice(&chunk);
        }
        match status {
            StatusCode::NO_CONTENT => Ok(None),
            StatusCode::OK => {
                let at = flush_of(&bytes).ok_or(CopyError::Damaged)?;
                self.has = Some(at);
                Ok(Some((at, bytes)))
            }
            status => {
                let text = bytes.into_iter().take(256).collect();
                let text = String::from_utf8(text).unwrap_or_default();
                let text = text.trim().to_owned();
                Err(CopyError::Refused { status, text })
            }
        }
    }
}
