//! Our CA in the `APIServices` that lead to us, so that kube-apiserver can verify our certificate.

use std::time::Duration;

use http::Method;
use k8s_openapi::ByteString;
use kube::Client;
use serde::de::IgnoredAny;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::connection::{ClusterError, send};

/// The `APIServices` of both groups.
pub const API_SERVICES: [&str; 3] = [
    "v1beta1.custom.metrics.k8s.io",
    "v1beta2.custom.metrics.k8s.io",
    "v1beta1.external.metrics.k8s.io",
];

const PATH: &str = "/apis/apiregistration.k8s.io/v1/apiservices/";
const MERGE_PATCH: &str = "application/merge-patch+json";

/// How often it is written again: someone may have applied a manifest without it.
const AGAIN_AFTER: Duration = Duration::from_mins(1);

/// How soon it is tried again where it failed.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// Writes `ca` (PEM) into every one of [`API_SERVICES`] until `stop`. What is not registered is left alone.
pub async fn keep_registered(client: Client, ca: String, stop: CancellationToken) {
    let mut told = None;
    loop {
        let failure = register(&client, &ca).await;
        if failure != told {
            match &failure {
                None => tracing::info!("CA written into the APIServices"),
                Some(error) => tracing::warn!(error, "CA not written into the APIServices"),
            }
            told.clone_from(&failure);
        }
        let pause = if failure.is_none() {
            AGAIN_AFTER
        } else {
            RETRY_AFTER
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(pause) => {}
        }
    }
}

/// The first failure.
async fn register(client: &Client, ca: &str) -> Option<String> {
    let mut failure = None;
    for name in API_SERVICES {
        match write(client, name, ca).await {
            Ok(()) => {}
            Err(error) if error.status() == Some(404) => {
                tracing::debug!(api.service = name, "not registered");
            }
            Err(error) => failure = failure.or_else(|| Some(format!("{name}: {error}"))),
        }
    }
    failure
}

async fn write(client: &Client, name: &str, ca: &str) -> Result<(), ClusterError> {
    // A CA and the order to skip verification exclude one another.
    let change = serde_json::json!({"spec": {
        "caBundle": ByteString(ca.as_bytes().to_vec()),
        "insecureSkipTLSVerify": null,
    }});
    let path = format!("{PATH}{name}");
    let _: IgnoredAny = send(client, Method::PATCH, &path, MERGE_PATCH, &change).await?;
    Ok(())
}
