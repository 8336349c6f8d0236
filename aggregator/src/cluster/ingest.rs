//! TLS and authentication of sidecars in a cluster.

use std::sync::Arc;
use std::time::Duration;

use aggregator_api::review::tokens::{TokenTtl, Tokens};
use aggregator_core::limits::PODS_MAX;
use aggregator_directory::PODS_WATCH;
use aggregator_ingest::Identity;
use aggregator_ingest::tokens::{
    self, Fetch, Issuer, IssuerKeys, KeySource, LocalTokens, TokenReview, TokenReviews, TokenUser,
};
use anyhow::{Context as _, Result};
use common_http::Security;
use common_kubernetes::CaBundlePublisher;
use common_kubernetes::ca_bundle_publisher::{Target, pod_names, service_names};
use common_kubernetes::issuer::IssuerDocuments;
use common_kubernetes::reviews::Reviewer;
use common_time::Clock;
use common_tls::{Protocols, ReloadableCert, clients, config};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{ByCluster, Cluster};
use crate::args::TokenVerification;
use crate::config::{ClusterConfig, SelfManaged, SidecarIdentity, SidecarTls};

/// A sidecar sends its token when it connects, all of them at once after our restart. An invalid
/// token may become valid: that of a pod that was created just now.
const TOKEN_TTL: TokenTtl = TokenTtl {
    valid: Duration::from_mins(1),
    invalid: Duration::from_secs(2),
};

/// The issuer's documents by kube-apiserver.
struct OfCluster(IssuerDocuments);

/// Token reviews for sidecars.
struct OfSidecars(Tokens);

// === impl Cluster ===

impl Cluster {
    /// Identity and TLS for sidecars.
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
            SidecarIdentity::Token {
                audience,
                verification,
            } => Identity::Token(Arc::new(self.tokens(audience, *verification, clock, stop))),
            SidecarIdentity::Mtls {
                cas: file,
                trust_domain,
            } => {
                let watched =
                    clients::WatchedClientCas::load(file).context("--ingest-client-ca-file")?;
                cas = Some(watched.verifier());
                tokio::spawn(watched.follow(stop.clone()));
                Identity::Mtls {
                    trust_domain: trust_domain.clone(),
                }
            }
        };
        let cert = match &settings.ingest.tls {
            SidecarTls::Off => return Ok((identity, Security::Plain)),
            SidecarTls::Files(files) => {
                let watched = files.clone().load().context("--ingest-cert-file")?;
                let cert = watched.serving();
                tokio::spawn(watched.follow(stop.clone()));
                cert
            }
            SidecarTls::SelfManaged(own) => self.keep(settings, own, clock, stop)?,
        };
        let tls = config::server(cert.clone(), cas, Protocols::Grpc)?;
        self.ingest_cert = Some(cert);
        let security = if settings.ingest.is_permissive {
            Security::Either(tls)
        } else {
            Security::Tls(tls)
        };
        Ok((identity, security))
    }

    /// Verification of sidecars' tokens.
    fn tokens(
        &self,
        audience: &str,
        verification: TokenVerification,
        clock: &Clock,
        stop: &CancellationToken,
    ) -> tokens::Tokens {
        let reviewer = Arc::new(ByCluster(Reviewer::new(self.client.clone())));
        let audiences = vec![audience.to_owned()];
        let reviews = Tokens::new(reviewer, audiences, TOKEN_TTL, PODS_MAX, clock.clone());
        let reviews = Arc::new(OfSidecars(reviews));
        if verification == TokenVerification::Review {
            return tokens::Tokens::reviewed(reviews);
        }
        let source = Arc::new(OfCluster(IssuerDocuments::new(self.client.clone())));
        let keys = Arc::new(IssuerKeys::new(source, clock.clone()));
        let (following, stop) = (Arc::clone(&keys), stop.clone());
        tokio::spawn(async move { following.follow(stop).await });
        let lag = self.watches.lag_of(PODS_WATCH);
        let local = LocalTokens::new(keys, audience.to_owned(), lag, clock.clone());
        tokens::Tokens::verified(local, reviews)
    }

    /// A self-managed certificate.
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
        let cert = ReloadableCert::untrusted(&names)?;
        let publisher = CaBundlePublisher {
            namespace: namespace.clone(),
            secret: settings.api_ca_secret.clone(),
            service: service.clone(),
            names,
            targets: vec![Target::ConfigMap(own.config_map.clone())],
            serving: cert.clone(),
            bundle: watch::Sender::default(),
            clock: clock.clone(),
        };
        let fault = publisher.spawn(self.client.clone(), stop.clone());
        self.checks.certificates.push(("ingest-certificate", fault));
        Ok(cert)
    }
}

// === impl OfCluster ===

impl KeySource for OfCluster {
    fn fetch(&self) -> Fetch<'_> {
        Box::pin(async move {
            let documents = tokio::try_join!(self.0.discovery(), self.0.keys());
            let (discovery, keys) = documents.map_err(|error| error.to_string())?;
            Issuer::parse(&discovery, &keys).map_err(|error| error.to_string())
        })
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
