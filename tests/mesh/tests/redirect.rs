//! Redirected traffic as in a pod: two network namespaces, iptables, a stock Envoy and the control
//! plane.
//!
//! Needs root, `ip`, `iptables`, `setpriv` and `curl`; without them it says `SKIPPED`. All ports
//! are those of a pod, in namespaces of their own.
#![expect(clippy::unwrap_used, reason = "a test helper may panic")]

use std::fs;
use std::path::Path;
use std::process::{self, Command, Stdio};
use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;
use tests_mesh::manifests;
use tests_support::process::Process;
use tests_support::{artifacts, clock, skipped};

const PATIENCE: Duration = Duration::from_secs(30);
/// Hosts outside: one that nobody in the mesh knows, and one that is jazz.
const STRANGER: &str = "10.77.0.1";
const JAZZ: &str = "10.77.0.3";
/// The user whose connections are redirected.
const APPLICATION: &str = "65534";

/// A pod and what is outside of it.
struct Network {
    pod: String,
    outside: String,
}

// === impl Network ===

impl Network {
    fn new() -> Result<Self> {
        let id = process::id();
        let network = Self {
            pod: format!("meshmeter-{id}-pod"),
            outside: format!("meshmeter-{id}-out"),
        };
        let Self { pod, outside } = &network;
        let (inner, outer) = (format!("mm{id}a"), format!("mm{id}b"));
        for line in [
            format!("netns add {pod}"),
            format!("netns add {outside}"),
            format!("link add {inner} netns {pod} type veth peer name {outer} netns {outside}"),
            format!("-n {pod} addr add 10.77.0.2/24 dev {inner}"),
            format!("-n {outside} addr add {STRANGER}/24 dev {outer}"),
            format!("-n {outside} addr add {JAZZ}/24 dev {outer}"),
            format!("-n {pod} link set lo up"),
            format!("-n {pod} link set {inner} up"),
            format!("-n {outside} link set {outer} up"),
            format!(
                "netns exec {pod} iptables -t nat -A OUTPUT -p tcp -m addrtype ! --dst-type LOCAL -m owner --uid-owner {APPLICATION} -j REDIRECT --to-ports 15001"
            ),
        ] {
            let done = Command::new("ip").args(line.split(' ')).output()?;
            let error = String::from_utf8_lossy(&done.stderr).into_owned();
            ensure!(done.status.success(), "ip {line}: {error}");
        }
        Ok(network)
    }

    /// Status and body of a request from the pod by this user; 0 if there was no answer.
    fn get(&self, user: &str, arguments: &[&str]) -> (u16, String) {
        let mut command = Command::new("ip");
        command.args([
            "netns",
            "exec",
            &self.pod,
            "setpriv",
            "--reuid",
            user,
            "--clear-groups",
        ]);
        command.args(["curl", "-sk", "-m", "5", "-w", "\n%{http_code}"]);
        let output = command.args(arguments).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, status) = text.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), body.to_owned())
    }

    fn call(&self, arguments: &[&str]) -> (u16, String) {
        self.get(APPLICATION, arguments)
    }

    /// A page of the sidecar's own.
    fn admin(&self, path: &str) -> String {
        self.get("0", &[&format!("http://127.0.0.1:9901{path}")]).1
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for namespace in [&self.pod, &self.outside] {
            let _ = Command::new("ip")
                .args(["netns", "del", namespace])
                .status();
        }
    }
}

fn spawn(namespace: &str, program: &Path, arguments: &[&str], log: &Path) -> Process {
    let program = program.display().to_string();
    let head = ["netns", "exec", namespace, &program];
    let all: Vec<_> = head
        .iter()
        .chain(arguments)
        .map(ToString::to_string)
        .collect();
    let ip = artifacts::on_path("ip").unwrap();
    Process::spawn(&ip, &all, &[], log).unwrap()
}

fn can_redirect() -> bool {
    let there = ["ip", "iptables", "setpriv", "curl"];
    let tools = there.iter().all(|tool| artifacts::on_path(tool).is_some());
    let id = Command::new("id").arg("-u").stderr(Stdio::null()).output();
    tools && id.is_ok_and(|id| id.stdout == b"0\n")
}

/// Answers with its address on some ports.
fn outside() -> Value {
    let listener = |address: &str, port: u16| {
        let answer = format!("{address}:{port}");
        let route = json!({"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": answer}}});
        let hosts =
            json!({"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]});
        let router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
        let manager = json!({
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "outside",
            "route_config": hosts,
            "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {"@type": router}}],
        });
        let filter = json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": manager});
        json!({
            "name": format!("{address}:{port}"),
            "address": {"socket_address": {"address": address, "port_value": port}},
            "filter_chains": [{"filters": [filter]}],
        })
    };
    let listeners = [
        (STRANGER, 9080),
        (STRANGER, 8000),
        (STRANGER, 443),
        (JAZZ, 9080),
    ];
    let listeners = listeners.map(|(address, port)| listener(address, port));
    json!({"static_resources": {"listeners": listeners}})
}

/// The sidecar's bootstrap: nothing of ours but where the control plane is.
fn sidecar() -> Value {
    let http2 = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let options = json!({"@type": format!("type.googleapis.com/{http2}"), "explicit_http_config": {"http2_protocol_options": {}}});
    let control_plane = json!({"socket_address": {"address": "127.0.0.1", "port_value": 18000}});
    let endpoints = json!([{"lb_endpoints": [{"endpoint": {"address": control_plane}}]}]);
    let ads = json!({"ads": {}, "resource_api_version": "V3"});
    json!({
        "node": {"id": "mesh/dj-app/virtualNode/dj_prod", "cluster": "dj"},
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 9901}}},
        "dynamic_resources": {
            "ads_config": {"api_type": "GRPC", "transport_api_version": "V3", "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}]},
            "lds_config": ads,
            "cds_config": ads,
        },
        "static_resources": {"clusters": [{
            "name": "xds",
            "type": "STATIC",
            "connect_timeout": "1s",
            "typed_extension_protocol_options": {http2: options},
            "load_assignment": {"cluster_name": "xds", "endpoints": endpoints},
        }]},
    })
}

/// A pod reaches the mesh by name whatever its addresses are, and of the rest of the world what the
/// mesh allows.
#[tokio::test]
async fn a_pod_reaches_what_its_mesh_allows() {
    if !can_redirect() {
        skipped::say("redirection", "needs root, ip, iptables, setpriv and curl");
        return;
    }
    let network = Network::new().unwrap();
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name);
    let text = |path: &Path| path.display().to_string();
    fs::create_dir(path("manifests")).unwrap();
    let closed = manifests::djapp((1, 0));
    let open = closed.replacen("spec:\n", "spec:\n  egressFilter: {type: ALLOW_ALL}\n", 1);
    fs::write(path("manifests/djapp.yaml"), open).unwrap();
    let jazz = json!([format!("{JAZZ}:9080")]);
    let endpoints = json!({"prod/jazz-v1": jazz, "prod/jazz-v2": jazz, "prod/metal-v1": [], "prod/metal-v2": []});
    fs::write(path("endpoints.yaml"), endpoints.to_string()).unwrap();
    fs::write(path("outside.json"), outside().to_string()).unwrap();
    fs::write(path("sidecar.json"), sidecar().to_string()).unwrap();
    let (envoy, mesh) = (artifacts::envoy().unwrap(), artifacts::mesh().unwrap());
    let envoy_of = |namespace: &str, file: &str| {
        let file = text(&path(file));
        let arguments = ["-c", &file, "--disable-hot-restart", "--concurrency", "1"];
        spawn(namespace, &envoy, &arguments, &path("envoy.log"))
    };
    let manifests = format!("--manifests={}", text(&path("manifests")));
    let addresses = format!("--endpoints-file={}", text(&path("endpoints.yaml")));
    let arguments = ["control-plane", &manifests, &addresses];
    let _control_plane = spawn(&network.pod, &mesh, &arguments, &path("control-plane.log"));
    let _outside = envoy_of(&network.outside, "outside.json");
    let _sidecar = envoy_of(&network.pod, "sidecar.json");
    let to_jazz = [
        "-H",
        "Host: jazz.prod.svc.cluster.local",
        &format!("http://{STRANGER}:9080/"),
    ];
    clock::wait_for("the sidecar", PATIENCE, async || {
        Ok((network.call(&to_jazz).0 == 200).then_some(()))
    })
    .await
    .unwrap();

    assert_eq!(network.call(&to_jazz).1, format!("{JAZZ}:9080"));
    for port in [9080, 8000, 443] {
        let host = format!("{STRANGER}:{port}");
        assert_eq!(network.call(&[&format!("http://{host}/")]), (200, host));
    }
    fs::write(path("manifests/djapp.yaml"), closed).unwrap();
    clock::wait_for("the way out to be closed", PATIENCE, async || {
        Ok((!network.admin("/clusters").contains("mesh-allow-all::")).then_some(()))
    })
    .await
    .unwrap();
    assert_eq!(network.call(&to_jazz).1, format!("{JAZZ}:9080"));
    let status = |port: u16| network.call(&[&format!("http://{STRANGER}:{port}/")]).0;
    assert_eq!([status(9080), status(8000), status(443)], [404, 0, 0]);
    // Nobody there speaks TLS: what counts is who is let through to them.
    for name in ["example.org", "s3.amazonaws.com"] {
        let resolve = format!("{name}:443:{STRANGER}");
        network.call(&["--resolve", &resolve, &format!("https://{name}/")]);
    }
    let page = network.admin("/stats");
    let amazon = "cluster.cds_egress_dj-app_amazonaws.upstream_cx_total: 1";
    assert!(page.lines().any(|line| line == amazon), "{page}");
}
