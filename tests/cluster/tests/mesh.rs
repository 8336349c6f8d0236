//! Control plane and injector in a real Kubernetes control plane, each by the service account and
//! the roles of the chart: custom resources are served and said so in their status, and
//! kube-apiserver admits pods as the webhook makes them. Only where `KUBEBUILDER_ASSETS` has the
//! binaries.

#![expect(clippy::unwrap_used, reason = "in a test any surprise is a failure")]

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tests_cluster::plane::NO_ASSETS;
use tests_cluster::rest::{NAMESPACE, Rest, pods};
use tests_cluster::{Plane, objects};
use tests_deploy::helm::chart;
use tests_deploy::pods::{arguments, variables};
use tests_deploy::{find, list, text};
use tests_manifests::{Object, documents};
use tests_support::process::Process;
use tests_support::{artifacts, clock, http, skipped};

const PATIENCE: Duration = Duration::from_mins(1);
/// The webhook as it is where it fails open: it is asked for every pod.
const VALUES: &str = "appMesh: {crds: true, injectEnvoy: true, failurePolicy: Ignore}";
const DJAPP: &str = include_str!("../../mesh/djapp.yaml");
const APP_MESH: &str = "/apis/appmesh.k8s.aws/v1beta2";

/// A program as in its container, but that it listens on loopback.
struct Program {
    process: Process,
    addresses: Value,
}

/// The control plane, with what the chart installs besides programs.
struct Cluster {
    plane: Plane,
    chart: Vec<Object>,
    folder: TempDir,
}

// === impl Cluster ===

impl Cluster {
    async fn new(plane: Plane) -> Self {
        let chart = chart(VALUES).unwrap();
        let rest = plane.rest();
        for object in &chart {
            let rbac = "/apis/rbac.authorization.k8s.io/v1";
            let path = match (object.kind.as_str(), &object.namespace) {
                ("ServiceAccount", Some(namespace)) => {
                    format!("/api/v1/namespaces/{namespace}/serviceaccounts")
                }
                ("Role", Some(namespace)) => format!("{rbac}/namespaces/{namespace}/roles"),
                ("RoleBinding", Some(namespace)) => {
                    format!("{rbac}/namespaces/{namespace}/rolebindings")
                }
                ("ClusterRole", _) => format!("{rbac}/clusterroles"),
                ("CustomResourceDefinition", _) => {
                    "/apis/apiextensions.k8s.io/v1/customresourcedefinitions".to_owned()
                }
                ("ClusterRoleBinding", _) => format!("{rbac}/clusterrolebindings"),
                _ => continue,
            };
            rest.create(&path, &object.value).await.unwrap();
        }
        let labels = json!({"mesh": "dj-app", "meshmeter.io/inject": "enabled"});
        let labels = json!({"metadata": {"labels": labels}});
        let namespace = format!("/api/v1/namespaces/{NAMESPACE}");
        rest.patch(&namespace, &labels).await.unwrap();
        Self {
            plane,
            chart,
            folder: TempDir::new().unwrap(),
        }
    }

    fn rest(&self) -> &Rest {
        self.plane.rest()
    }

    /// A way to the cluster with a token of the service account `name`.
    async fn kubeconfig(&self, name: &str) -> PathBuf {
        let path = format!("/api/v1/namespaces/meshmeter/serviceaccounts/{name}/token");
        let request =
            json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}});
        let answer = self.rest().create(&path, &request).await.unwrap();
        let config = fs::read_to_string(self.plane.kubeconfig()).unwrap();
        let mut config: Value = serde_json::from_str(&config).unwrap();
        config["users"][0]["user"] = json!({"token": answer["status"]["token"]});
        let file = self.folder.path().join(name);
        fs::write(&file, config.to_string()).unwrap();
        file
    }

    /// Runs the first container of the Deployment `name`.
    async fn run(&self, name: &str) -> Program {
        let deployment = find(&self.chart, "Deployment", name).unwrap();
        let container = &deployment.value["spec"]["template"]["spec"]["containers"][0];
        let addresses = self.folder.path().join(format!("{name}.json"));
        let mut arguments = arguments(container);
        let kubeconfig = self.kubeconfig(name).await;
        arguments.push(format!("--kubeconfig={}", kubeconfig.display()));
        arguments.push(format!("--addresses-file={}", addresses.display()));
        let variables = variables(container, &self.chart).unwrap();
        let variables: Vec<(String, String)> = variables.into_iter().collect();
        let log = self.folder.path().join(format!("{name}.log"));
        let program = artifacts::mesh().unwrap();
        let mut process = Process::spawn(&program, &arguments, &variables, &log).unwrap();
        let listens = clock::wait_for("the addresses", PATIENCE, async || {
            process.check_running()?;
            let text = fs::read(&addresses).ok();
            Ok(text.and_then(|text| serde_json::from_slice(&text).ok()))
        });
        let addresses = listens.await.unwrap();
        Program { process, addresses }
    }

    async fn apply(&self, manifest: &Value) {
        let kind = text(&manifest["kind"]);
        let known = objects::APP_MESH.into_iter();
        let (plural, ..) = known
            .into_iter()
            .find(|(_, known, _)| *known == kind)
            .unwrap();
        let path = match manifest["metadata"]["namespace"].as_str() {
            Some(namespace) => format!("{APP_MESH}/namespaces/{namespace}/{plural}"),
            None => format!("{APP_MESH}/{plural}"),
        };
        self.rest().create(&path, manifest).await.unwrap();
    }

    /// Waits until the status of `path` has a condition of that status and reason.
    async fn is_said(&self, program: &Program, path: &str, status: &str, reason: &str) {
        let said = clock::wait_for(path, PATIENCE, async || {
            let object = self.rest().get(&format!("{APP_MESH}/{path}")).await?;
            let condition = &object["status"]["conditions"][0];
            let said = condition["status"] == status && condition["reason"] == reason;
            Ok(said.then_some(()))
        });
        if let Err(error) = said.await {
            panic!("{error:#}\n{}", program.process.log_tail());
        }
    }

    /// Waits for an Event with that reason about that kind of object.
    async fn is_raised(&self, program: &Program, kind: &str, reason: &str) {
        let path = format!("/api/v1/namespaces/{NAMESPACE}/events");
        let raised = clock::wait_for(reason, PATIENCE, async || {
            let events = self.rest().list(&path).await?;
            let found = events
                .iter()
                .any(|event| event["reason"] == reason && event["involvedObject"]["kind"] == kind);
            Ok(found.then_some(()))
        });
        if let Err(error) = raised.await {
            panic!("{error:#}\n{}", program.process.log_tail());
        }
    }

    /// What becomes of the pod `name` with these labels.
    async fn admitted(&self, name: &str, labels: Value, host_network: bool) -> Value {
        let containers = json!([{"name": "app", "image": "app"}]);
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"namespace": NAMESPACE, "name": name, "labels": labels},
            "spec": {"hostNetwork": host_network, "containers": containers},
        });
        self.rest().create(&pods(), &pod).await.unwrap()
    }
}

// === impl Program ===

impl Program {
    fn port(&self, what: &str) -> u16 {
        let address: std::net::SocketAddr = text(&self.addresses[what]).parse().unwrap();
        address.port()
    }

    async fn wait_ready(&self) {
        let admin = text(&self.addresses["admin"]).parse().unwrap();
        let ready = clock::wait_for("/readyz", PATIENCE, async || {
            let page = http::get(admin, "/readyz").await?;
            Ok(page.status.is_success().then_some(()))
        });
        if let Err(error) = ready.await {
            panic!("{error:#}\n{}", self.process.log_tail());
        }
    }

    /// Whatever it asked for, it was permitted.
    fn was_permitted(&self) {
        let log = self.process.log();
        assert!(!log.contains("orbidden"), "{log}");
    }
}

fn names(pod: &Value) -> Vec<&str> {
    let lists = ["initContainers", "containers"].map(|field| list(&pod["spec"][field]));
    let all = lists.into_iter().flatten();
    all.map(|container| text(&container["name"])).collect()
}

/// A cluster, or nothing, said loudly.
async fn cluster(what: &str) -> Option<Cluster> {
    if let Some(plane) = Plane::real().await.unwrap() {
        return Some(Cluster::new(plane).await);
    }
    skipped::say(
        &format!("{what} in a real Kubernetes control plane"),
        NO_ASSETS,
    );
    None
}

/// Each resource says whether it is served, and what is refused is an Event too.
#[tokio::test(flavor = "multi_thread")]
async fn the_control_plane_says_what_it_serves() {
    let Some(cluster) = cluster("the control plane").await else {
        return;
    };
    for manifest in documents(DJAPP).unwrap() {
        cluster.apply(&manifest).await;
    }
    let control_plane = cluster.run("meshmeter-control-plane").await;
    control_plane.wait_ready().await;
    for path in [
        "meshes/dj-app",
        "namespaces/prod/virtualnodes/dj",
        "namespaces/prod/virtualrouters/jazz-router",
        "namespaces/prod/virtualservices/jazz",
    ] {
        cluster
            .is_said(&control_plane, path, "True", "Served")
            .await;
    }
    let files = json!({"certificateChain": "/tls.crt", "privateKey": "/tls.key"});
    let tls = json!({"mode": "STRICT", "certificate": {"file": files}});
    let listeners = json!([{"portMapping": {"port": 9080, "protocol": "http"}, "tls": tls}]);
    let spec = json!({"podSelector": {"matchLabels": {"app": "old"}}, "listeners": listeners,
                      "serviceDiscovery": {"dns": {"hostname": "old.prod.svc.cluster.local"}}});
    let refused = json!({
        "apiVersion": "appmesh.k8s.aws/v1beta2", "kind": "VirtualNode",
        "metadata": {"namespace": NAMESPACE, "name": "old"}, "spec": spec});
    cluster.apply(&refused).await;
    let path = "namespaces/prod/virtualnodes/old";
    cluster
        .is_said(&control_plane, path, "False", "NotSupported")
        .await;
    cluster
        .is_raised(&control_plane, "VirtualNode", "NotSupported")
        .await;
    control_plane.was_permitted();
}

/// kube-apiserver verifies the webhook by the CA that it finds, and admits the pods that come back:
/// with everything, or as they were and with an Event.
#[tokio::test(flavor = "multi_thread")]
async fn pods_are_admitted_as_the_webhook_makes_them() {
    let Some(cluster) = cluster("the injector").await else {
        return;
    };
    for manifest in documents(DJAPP).unwrap() {
        cluster.apply(&manifest).await;
    }
    let injector = cluster.run("meshmeter-injector").await;
    // No pod of a service is on loopback: a name leads there.
    let port = injector.port("webhook");
    let services = "/api/v1/namespaces/meshmeter/services";
    let service = objects::service("meshmeter-injector", port);
    cluster.rest().create(services, &service).await.unwrap();
    let name = "aa-meshmeter-injector";
    let configuration = find(&cluster.chart, "MutatingWebhookConfiguration", name).unwrap();
    let mut configuration = configuration.value.clone();
    configuration["webhooks"][0]["clientConfig"]["service"]["port"] = port.into();
    // A webhook that cannot be called is to fail the test, not to be passed over.
    configuration["webhooks"][0]["failurePolicy"] = "Fail".into();
    let path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
    cluster.rest().create(path, &configuration).await.unwrap();
    injector.wait_ready().await;
    // kube-apiserver hears of webhooks a moment later.
    let jazz = json!({"app": "jazz", "version": "v1"});
    let mut nth = 0;
    let admitted = clock::wait_for("a pod with an Envoy", PATIENCE, async || {
        nth += 1;
        let name = format!("jazz-{nth}");
        let pod = cluster.admitted(&name, jazz.clone(), false).await;
        Ok(names(&pod).contains(&"envoy").then_some(pod))
    });
    let pod = admitted.await.unwrap();
    let expected = [
        "meshmeter-init",
        "meshmeter-xds-proxy",
        "meshmeter-redirect",
        "envoy",
        "app",
    ];
    assert_eq!(names(&pod), expected);
    let id = "mesh/dj-app/virtualNode/jazz-v1_prod";
    assert!(pod.to_string().contains(id), "{pod:#}");

    let pod = cluster.admitted("on-its-host", jazz, true).await;
    assert_eq!(names(&pod), ["app"]);
    cluster
        .is_raised(&injector, "Namespace", "NotInjected")
        .await;
    let pod = cluster
        .admitted("of-no-node", json!({"app": "other"}), false)
        .await;
    assert_eq!(names(&pod), ["app"]);
    injector.was_permitted();
}
