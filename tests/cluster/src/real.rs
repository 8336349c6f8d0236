//! A real Kubernetes control plane on loopback: etcd, kube-apiserver and kube-controller-manager
//! from a directory, as envtest has them. There is no kubelet and no scheduler: pods get their
//! status from the test.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tests_support::clock::wait_for;
use tests_support::kubernetes::{CertificateAuthority, Identity};
use tests_support::process::Process;
use tokio::process::Command;

use crate::rest::{NAMESPACE, Rest};

/// Longest time until the API server answers: it makes its own objects first.
const START_MAX: Duration = Duration::from_mins(2);

/// The running processes, ended in reverse order when dropped.
#[derive(Debug)]
pub struct Real {
    _controller_manager: Process,
    _api_server: Process,
    _etcd: Process,
    kubectl: Option<PathBuf>,
    kubeconfig: PathBuf,
}

/// The files of one control plane.
struct Files<'a> {
    directory: &'a Path,
}

// === impl Real ===

impl Real {
    pub(crate) async fn start(assets: &Path, directory: &Path, kubeconfig: &Path) -> Result<Self> {
        let files = Files { directory };
        let [etcd_client, etcd_peer, api, manager] = free_ports()?;
        let etcd_url = format!("http://127.0.0.1:{etcd_client}");
        let mut etcd = files.spawn(
            assets,
            "etcd",
            &[
                ("data-dir", files.path("etcd")),
                ("listen-client-urls", etcd_url.clone()),
                ("advertise-client-urls", etcd_url.clone()),
                ("listen-peer-urls", format!("http://127.0.0.1:{etcd_peer}")),
                ("unsafe-no-fsync", "true".to_owned()),
            ],
        )?;
        files.write_credentials(kubeconfig, api)?;
        let mut api_server =
            files.spawn(assets, "kube-apiserver", &files.api_server(&etcd_url, api))?;
        let rest = Rest::new(kubeconfig).await?;
        let answers = wait_for("kube-apiserver", START_MAX, async || {
            etcd.check_running()?;
            api_server.check_running()?;
            // The namespace that it makes last of all that is needed here.
            Ok(rest.get("/api/v1/namespaces/kube-system").await.ok())
        });
        answers
            .await
            .context("the log of kube-apiserver tells more")?;
        let manager = files.spawn(
            assets,
            "kube-controller-manager",
            &[
                ("kubeconfig", kubeconfig.display().to_string()),
                (
                    "authentication-kubeconfig",
                    kubeconfig.display().to_string(),
                ),
                ("authorization-kubeconfig", kubeconfig.display().to_string()),
                ("bind-address", "127.0.0.1".to_owned()),
                ("secure-port", manager.to_string()),
                ("cert-dir", files.path("controller-manager")),
                ("leader-elect", "false".to_owned()),
                ("use-service-account-credentials", "true".to_owned()),
                ("service-account-private-key-file", files.path("sa.key")),
                ("root-ca-file", files.path("ca.pem")),
                ("horizontal-pod-autoscaler-sync-period", "1s".to_owned()),
                (
                    "horizontal-pod-autoscaler-downscale-stabilization",
                    "10s".to_owned(),
                ),
            ],
        )?;
        let own = assets.join("kubectl");
        Ok(Self {
            _controller_manager: manager,
            _api_server: api_server,
            _etcd: etcd,
            kubectl: own.exists().then_some(own),
            kubeconfig: kubeconfig.to_owned(),
        })
    }

    /// What `kubectl describe hpa` prints; `None` without a kubectl of this version, since older
    /// ones leave out what matters here.
    pub(crate) async fn describe(&self, name: &str) -> Result<Option<String>> {
        let Some(kubectl) = &self.kubectl else {
            return Ok(None);
        };
        let output = Command::new(kubectl)
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args(["--namespace", NAMESPACE, "describe", "hpa", name])
            .kill_on_drop(true)
            .output()
            .await
            .context("kubectl describe hpa")?;
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "kubectl describe hpa: {error}");
        Ok(Some(String::from_utf8_lossy(&output.stdout).into_owned()))
    }
}

// === impl Files ===

impl Files<'_> {
    fn path(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }

    fn spawn(&self, assets: &Path, name: &str, flags: &[(&str, String)]) -> Result<Process> {
        let binary = assets.join(name);
        ensure!(
            binary.exists(),
            "{} has no {name}: KUBEBUILDER_ASSETS needs kube-apiserver, etcd and kube-controller-manager",
            assets.display()
        );
        let flags: Vec<String> = flags
            .iter()
            .map(|(flag, value)| format!("--{flag}={value}"))
            .collect();
        let log = self.directory.join(format!("{name}.log"));
        Process::spawn(&binary, &flags, &[], &log)
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        fs::write(self.directory.join(name), text).with_context(|| format!("write {name}"))
    }

    fn write_identity(&self, name: &str, identity: &Identity) -> Result<()> {
        self.write(&format!("{name}.pem"), &identity.certificate)?;
        self.write(&format!("{name}.key"), &identity.key)
    }

    /// The CAs, everyone's certificates, and the administrator's kubeconfig.
    fn write_credentials(&self, kubeconfig: &Path, port: u16) -> Result<()> {
        let cluster = CertificateAuthority::new("test-cluster-ca")?;
        let proxies = CertificateAuthority::new("test-front-proxy-ca")?;
        self.write("ca.pem", &cluster.pem)?;
        self.write("front-proxy-ca.pem", &proxies.pem)?;
        let names = ["127.0.0.1", "localhost", "kubernetes.default.svc"];
        self.write_identity("apiserver", &cluster.server(&names)?)?;
        self.write_identity("admin", &cluster.client("admin", &["system:masters"])?)?;
        self.write_identity("front-proxy", &proxies.client("front-proxy-client", &[])?)?;
        // Tokens of service accounts are signed with its key and verified by its certificate: of
        // keys of this kind, kube-apiserver takes no other form for both.
        self.write_identity("sa", &cluster.client("service-accounts", &[])?)?;
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {
                "server": format!("https://127.0.0.1:{port}"),
                "certificate-authority": self.path("ca.pem"),
            }}],
            "users": [{"name": "admin", "user": {
                "client-certificate": self.path("admin.pem"),
                "client-key": self.path("admin.key"),
            }}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
        });
        fs::write(kubeconfig, config.to_string()).context("write the kubeconfig")
    }

    fn api_server(&self, etcd: &str, port: u16) -> Vec<(&'static str, String)> {
        let fixed = [
            ("bind-address", "127.0.0.1"),
            ("advertise-address", "127.0.0.1"),
            ("authorization-mode", "RBAC"),
            ("service-cluster-ip-range", "10.96.0.0/24"),
            ("service-account-issuer", "https://kubernetes.default.svc"),
            // Pods would need tokens that nobody mounts.
            ("disable-admission-plugins", "ServiceAccount"),
            ("requestheader-allowed-names", "front-proxy-client"),
            ("requestheader-username-headers", "X-Remote-User"),
            ("requestheader-group-headers", "X-Remote-Group"),
            ("requestheader-extra-headers-prefix", "X-Remote-Extra-"),
            // The service leads here by a name: endpoints must not be on loopback.
            ("enable-aggregator-routing", "false"),
        ];
        let files = [
            ("cert-dir", "apiserver-certs"),
            ("tls-cert-file", "apiserver.pem"),
            ("tls-private-key-file", "apiserver.key"),
            ("client-ca-file", "ca.pem"),
            ("requestheader-client-ca-file", "front-proxy-ca.pem"),
            ("proxy-client-cert-file", "front-proxy.pem"),
            ("proxy-client-key-file", "front-proxy.key"),
            ("service-account-key-file", "sa.pem"),
            ("service-account-signing-key-file", "sa.key"),
        ];
        let fixed = fixed
            .into_iter()
            .map(|(flag, value)| (flag, value.to_owned()));
        let files = files
            .into_iter()
            .map(|(flag, name)| (flag, self.path(name)));
        let own = [
            ("etcd-servers", etcd.to_owned()),
            ("secure-port", port.to_string()),
        ];
        fixed.chain(files).chain(own).collect()
    }
}

/// Ports that are free now; the processes cannot be given open sockets.
fn free_ports() -> Result<[u16; 4]> {
    let bind = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("find a free port");
    let held = [bind()?, bind()?, bind()?, bind()?];
    let mut ports = [0; 4];
    for (port, listener) in ports.iter_mut().zip(&held) {
        *port = listener.local_addr().context("read the port")?.port();
    }
    Ok(ports)
}
