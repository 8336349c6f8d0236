//! Objects of a cluster, read and written as any client does.

use std::path::Path;

use anyhow::{Context, Result};
use common_kubernetes::connection;
use http::{Method, Request, header};
use kube::Client;
use serde_json::Value;

/// The namespace of all objects here.
pub const NAMESPACE: &str = "prod";
const MERGE_PATCH: &str = "application/merge-patch+json";

/// A client of a cluster.
#[derive(Clone)]
pub struct Rest(Client);

// === impl Rest ===

impl Rest {
    /// As `kubeconfig` says.
    pub async fn new(kubeconfig: &Path) -> Result<Self> {
        let client = connection::connect(Some(kubeconfig)).await;
        Ok(Self(client.context("reach the cluster")?))
    }

    /// The object at `path`.
    pub async fn get(&self, path: &str) -> Result<Value> {
        self.send(Method::GET, path, "application/json", &Value::Null)
            .await
    }

    /// Creates `object` in the collection at `path`.
    pub async fn create(&self, path: &str, object: &Value) -> Result<Value> {
        self.send(Method::POST, path, "application/json", object)
            .await
    }

    /// Changes the object at `path`.
    pub async fn patch(&self, path: &str, change: &Value) -> Result<Value> {
        self.send(Method::PATCH, path, MERGE_PATCH, change).await
    }

    /// The objects of the collection at `path`.
    pub async fn list(&self, path: &str) -> Result<Vec<Value>> {
        let list = self.get(path).await?;
        Ok(list["items"].as_array().cloned().unwrap_or_default())
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: &Value,
    ) -> Result<Value> {
        let what = format!("{method} {path}");
        let body = match body {
            Value::Null => Vec::new(),
            body => body.to_string().into_bytes(),
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::CONTENT_TYPE, content_type)
            .header(header::ACCEPT, "application/json")
            .body(body)
            .with_context(|| what.clone())?;
        self.0.request(request).await.with_context(|| what)
    }
}

impl std::fmt::Debug for Rest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rest").finish_non_exhaustive()
    }
}

pub fn pods() -> String {
    format!("/api/v1/namespaces/{NAMESPACE}/pods")
}

pub fn deployments() -> String {
    format!("/apis/apps/v1/namespaces/{NAMESPACE}/deployments")
}

pub fn autoscalers() -> String {
    format!("/apis/autoscaling/v2/namespaces/{NAMESPACE}/horizontalpodautoscalers")
}
