//! Objects of one kind, in the types of `k8s-openapi`. Like `kube::Api`, but a response has a
//! deadline and a size limit, null is read as Go does, and an error names the request.

use std::fmt;
use std::marker::PhantomData;

use http::Request;
use kube::core::request::Error;
use kube::core::{Request as Requests, Resource};
use kube::{Client, api};
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::connection::{ClusterError, ask};

/// Objects of one kind at the API server.
pub struct Api<'a, K> {
    client: &'a Client,
    requests: Requests,
    kind: PhantomData<fn() -> K>,
}

// === impl Api ===

impl<'a, K: Resource> Api<'a, K> {
    /// Objects of a kind that is known only at run time.
    pub fn of(client: &'a Client, kind: &K::DynamicType, namespace: Option<&str>) -> Self {
        Self {
            client,
            requests: Requests::new(K::url_path(kind, namespace)),
            kind: PhantomData,
        }
    }

    /// Cluster-scoped objects.
    pub fn all(client: &'a Client) -> Self
    where
        K: Resource<DynamicType = ()>,
    {
        Self::of(client, &(), None)
    }

    /// The objects of `namespace`.
    pub fn namespaced(client: &'a Client, namespace: &str) -> Self
    where
        K: Resource<DynamicType = ()>,
    {
        Self::of(client, &(), Some(namespace))
    }
}

impl<K: Serialize + DeserializeOwned> Api<'_, K> {
    /// The object `name`; `None` if it does not exist.
    pub async fn get(&self, name: &str) -> Result<Option<K>, ClusterError> {
        let request = self.requests.get(name, &api::GetParams::default());
        match self.ask(request).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.status() == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub async fn create(&self, object: &K) -> Result<K, ClusterError> {
        let body = serde_json::to_vec(object).map_err(Error::SerializeBody);
        let request = |body| self.requests.create(&api::PostParams::default(), body);
        self.ask(body.and_then(request)).await
    }

    /// Replaces the object; fails with 409 if its `resourceVersion` is not the current one.
    pub async fn replace(&self, name: &str, object: &K) -> Result<(), ClusterError> {
        let body = serde_json::to_vec(object).map_err(Error::SerializeBody);
        let request = |body| {
            self.requests
                .replace(name, &api::PostParams::default(), body)
        };
        let _: IgnoredAny = self.ask(body.and_then(request)).await?;
        Ok(())
    }

    /// Merges `change` into the status of the object `name`.
    pub async fn merge_status(
        &self,
        name: &str,
        change: &impl Serialize,
    ) -> Result<(), ClusterError> {
        let (params, change) = (api::PatchParams::default(), api::Patch::Merge(change));
        let requests = &self.requests;
        let request = requests.patch_subresource("status", name, &params, &change);
        let _: IgnoredAny = self.ask(request).await?;
        Ok(())
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        request: Result<Request<Vec<u8>>, Error>,
    ) -> Result<T, ClusterError> {
        let request = request.map_err(|error| ClusterError::Request {
            what: self.requests.url_path.clone(),
            source: Box::new(kube::Error::BuildRequest(error)),
        })?;
        let what = format!("{} {}", request.method(), request.uri().path());
        ask(self.client, request, what).await
    }
}

impl<K> fmt::Debug for Api<'_, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Api").field(&self.requests.url_path).finish()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::authentication::v1::TokenReview;
    use k8s_openapi::api::coordination::v1::Lease;
    use k8s_openapi::api::core::v1::Secret;

    use super::*;

    /// Null is absent in these types too, at any depth, and what should be there is not missed.
    #[test]
    fn reads_nulls() {
        fn read<K: DeserializeOwned>(text: &str) -> K {
            common_json::from_str(text).unwrap()
        }
        let review: TokenReview = read(
            r#"{"metadata": null, "spec": null, "status": {"authenticated": null, "audiences": null,
                "user": {"username": "u", "groups": null, "extra": {"pod": null}}}}"#,
        );
        let user = review.status.unwrap().user.unwrap();
        assert_eq!(user.extra.unwrap()["pod"], [""; 0]);
        let lease: Lease =
            read(r#"{"metadata": {"annotations": null}, "spec": {"acquireTime": null}}"#);
        assert!(lease.spec.unwrap().acquire_time.is_none());
        let secret: Secret =
            read(r#"{"metadata": {"labels": {"a": null}}, "data": {"key": null}}"#);
        assert!(secret.data.unwrap()["key"].0.is_empty());
    }
}
