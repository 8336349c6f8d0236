//! Checks the flags of an aggregator in a cluster.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use aggregator_api::guard::ReviewTtl;
use aggregator_api::names::{namespace_fault, pod_name_fault, service_name_fault};
use anyhow::{Result, bail};
use common_kubernetes::Scope;
use common_kubernetes::watches::NAMESPACES_MAX;
use common_tls::files::Files;

use super::ingest::{IngestConfig, SelfManaged, SidecarIdentity, SidecarTls, mtls};
use super::peers::PeersConfig;
use crate::args::{ClusterArgs, IdentityMode, IngestTlsMode, PeersArgs};

/// Settings of an aggregator in a cluster.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// `None` uses the pod's service account.
    pub kubeconfig: Option<PathBuf>,
    /// Namespace of the service and the secret.
    pub namespace: String,
    pub api_service: String,
    pub api_ca_secret: String,
    /// The API's certificate; `None` manages one by the CA in the secret.
    pub api_files: Option<Files>,
    /// Maximum age of a connection to the API; `None` for any.
    pub api_connection_age: Option<Duration>,
    /// How long a new aggregator is not ready while injected pods do not report.
    pub ready_wait: Duration,
    pub scopes: Vec<Scope>,
    pub watch_autoscalers: bool,
    /// The other replicas; `None` if there are none.
    pub peers: Option<PeersConfig>,
    pub review_ttl: ReviewTtl,
    pub ingest: IngestConfig,
}

impl ClusterConfig {
    pub(super) fn check(
        args: ClusterArgs,
        peers: PeersArgs,
        ingest_listen: SocketAddr,
    ) -> Result<Self> {
        let ClusterArgs {
            kubeconfig,
            namespace,
            api_service,
            api_ca_secret,
            api_cert_file,
            api_key_file,
            api_connection_age_seconds,
            ready_wait,
            watch_namespace,
            watch_autoscalers,
            authorization_allow_seconds,
            authorization_deny_seconds,
            authentication_token_seconds,
            ingest_identity,
            ingest_tls,
            ingest_tls_mode,
            ingest_service,
            ingest_ca_configmap,
            ingest_cert_file,
            ingest_key_file,
            ingest_client_ca_file,
            ingest_trust_domain,
            ingest_token_audience,
            ingest_token_verification,
        } = args;
        let identity = match ingest_identity {
            IdentityMode::None => SidecarIdentity::None,
            IdentityMode::PodIp => SidecarIdentity::PodIp,
            IdentityMode::Token => SidecarIdentity::Token {
                audience: ingest_token_audience,
                verification: ingest_token_verification,
            },
            IdentityMode::Mtls => mtls(ingest_client_ca_file, ingest_trust_domain)?,
        };
        let ingest_files = files(ingest_cert_file, ingest_key_file);
        let own = SelfManaged {
            service: ingest_service,
            config_map: ingest_ca_configmap,
        };
        let tls = SidecarTls::check(ingest_tls, ingest_files, own)?;
        let ingest = IngestConfig {
            tls,
            is_permissive: ingest_tls_mode == Some(IngestTlsMode::Permissive),
            identity,
        };
        ingest.check(ingest_listen, ingest_tls_mode)?;
        check_names(&namespace, &api_service, &api_ca_secret, &watch_namespace)?;
        let api_files = files(api_cert_file, api_key_file);
        let age = seconds(api_connection_age_seconds);
        Ok(Self {
            kubeconfig,
            namespace,
            api_service,
            api_ca_secret,
            peers: PeersConfig::check(peers, api_files.is_some())?,
            api_files,
            api_connection_age: (!age.is_zero()).then_some(age),
            ready_wait: seconds(ready_wait.into()),
            ingest,
            scopes: scopes(watch_namespace)?,
            watch_autoscalers,
            review_ttl: ReviewTtl {
                token: seconds(authentication_token_seconds.into()),
                allow: seconds(authorization_allow_seconds.into()),
                deny: seconds(authorization_deny_seconds.into()),
            },
        })
    }
}

fn files(certificate: Option<PathBuf>, key: Option<PathBuf>) -> Option<Files> {
    let both = certificate.zip(key);
    both.map(|(certificate, key)| Files { certificate, key })
}

fn seconds(seconds: u32) -> Duration {
    Duration::from_secs(seconds.into())
}

fn check_names(
    namespace: &str,
    api_service: &str,
    api_ca_secret: &str,
    watched: &[String],
) -> Result<()> {
    let named = [
        ("--namespace", namespace, namespace_fault(namespace)),
        (
            "--api-service",
            api_service,
            service_name_fault(api_service),
        ),
        (
            "--api-ca-secret",
            api_ca_secret,
            pod_name_fault(api_ca_secret),
        ),
    ];
    let watched = watched
        .iter()
        .map(|name| ("--watch-namespace", name.as_str(), namespace_fault(name)));
    for (flag, name, fault) in named.into_iter().chain(watched) {
        if let Some(rule) = fault {
            bail!("{flag} {name:?} is not valid: {rule}");
        }
    }
    Ok(())
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
