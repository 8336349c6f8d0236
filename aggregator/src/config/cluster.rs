//! Flags of an aggregator in a cluster -> checked.

use std::path::PathBuf;
use std::time::Duration;

use aggregator_api::guard::ReviewTtl;
use aggregator_api::names::{namespace_fault, pod_name_fault, service_name_fault};
use aggregator_cluster::Scope;
use aggregator_cluster::watches::NAMESPACES_MAX;
use aggregator_tls::files::Files;
use anyhow::{Result, bail};

use crate::args::ClusterArgs;

/// What an aggregator in a cluster is told.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// How to reach the cluster; `None`: as a pod.
    pub kubeconfig: Option<PathBuf>,
    /// Of the service and the secret.
    pub namespace: String,
    /// The service of the API.
    pub api_service: String,
    /// The secret with the authority of the API.
    pub api_ca_secret: String,
    /// The API's certificate; `None`: by the authority in the secret.
    pub api_files: Option<Files>,
    /// How old a connection to the API may get; `None`: any age.
    pub api_connection_age: Option<Duration>,
    /// Where pods are watched.
    pub scopes: Vec<Scope>,
    /// How long reviews hold.
    pub review_ttl: ReviewTtl,
}

impl ClusterConfig {
    pub(super) fn check(args: ClusterArgs) -> Result<Self> {
        let ClusterArgs {
            kubeconfig,
            namespace,
            api_service,
            api_ca_secret,
            api_cert_file,
            api_key_file,
            api_connection_age_seconds,
            watch_namespace,
            authorization_allow_seconds,
            authorization_deny_seconds,
            authentication_token_seconds,
        } = args;
        let named = [
            ("--namespace", &namespace, namespace_fault(&namespace)),
            (
                "--api-service",
                &api_service,
                service_name_fault(&api_service),
            ),
            (
                "--api-ca-secret",
                &api_ca_secret,
                pod_name_fault(&api_ca_secret),
            ),
        ];
        let watched = watch_namespace
            .iter()
            .map(|name| ("--watch-namespace", name, namespace_fault(name)));
        for (flag, name, fault) in named.into_iter().chain(watched) {
            if let Some(rule) = fault {
                bail!("{flag} {name:?} is not valid: {rule}");
            }
        }
        let seconds = |seconds: u16| Duration::from_secs(seconds.into());
        let age = Duration::from_secs(api_connection_age_seconds.into());
        Ok(Self {
            kubeconfig,
            namespace,
            api_service,
            api_ca_secret,
            api_files: api_cert_file
                .zip(api_key_file)
                .map(|(certificate, key)| Files { certificate, key }),
            api_connection_age: (!age.is_zero()).then_some(age),
            scopes: scopes(watch_namespace)?,
            review_ttl: ReviewTtl {
                token: seconds(authentication_token_seconds),
                allow: seconds(authorization_allow_seconds),
                deny: seconds(authorization_deny_seconds),
            },
        })
    }
}

fn scopes(mut namespaces: Vec<String>) -> Result<Vec<Scope>> {
    namespaces.sort_unstable();
    namespaces.dedup();
    if namespaces.len() > NAMESPACES_MAX {
        bail!(
            "--watch-namespace: {} namespaces, at most {NAMESPACES_MAX} are allowed; leave it out to watch the whole \
             cluster",
            namespaces.len()
        );
    }
    if namespaces.is_empty() {
        return Ok(vec![Scope::All]);
    }
    Ok(namespaces.into_iter().map(Scope::Namespace).collect())
}
