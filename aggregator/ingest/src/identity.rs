//! Identity of a sidecar: its credentials, the claim they prove, and the check of that claim
//! against the pod in its hello. A stream may report only its own pod.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use aggregator_core::pod::{Phase, PodKey};
use aggregator_directory::Directory;
use common_http::Peer;
use tonic::Extensions;
use tonic::metadata::MetadataMap;

use crate::close_reason::Refusal;
use crate::metrics::Metrics;
use crate::tokens::Tokens;

mod spiffe;

/// Bytes of a bearer token. Those of service accounts have about 1 KiB.
const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// How the identity of a sidecar is checked.
#[derive(Clone, Default)]
pub enum Identity {
    /// No check: any client that reaches the listener may report any pod.
    #[default]
    None,
    /// The peer address must be one of the pod's.
    PodIp,
    /// A service account token that is bound to the pod.
    Token(Arc<Tokens>),
    /// A client certificate with a SPIFFE ID of this trust domain. TLS verifies its signature.
    Mtls {
        /// Such as `cluster.local`.
        trust_domain: String,
    },
}

/// The identity that a stream has proved.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Claim {
    /// Identities are not checked.
    Anyone,
    Address(IpAddr),
    Pod {
        pod: PodKey,
        /// Empty if not proved.
        uid: String,
    },
    /// Any pod in this namespace.
    Namespace(String),
}

// === impl Identity ===

impl Identity {
    /// The address of the connection where it is the identity.
    pub(crate) fn address(&self, extensions: &Extensions) -> Option<IpAddr> {
        let connection = extensions.get::<Arc<Peer>>();
        connection
            .filter(|_| matches!(self, Self::PodIp))
            .and_then(|peer| peer.ip())
    }

    /// The claim that a call's credentials prove; its first message is not read yet.
    pub(crate) async fn claim(
        &self,
        metadata: &MetadataMap,
        extensions: &Extensions,
        directory: &Directory,
        metrics: &Metrics,
    ) -> Result<Claim, Refusal> {
        let connection = extensions.get::<Arc<Peer>>();
        match self {
            Self::None => Ok(Claim::Anyone),
            Self::PodIp => {
                let address = self.address(extensions);
                let address = address
                    .ok_or_else(|| unauthenticated("the address of the connection is not known"))?;
                if !directory.has_address(&address) {
                    return Err(Refusal::UnknownAddress(address));
                }
                Ok(Claim::Address(address))
            }
            Self::Token(tokens) => by_token(tokens, metadata, directory, metrics).await,
            Self::Mtls { trust_domain } => {
                let certificate = connection.and_then(|peer| peer.certificates.first());
                let certificate =
                    certificate.ok_or_else(|| unauthenticated("no client certificate"))?;
                spiffe::claim(certificate, trust_domain)
            }
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::PodIp => "PodIp",
            Self::Token(_) => "Token",
            Self::Mtls { .. } => "Mtls",
        })
    }
}

async fn by_token(
    tokens: &Tokens,
    metadata: &MetadataMap,
    directory: &Directory,
    metrics: &Metrics,
) -> Result<Claim, Refusal> {
    let header = metadata
        .get("authorization")
        .and_then(|value| value.to_str().ok());
    let token = header
        .and_then(|header| match header.trim().split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Some(token.trim()),
            Some(_) => None,
            // Envoys whose credential injector has no prefix option send the bare token.
            None => Some(header.trim()),
        })
        .filter(|token| !token.is_empty())
        .ok_or_else(|| unauthenticated("no bearer token"))?;
    if token.len() > TOKEN_BYTES_MAX {
        return Err(unauthenticated("the bearer token is too long"));
    }
    let user = tokens.user(token, directory, metrics).await?;
    let pod = user.bound_pod().ok_or_else(|| {
        Refusal::NotItsPod(format!(
            "the token of {} is not bound to a pod: project a service account token into the pod",
            user.username
        ))
    })?;
    Ok(Claim::Pod {
        pod,
        uid: user.pod_uid,
    })
}

// === impl Claim ===

impl Claim {
    /// Checks that the stream may report `pod` with `uid`, which is empty if the hello has none.
    pub(crate) fn check(
        &self,
        pod: &PodKey,
        uid: &str,
        directory: &Directory,
    ) -> Result<(), Refusal> {
        let refused = |why: String| {
            Err(Refusal::NotItsPod(format!(
                "{why}: a stream may report only its own pod"
            )))
        };
        match self {
            Self::Address(address) => {
                let entry = directory.get(pod);
                let entry = entry.filter(|entry| uid.is_empty() || *entry.uid == *uid);
                // The address of a pod that has ended may belong to another pod by now.
                let ended = |phase| matches!(phase, Phase::Succeeded | Phase::Failed);
                let entry = entry.filter(|entry| !ended(entry.phase));
                let entry = entry.ok_or_else(|| Refusal::UnknownPod(pod.clone()))?;
                // The watch may lag behind the pod's start: no address yet is no mismatch.
                if entry.ips.is_empty() {
                    return Err(Refusal::UnknownPod(pod.clone()));
                }
                if entry.ips.iter().any(|ip| ip.to_canonical() == *address) {
                    return Ok(());
                }
                let ips: Vec<String> = entry.ips.iter().map(IpAddr::to_string).collect();
                refused(format!(
                    "the stream comes from {address}, but pod {pod} has {}",
                    ips.join(", ")
                ))
            }
            Self::Pod { pod: proved, .. } if proved != pod => {
                refused(format!("the stream belongs to pod {proved}, not to {pod}"))
            }
            Self::Pod { uid: proved, .. }
                if !proved.is_empty() && !uid.is_empty() && proved != uid =>
            {
                refused(format!(
                    "the stream belongs to pod {pod} with the uid {proved}, not {uid}"
                ))
            }
            Self::Namespace(namespace) if **namespace != *pod.namespace => refused(format!(
                "the stream belongs to a pod in namespace {namespace}, not to {pod}"
            )),
            Self::Anyone | Self::Pod { .. } | Self::Namespace(_) => Ok(()),
        }
    }
}

fn unauthenticated(why: &str) -> Refusal {
    Refusal::Unauthenticated(why.to_owned())
}

#[cfg(test)]
mod tests {
    use aggregator_core::pod::{Labels, PodInfo};

    use super::*;
    use crate::tokens::{TokenReview, TokenReviews, TokenUser};

    fn directory() -> Directory {
        let directory = Directory::default();
        let key = PodKey::new("prod", "jazz-1");
        let ips = ["10.0.0.5", "fd00::5"].map(|ip| ip.parse().unwrap()).into();
        let info = PodInfo {
            ips,
            ..PodInfo::new(key, "u1".into(), Labels::default())
        };
        directory.upsert(info).unwrap();
        let ended = PodInfo {
            phase: Phase::Failed,
            ips: vec!["10.0.0.7".parse().unwrap()],
            ..PodInfo::new(
                PodKey::new("prod", "jazz-4"),
                "u4".into(),
                Labels::default(),
            )
        };
        directory.upsert(ended).unwrap();
        let nowhere = PodKey::new("prod", "jazz-2");
        let nowhere = PodInfo::new(nowhere, "u2".into(), Labels::default());
        directory.upsert(nowhere).unwrap();
        directory
    }

    fn claim(address: &str) -> Claim {
        let address: IpAddr = address.parse().unwrap();
        Claim::Address(address.to_canonical())
    }

    /// An address speaks for the pod that has it, in whatever form; what is not known yet may be
    /// asked again.
    #[test]
    fn an_address_is_its_pod() {
        let directory = directory();
        for (address, pod, uid, expected) in [
            ("10.0.0.5", "jazz-1", "u1", None),
            ("10.0.0.5", "jazz-1", "", None),
            ("::ffff:10.0.0.5", "jazz-1", "u1", None),
            ("fd00::5", "jazz-1", "u1", None),
            ("10.0.0.6", "jazz-1", "u1", Some("foreign_pod")),
            ("10.0.0.5", "jazz-1", "u0", Some("unknown_pod")),
            ("10.0.0.5", "jazz-2", "", Some("unknown_pod")),
            ("10.0.0.5", "jazz-3", "", Some("unknown_pod")),
            ("10.0.0.7", "jazz-4", "u4", Some("unknown_pod")),
        ] {
            let pod = PodKey::new("prod", pod);
            let outcome = claim(address).check(&pod, uid, &directory);
            let reason = outcome.err().map(|refusal| refusal.reason());
            assert_eq!(reason, expected, "{address} for {pod} {uid:?}");
        }
    }

    struct KnownPods;

    impl TokenReviews for KnownPods {
        fn review<'a>(&'a self, token: &'a str) -> TokenReview<'a> {
            let user = TokenUser {
                username: "system:serviceaccount:prod:jazz".to_owned(),
                pod: "jazz-1".to_owned(),
                pod_uid: "u1".to_owned(),
            };
            Box::pin(async move { Ok((token == "good").then_some(user)) })
        }
    }

    /// With the scheme as it should be, or without any; another scheme is none of ours.
    #[tokio::test]
    async fn a_token_may_come_without_a_scheme() {
        let tokens = Tokens::reviewed(Arc::new(KnownPods));
        for (value, good) in [
            ("Bearer good", true),
            ("bearer  good", true),
            ("good", true),
            ("Basic good", false),
            ("Bearer", false),
            ("bad", false),
            ("", false),
        ] {
            let mut metadata = MetadataMap::new();
            metadata.insert("authorization", value.parse().unwrap());
            let claim = by_token(&tokens, &metadata, &directory(), &Metrics::default()).await;
            assert_eq!(claim.is_ok(), good, "{value:?}");
        }
    }

    /// A proved pod speaks for itself, in its own life, and a namespace for its pods.
    #[test]
    fn a_proof_is_not_transferable() {
        let directory = directory();
        let pod = |name: &str, uid: &str| Claim::Pod {
            pod: PodKey::new("prod", name),
            uid: uid.to_owned(),
        };
        for (claim, namespace, allowed) in [
            (pod("jazz-1", "u1"), "prod", true),
            (pod("jazz-1", ""), "prod", true),
            (pod("jazz-1", "u9"), "prod", false),
            (pod("jazz-2", "u1"), "prod", false),
            (pod("jazz-1", "u1"), "test", false),
            (Claim::Namespace("prod".to_owned()), "prod", true),
            (Claim::Namespace("prod".to_owned()), "prod2", false),
            (Claim::Anyone, "prod", true),
        ] {
            let asked = PodKey::new(namespace, "jazz-1");
            let outcome = claim.check(&asked, "u1", &directory);
            assert_eq!(outcome.is_ok(), allowed, "{claim:?} for {asked}");
            if let Err(refusal) = outcome {
                assert_eq!(refusal.reason(), "foreign_pod");
            }
        }
    }
}
