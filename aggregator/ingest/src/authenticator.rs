//! Authenticates streams, with TLS or without. Where both are accepted, a stream without TLS is
//! authenticated by its address, whatever the identity required with TLS.

use std::net::IpAddr;
use std::sync::Arc;

use aggregator_directory::Directory;
use common_budget::Sender;
use common_http::{Peer, Security};
use tonic::Extensions;
use tonic::metadata::MetadataMap;

use crate::close_reason::Refusal;
use crate::identity::{Claim, Identity};
use crate::metrics::Metrics;

#[derive(Debug)]
pub(crate) struct Authenticator {
    identity: Identity,
    /// True if streams without TLS are accepted beside those with TLS.
    accepts_plain: bool,
}

// === impl Door ===

impl Authenticator {
    pub(crate) fn new(identity: Identity, security: &Security) -> Self {
        Self {
            identity,
            accepts_plain: matches!(security, Security::Either(_)),
        }
    }

    /// The address of the connection where it is the identity; limits per address apply to it.
    pub(crate) fn address(&self, extensions: &Extensions) -> Option<IpAddr> {
        self.identity(extensions).address(extensions)
    }

    /// Whose messages a call has: room is shared out by address, and limited for each where it is
    /// the identity.
    pub(crate) fn sender(&self, extensions: &Extensions) -> Sender {
        let peer = extensions.get::<Arc<Peer>>();
        Sender {
            address: peer.and_then(|peer| peer.ip()),
            is_limited: self.address(extensions).is_some(),
        }
    }

    /// Authenticates a call by its metadata and connection.
    pub(crate) async fn claim(
        &self,
        metadata: &MetadataMap,
        extensions: &Extensions,
        directory: &Directory,
        metrics: &Metrics,
    ) -> Result<Claim, Refusal> {
        // Others on the network may have read the token: refusing it makes the mistake visible.
        let asks_for_token = matches!(self.identity, Identity::Token(_));
        if asks_for_token && is_plain(extensions) && metadata.contains_key("authorization") {
            return Err(Refusal::PlainToken);
        }
        let identity = self.identity(extensions);
        identity
            .claim(metadata, extensions, directory, metrics)
            .await
    }

    fn identity(&self, extensions: &Extensions) -> &Identity {
        if self.accepts_plain && is_plain(extensions) {
            &Identity::PodIp
        } else {
            &self.identity
        }
    }
}

pub(crate) fn is_plain(extensions: &Extensions) -> bool {
    let peer = extensions.get::<Arc<Peer>>();
    peer.is_none_or(|peer| !peer.is_tls)
}

#[cfg(test)]
mod tests {
    use aggregator_core::pod::{Labels, PodInfo, PodKey};
    use rustls::ServerConfig;
    use rustls::crypto::ring;
    use rustls::server::ResolvesServerCertUsingSni;

    use super::*;
    use crate::tokens::{TokenReview, TokenReviews, TokenUser, Tokens};

    struct KnownPods;

    impl TokenReviews for KnownPods {
        fn review<'a>(&'a self, _: &'a str) -> TokenReview<'a> {
            let user = TokenUser {
                username: "system:serviceaccount:prod:jazz".to_owned(),
                pod: "jazz-1".to_owned(),
                pod_uid: "u1".to_owned(),
            };
            Box::pin(async move { Ok(Some(user)) })
        }
    }

    fn either() -> Security {
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()));
        let config = config.with_safe_default_protocol_versions().unwrap();
        let certificates = Arc::new(ResolvesServerCertUsingSni::new());
        let config = config.with_no_client_auth();
        Security::Either(Arc::new(config.with_cert_resolver(certificates)))
    }

    fn directory() -> Directory {
        let directory = Directory::default();
        let key = PodKey::new("prod", "jazz-1");
        let info = PodInfo {
            ips: vec!["10.0.0.5".parse().unwrap()],
            ..PodInfo::new(key, "u1".into(), Labels::default())
        };
        directory.upsert(info).unwrap();
        directory
    }

    fn extensions(address: &str, is_tls: bool) -> Extensions {
        let mut extensions = Extensions::new();
        extensions.insert(Arc::new(Peer {
            address: Some(format!("{address}:4711").parse().unwrap()),
            is_tls,
            ..Peer::default()
        }));
        extensions
    }

    async fn outcome(
        authenticator: &Authenticator,
        address: &str,
        is_tls: bool,
        token: bool,
    ) -> &'static str {
        let extensions = extensions(address, is_tls);
        let mut metadata = MetadataMap::new();
        if token {
            metadata.insert("authorization", "Bearer good".parse().unwrap());
        }
        let (directory, metrics) = (directory(), Metrics::default());
        let claim = authenticator.claim(&metadata, &extensions, &directory, &metrics);
        match claim.await {
            Ok(Claim::Anyone) => "anyone",
            Ok(Claim::Address(_)) => "address",
            Ok(Claim::Pod { .. }) => "pod",
            Ok(Claim::Namespace(_)) => "namespace",
            Err(refusal) => refusal.reason(),
        }
    }

    /// Where both are taken, who comes plain proves it by its address alone and keeps its token to
    /// itself.
    #[tokio::test]
    async fn plain_streams_are_checked_by_address() {
        let token = || Identity::Token(Arc::new(Tokens::reviewed(Arc::new(KnownPods))));
        let mtls = || Identity::Mtls {
            trust_domain: "cluster.local".to_owned(),
        };
        let both = |identity| Authenticator::new(identity, &either());
        let plain = |identity| Authenticator::new(identity, &Security::Plain);
        let (known, unknown) = ("10.0.0.5", "10.0.0.6");
        for (authenticator, address, is_tls, shown, expected) in [
            (both(token()), known, true, true, "pod"),
            (both(token()), known, true, false, "unauthenticated"),
            (both(token()), known, false, false, "address"),
            (both(token()), known, false, true, "plain_token"),
            (both(token()), unknown, false, false, "unknown_pod"),
            (both(token()), unknown, false, true, "plain_token"),
            (both(Identity::PodIp), known, true, false, "address"),
            (both(Identity::PodIp), known, false, false, "address"),
            // Nobody asked for it, and without TLS nobody refused it before.
            (both(Identity::PodIp), known, false, true, "address"),
            (both(Identity::PodIp), unknown, false, false, "unknown_pod"),
            (both(mtls()), known, false, false, "address"),
            (both(mtls()), known, true, false, "unauthenticated"),
            (both(Identity::None), unknown, true, false, "anyone"),
            (both(Identity::None), unknown, false, false, "unknown_pod"),
            (plain(Identity::None), unknown, false, false, "anyone"),
            (plain(Identity::PodIp), known, false, true, "address"),
            (plain(token()), known, false, true, "plain_token"),
        ] {
            let what = format!("{authenticator:?} {address} {is_tls} {shown}");
            assert_eq!(
                outcome(&authenticator, address, is_tls, shown).await,
                expected,
                "{what}"
            );
        }
        // Where the address is what proves it, it has its limits.
        let authenticator = both(token());
        let limited = |is_tls| authenticator.address(&extensions(known, is_tls));
        assert_eq!((limited(false), limited(true)), (known.parse().ok(), None));
    }
}
