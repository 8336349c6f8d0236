//! TLS of listeners and of calls, shown by traffic through real Envoys of both versions.
#![expect(clippy::unwrap_used, reason = "a test helper may panic")]

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use tests_mesh::sds::{Pem, SdsServer};
use tests_mesh::versions::Version;
use tests_mesh::{EGRESS, INGRESS, Mesh, Pod, on_each_version};
use tests_support::clock;
use tests_support::djapp::Behaviour;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const MANIFEST: &str = include_str!("tls.yaml");
const PATIENCE: Duration = Duration::from_secs(30);

on_each_version!(
    strict_takes_tls_alone,
    permissive_takes_both,
    mutual_takes_friends_alone,
    names_are_checked,
    secrets_come_by_sds,
);

/// A certificate authority.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// The mesh of `tls.yaml`, and its certificates in a folder.
struct World {
    mesh: Mesh,
    _certs: tempfile::TempDir,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { issuer, pem }
    }

    /// A certificate and its key; a name with `://` is a URI.
    fn issue(&self, name: &str) -> (String, String) {
        let mut params = if name.contains("://") {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            let uri = SanType::URI(name.try_into().unwrap());
            params.subject_alt_names.push(uri);
            params
        } else {
            CertificateParams::new(vec![name.to_owned()]).unwrap()
        };
        params.distinguished_name.push(DnType::CommonName, "test");
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    fn write(&self, folder: &Path, file: &str, name: &str) {
        let (certificate, key) = self.issue(name);
        fs::write(folder.join(format!("{file}.crt")), certificate).unwrap();
        fs::write(folder.join(format!("{file}.key")), key).unwrap();
    }
}

impl World {
    async fn start(version: Version) -> Self {
        let certs = tempfile::tempdir().unwrap();
        let (ca, other) = (Authority::new("ours"), Authority::new("theirs"));
        fs::write(certs.path().join("ca.crt"), &ca.pem).unwrap();
        for name in ["strict", "permissive", "mutual", "friend"] {
            ca.write(certs.path(), name, &format!("{name}.prod"));
        }
        other.write(certs.path(), "stranger", "friend.prod");
        let mut mesh = Mesh::start((1, 1)).await.unwrap();
        mesh.envoy = version.binary().unwrap();
        let folder = certs.path().display().to_string();
        let manifest = MANIFEST.replace("/CERTS", &folder);
        mesh.add("djapp.yaml", &manifest).unwrap();
        Self {
            mesh,
            _certs: certs,
        }
    }

    async fn pod(&mut self, name: &'static str) -> Pod {
        let behaviour = Behaviour::new(name);
        self.mesh.pod(name, behaviour, None).await.unwrap()
    }

    /// A caller, and the address for its requests.
    async fn caller(&mut self, name: &'static str) -> (Pod, SocketAddr) {
        let mut pod = self.pod(name).await;
        let egress = pod.envoy.wait_listener(EGRESS).await.unwrap();
        (pod, egress)
    }
}

/// Status of the answer to a request for this host; "" if the connection was closed.
async fn answer(address: SocketAddr, host: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut bytes = Vec::new();
    // A reset is a way to close.
    let _ = stream.read_to_end(&mut bytes).await;
    let text = String::from_utf8_lossy(&bytes);
    let status = text
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3));
    Ok(status.unwrap_or_default().to_owned())
}

/// Waits until requests for this host are answered so.
async fn is_answered(address: SocketAddr, host: &str, expected: &str) {
    let what = format!("{expected} for {host}");
    clock::wait_for(&what, PATIENCE, async || {
        Ok((answer(address, host).await? == expected).then_some(()))
    })
    .await
    .unwrap();
}

/// The sum of the pod's statistics whose names have these ends.
async fn counted(pod: &Pod, start: &str, end: &str) -> u64 {
    let stats = pod.envoy.stats().await.unwrap();
    let of = stats
        .iter()
        .filter(|(name, _)| name.starts_with(start) && name.ends_with(end));
    of.map(|(_, value)| value).sum()
}

async fn strict_takes_tls_alone(version: Version) {
    let mut world = World::start(version).await;
    let strict = world.pod("strict").await;
    // With a policy, and without one: the listener demands it.
    for name in ["caller", "open-caller"] {
        let (caller, egress) = world.caller(name).await;
        is_answered(egress, "strict.prod", "200").await;
        let cluster = "cluster.cds_egress_dj-app_strict_prod_http_9080.";
        assert!(counted(&caller, cluster, ".ssl.handshake").await > 0);
        assert!(counted(&caller, cluster, "health_check.success").await > 0);
        assert_eq!(counted(&caller, cluster, "health_check.failure").await, 0);
    }
    let served = strict.app.served();
    let ingress = strict.envoy.listener(INGRESS).unwrap();
    assert_eq!(answer(ingress, "strict.prod").await.unwrap(), "");
    assert!(counted(&strict, "listener.", "ssl.connection_error").await > 0);
    assert_eq!(strict.app.served(), served);
}

async fn permissive_takes_both(version: Version) {
    let mut world = World::start(version).await;
    let permissive = world.pod("permissive").await;
    let ingress = permissive.envoy.listener(INGRESS).unwrap();
    is_answered(ingress, "permissive.prod", "200").await;
    let cluster = "cluster.cds_egress_dj-app_permissive_prod_http_9080.";
    for (name, by_tls) in [("caller", true), ("open-caller", false)] {
        let (caller, egress) = world.caller(name).await;
        is_answered(egress, "permissive.prod", "200").await;
        let handshakes = counted(&caller, cluster, ".ssl.handshake").await;
        assert_eq!(handshakes > 0, by_tls, "{name}");
    }
    assert_eq!(
        permissive.counted_by_envoy().await.unwrap(),
        permissive.app.served()
    );
}

async fn mutual_takes_friends_alone(version: Version) {
    let mut world = World::start(version).await;
    let mutual = world.pod("mutual").await;
    let (_friend, egress) = world.caller("friend").await;
    is_answered(egress, "mutual.prod", "200").await;
    let served = mutual.app.served();
    // Without a certificate, with one of another name, and with one of another authority.
    for (name, counter) in [
        ("caller", "ssl.fail_verify_no_cert"),
        ("impostor", "ssl.fail_verify_san"),
        ("stranger", "ssl.fail_verify_error"),
    ] {
        let (_caller, egress) = world.caller(name).await;
        assert_eq!(counted(&mutual, "listener.", counter).await, 0);
        is_answered(egress, "mutual.prod", "503").await;
        assert_eq!(answer(egress, "mutual.prod").await.unwrap(), "503");
        assert!(counted(&mutual, "listener.", counter).await > 0, "{name}");
    }
    assert_eq!(mutual.app.served(), served);
}

async fn names_are_checked(version: Version) {
    let mut world = World::start(version).await;
    let (misnamed, strict) = (world.pod("misnamed").await, world.pod("strict").await);
    // The name of service discovery, which the certificate has not.
    let (caller, egress) = world.caller("caller").await;
    is_answered(egress, "strict.prod", "200").await;
    is_answered(egress, "misnamed.prod", "503").await;
    let cluster = "cluster.cds_egress_dj-app_misnamed_prod_http_9080.";
    assert!(counted(&caller, cluster, "ssl.fail_verify_san").await > 0);
    assert_eq!(misnamed.app.served(), 0);
    // The names of the backend's own policy.
    let (friend, egress) = world.caller("friend").await;
    let served = strict.counted_by_envoy().await.unwrap();
    is_answered(egress, "strict.prod", "503").await;
    let cluster = "cluster.cds_egress_dj-app_strict_prod_http_9080_strict_prod.";
    assert!(counted(&friend, cluster, "ssl.fail_verify_san").await > 0);
    assert!(served > 0);
}

async fn secrets_come_by_sds(version: Version) {
    let mut world = World::start(version).await;
    let folder = tempfile::tempdir().unwrap();
    let ca = Authority::new("spire");
    let certificate = |name: &str| {
        let (chain, key) = ca.issue(name);
        (name.to_owned(), Pem::Certificate { chain, key })
    };
    let secrets = BTreeMap::from([
        certificate("spiffe://prod/spire"),
        certificate("spiffe://prod/spire-caller"),
        ("spiffe://prod".to_owned(), Pem::Authority(ca.pem.clone())),
    ]);
    let sds = SdsServer::start(&folder.path().join("agent.sock"), secrets).unwrap();
    world.mesh.sds = Some(sds.socket.clone());
    let spire = world.pod("spire").await;
    let (caller, egress) = world.caller("spire-caller").await;
    is_answered(egress, "spire.prod", "200").await;
    let cluster = "cluster.cds_egress_dj-app_spire_prod_http_9080.";
    assert!(counted(&caller, cluster, ".ssl.handshake").await > 0);
    let ingress = spire.envoy.listener(INGRESS).unwrap();
    assert_eq!(answer(ingress, "spire.prod").await.unwrap(), "");
}
