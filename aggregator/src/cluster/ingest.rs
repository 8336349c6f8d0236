//! How sidecars connect to an aggregator in a cluster, and how they prove who they are.

use std::sync::Arc;
use std::time::Duration;

use aggregator_api::review::tokens::{TokenTtl, Tokens};
use aggregator_core::limits::PODS_MAX;
use aggregator_ingest::Identity;
use aggregator_ingest::identity::{TokenReview, TokenReviews, TokenUser};
use anyhow::{Context as _, Result};
use common_http::Security;
use common_kubernetes::CaBundlePublisher;
use common_kubernetes::ca_bundle_publisher::{Target, pod_names, service_names};
use common_kubernetes::reviews::Reviewer;
use common_time::Clock;
use common_tls::{Protocols, ReloadableCert, clients, config};
use tokio_util::sync::CancellationToken;

use super::{ByCluster, Cluster};
use crate::config::{ClusterConfig, SelfManaged, SidecarIdentity, SidecarTls};

/// A sidecar shows its token when it connects, all of them at once after a restart of ours. A token
/// that is nobody's may be that of a pod that the cluster just made.
const TOKEN_TTL: TokenTtl = TokenTtl {
    valid: Duration::from_mins(1),
    invalid: Duration::from_secs(2),
};

/// Reviews of the tokens that sidecars show.
struct OfSidecars(Tokens);

// === impl Cluster ===

impl Cluster {
    /// How sidecars connect and prove who they are.
    pub(crate) fn ingest(
        &mut self,
        settings: &ClusterConfig,
        clock: &Clock,
        stop: &CancellationToken,
    ) -> Result<(Identity, Security)> {
        let mut cas = None;
        let identity = match &settings.ingest.identity {
            SidecarIdentity::None => Identity::None,
            SidecarIdentity::PodIp => Identity::PodIp,
            SidecarIdentity::Token { audience } => {
                let reviews = Arc::new(ByCluster(Reviewer::new(self.client.clone())));
                let audiences = vec![audience.clone()];
                let clock = clock.clone();
                let tokens = Tokens::new(reviews, audiences, TOKEN_TTL, PODS_MAX, clock);
                Identity::Token(Arc::new(OfSidecars(tokens)))
            }
            SidecarIdentity::Mtls {
                cas: file,
                trust_domain,
            } => {
                let followed =
                    clients::WatchedClientCas::load(file).context("--ingest-client-ca-file")?;
                cas = Some(followed.verifier());
                tokio::spawn(followed.follow(stop.clone()));
                Identity::Mtls {
                    trust_domain: trust_domain.clone(),
                }
            }
        };
        let serving = match &settings.ingest.tls {
            SidecarTls::Off => return Ok((identity, Security::Plain)),
            SidecarTls::Files(files) => {
                let followed = files.clone().load().context("--ingest-cert-file")?;
                let serving = followed.serving();
                tokio::spawn(followed.follow(stop.clone()));
                serving
            }
            SidecarTls::SelfManaged(own) => self.keep(settings, own, clock, stop)?,
        };
        let tls = config::server(serving.clone(), cas, Protocols::Grpc)?;
        self.ingest_serving = Some(serving);
        let security = if settings.ingest.is_permissive {
            Security::Either(tls)
        } else {
            Security::Tls(tls)
        };
        Ok((identity, security))
    }

    /// A certificate that is kept in order by way of the cluster.
    fn keep(
        &mut self,
        settings: &ClusterConfig,
        own: &SelfManaged,
        clock: &Clock,
        stop: &CancellationToken,
    ) -> Result<ReloadableCert> {
        let (service, namespace) = (&own.service, &settings.namespace);
        let mut names = service_names(service, namespace);
        names.extend(pod_names(service, namespace));
        let serving = ReloadableCert::untrusted(&names)?;
        let registration = CaBundlePublisher {
            namespace: namespace.clone(),
            secret: settings.api_ca_secret.clone(),
            service: service.clone(),
            names,
            targets: vec![Target::ConfigMap(own.config_map.clone())],
            serving: serving.clone(),
            clock: clock.clone(),
        };
        let fault = registration.keep(self.client.clone(), stop.clone());
        self.checks.certificates.push(("ingest-certificate", fault));
        Ok(serving)
    }
}

// === impl OfSidecars ===

impl TokenReviews for OfSidecars {
    fn review<'a>(&'a self, token: &'a str) -> TokenReview<'a> {
        Box::pin(async move {
            let user = self.0.user(token).await;
            let user = user.map_err(|error| error.to_string())?;
            Ok(user.map(|user| {
                let first = |key: &str| user.extra.get(key).and_then(|values| values.first());
                TokenUser::new(user.name.clone(), first)
            }))
        })
    }
}
