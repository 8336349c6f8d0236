//! Sidecars over TLS: a certificate by a CA of our own, tokens, certificates of workloads, and what
//! is refused.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use anyhow::Result;
use http::Uri;
use hyper_util::rt::TokioIo;
use proto::v1::ingest_client::IngestClient;
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use tests_support::clock::wait_for;
use tests_support::kubernetes::ca::certificates;
use tests_support::kubernetes::objects::{CONFIG_MAP, POD};
use tests_support::kubernetes::{ApiServer, CertificateAuthority, Identity, KnownUser};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::control_plane::{Cluster, PATIENCE};
use crate::sidecar::{Sidecar, inbound};

const REPLICA: &str = "meshmeter-0.meshmeter-ingest.meshmeter.svc.cluster.local";

/// How a sidecar connects: whom it trusts, by which name, and what it shows.
#[derive(Clone)]
pub(crate) struct Way {
    address: SocketAddr,
    ca: String,
    name: String,
    identity: Option<Identity>,
}

struct Connector(Way);

// === impl Way ===

impl Way {
    /// By TLS with whoever trusts the `ConfigMap`'s CA.
    pub(crate) fn self_managed(cluster: &Cluster) -> Self {
        let objects = cluster.server.objects();
        let map = objects.get(CONFIG_MAP, "meshmeter", "meshmeter-ca");
        let map = map.unwrap();
        Self {
            address: cluster.addresses.ingest,
            ca: map["data"]["ca.crt"].as_str().unwrap().to_owned(),
            name: REPLICA.to_owned(),
            identity: None,
        }
    }

    async fn connect(&self) -> Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.ca)? {
            roots.add(certificate)?;
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let mut config = match &self.identity {
            Some(identity) => {
                let (chain, key) = identity.to_rustls()?;
                config.with_client_auth_cert(chain, key)?
            }
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        let stream = TcpStream::connect(self.address).await?;
        let name = ServerName::try_from(self.name.clone())?;
        let connector = TlsConnector::from(Arc::new(config));
        Ok(connector.connect(name, stream).await?)
    }

    async fn channel(&self) -> Result<Channel> {
        let endpoint = Endpoint::from_static("http://aggregator");
        let connector = Connector(self.clone());
        Ok(endpoint.connect_with_connector(connector).await?)
    }

    /// A stream of the pod, or why there is none; a handshake that failed is `UNAVAILABLE`.
    pub(crate) async fn stream(&self, token: Option<&str>, pod: &str) -> Result<Sidecar, Status> {
        let channel = self.channel().await;
        let channel = channel.map_err(|error| Status::unavailable(format!("{error:#}")))?;
        Sidecar::over(IngestClient::new(channel), token, "demo", pod, "llm").await
    }
}

impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = anyhow::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let way = self.0.clone();
        Box::pin(async move { Ok(TokioIo::new(way.connect().await?)) })
    }
}

pub(crate) fn code(outcome: Result<Sidecar, Status>) -> Option<Code> {
    outcome.err().map(|status| status.code())
}

pub(crate) async fn server() -> ApiServer {
    let server = ApiServer::start().await.unwrap();
    let metadata =
        json!({"namespace": "demo", "name": "llm-1", "uid": "uid-llm-1", "labels": {"app": "llm"}});
    let status = json!({"phase": "Running", "podIP": "127.0.0.1"});
    server
        .objects()
        .apply(POD, json!({"metadata": metadata, "status": status}));
    add_token(&server, "good", "llm-1");
    server
}

/// `token` becomes that of the pod.
pub(crate) fn add_token(server: &ApiServer, token: &str, pod: &str) {
    let extra = [
        ("pod-name", pod.to_owned()),
        ("pod-uid", format!("uid-{pod}")),
    ];
    let extra = extra.map(|(key, value)| {
        let key = format!("authentication.kubernetes.io/{key}");
        (key, vec![value])
    });
    let user = KnownUser {
        username: "system:serviceaccount:demo:llm".to_owned(),
        extra: BTreeMap::from(extra),
        audiences: vec!["meshmeter".to_owned()],
        ..KnownUser::default()
    };
    server.add_token(token, user);
}

fn write(directory: &Path, name: &str, text: &str) -> String {
    let file = directory.join(name);
    std::fs::write(&file, text).unwrap();
    file.display().to_string()
}

/// With nothing but two flags: whoever trusts the `ConfigMap`'s CA verifies each replica by its
/// name, tokens are reviewed and told apart by what became of them, and a handshake that fails is
/// counted.
#[tokio::test(flavor = "multi_thread")]
async fn is_self_managed() {
    let flags = [
        "--ingest-tls=self-managed",
        "--ingest-identity=token",
        "--ingest-token-verification=review",
    ];
    let cluster = Cluster::with(server().await, &flags).await;
    let way = Way::self_managed(&cluster);
    let named = |name: &str| Way {
        name: name.to_owned(),
        ..way.clone()
    };
    for name in [
        "meshmeter-1.meshmeter-ingest.meshmeter.svc",
        "meshmeter-ingest.meshmeter.svc",
        "meshmeter-ingest",
    ] {
        assert!(named(name).connect().await.is_ok(), "{name}");
    }
    for name in [
        "meshmeter-0.other.meshmeter.svc",
        "meshmeter-api.meshmeter.svc",
    ] {
        assert!(named(name).connect().await.is_err(), "{name}");
    }
    let stranger = Way {
        ca: CertificateAuthority::new("stranger").unwrap().pem,
        ..way.clone()
    };
    assert!(stranger.connect().await.is_err());
    let mut plain = TcpStream::connect(cluster.addresses.ingest).await.unwrap();
    plain.write_all(b"PRI * HTTP/2.0\r\n\r\n").await.unwrap();
    // Two names and a CA that did not fit, and one who spoke no TLS.
    let failed = wait_for("four failures", PATIENCE, async || {
        let metrics = cluster.metrics().await;
        let of_ingest = "meshmeter_handshakes_failed_total{listener=\"ingest\"";
        let counts = metrics.lines().filter(|line| line.starts_with(of_ingest));
        let counts = counts.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok());
        Ok((counts.sum::<u64>() == 4).then_some(()))
    });
    failed.await.unwrap();

    let mut sidecar = way.stream(Some("good"), "llm-1").await.unwrap();
    sidecar.report(vec![inbound(10, 10)]).await;
    for (token, pod, expected) in [
        (Some("bad"), "llm-1", Code::Unauthenticated),
        (None, "llm-1", Code::Unauthenticated),
        (Some("good"), "llm-2", Code::PermissionDenied),
    ] {
        assert_eq!(code(way.stream(token, pod).await), Some(expected));
    }
    for (outcome, count) in [("verified", 2), ("invalid", 1)] {
        let labels = format!("method=\"review\",outcome=\"{outcome}\"");
        let line = format!("meshmeter_ingest_tokens_total{{{labels}}} {count}");
        wait_metric(&cluster, &line).await;
    }
    let metrics = cluster.metrics().await;
    assert!(metrics.contains("meshmeter_ingest_certificate_expiry_timestamp_seconds "));
    drop(sidecar);
    cluster.stop().await;
}

/// The `ConfigMap` is put right again, and nothing else in it is touched.
#[tokio::test(flavor = "multi_thread")]
async fn another_ca_in_the_config_map_is_replaced() {
    let server = server().await;
    let metadata = json!({"namespace": "meshmeter", "name": "meshmeter-ca", "labels": {"a": "b"}});
    let data = json!({"ca.crt": "old", "more": "kept"});
    server
        .objects()
        .apply(CONFIG_MAP, json!({"metadata": metadata, "data": data}));
    let cluster = Cluster::with(server, &["--ingest-tls=self-managed"]).await;
    let map = cluster
        .server
        .objects()
        .get(CONFIG_MAP, "meshmeter", "meshmeter-ca");
    let map = map.unwrap();
    assert_eq!(map["data"]["more"], "kept");
    assert_eq!(map["metadata"]["labels"]["a"], "b");
    let ca = map["data"]["ca.crt"].as_str().unwrap();
    assert!(ca.starts_with("-----BEGIN CERTIFICATE"));
    cluster.stop().await;
}

/// A workload's certificate speaks for its namespace, if it is of a CA in the file as it is by now.
#[tokio::test(flavor = "multi_thread")]
async fn workloads_show_certificates() {
    let directory = tempfile::tempdir().unwrap();
    let company = CertificateAuthority::new("company").unwrap();
    let issued = company.server(&[REPLICA]).unwrap();
    let [old, new] = ["old", "new"].map(|name| CertificateAuthority::new(name).unwrap());
    let certificate = write(directory.path(), "tls.crt", &issued.certificate);
    let key = write(directory.path(), "tls.key", &issued.key);
    let cas = write(directory.path(), "clients.pem", &old.pem);
    let flags = [
        "--ingest-identity=mtls",
        "--ingest-cert-file",
        &certificate,
        "--ingest-key-file",
        &key,
        "--ingest-client-ca-file",
        &cas,
    ];
    let cluster = Cluster::with(server().await, &flags).await;
    let way = |ca: &CertificateAuthority, namespace: &str| Way {
        address: cluster.addresses.ingest,
        ca: company.pem.clone(),
        name: REPLICA.to_owned(),
        identity: Some(
            ca.workload(&format!("spiffe://cluster.local/ns/{namespace}/sa/llm"))
                .unwrap(),
        ),
    };
    let nobody = Way {
        identity: None,
        ..way(&old, "demo")
    };
    let mut sidecar = way(&old, "demo").stream(None, "llm-1").await.unwrap();
    sidecar.report(vec![inbound(10, 10)]).await;
    let foreign = way(&old, "other").stream(None, "llm-1").await;
    assert_eq!(code(foreign), Some(Code::PermissionDenied));
    assert!(nobody.stream(None, "llm-1").await.is_err());
    assert!(way(&new, "demo").stream(None, "llm-1").await.is_err());
    write(directory.path(), "clients.pem", &new.pem);
    let taken = wait_for("the new CA", PATIENCE, async || {
        Ok(way(&new, "demo").stream(None, "llm-1").await.ok())
    });
    drop(taken.await.unwrap());
    assert!(way(&old, "demo").stream(None, "llm-1").await.is_err());
    drop(sidecar);
    cluster.stop().await;
}

pub(crate) async fn wait_metric(cluster: &Cluster, line: &str) {
    let counted = wait_for(line, PATIENCE, async || {
        let metrics = cluster.metrics().await;
        Ok(metrics.lines().any(|held| held == line).then_some(()))
    });
    if let Err(error) = counted.await {
        panic!("{error:#}\n{}", cluster.metrics().await);
    }
}
