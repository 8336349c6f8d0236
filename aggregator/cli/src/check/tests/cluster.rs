//! The stand-in in which all is good.

use std::path::PathBuf;

use http::StatusCode;
use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::testing::NOW;

/// A cluster with meshmeter in it, for one HPA.
pub(super) struct Cluster {
    pub(super) server: ApiServer,
    folder: TempDir,
}

pub(super) const HEALTH: &str = "/apis/view.meshmeter.io/v1/health";
pub(super) const READS: &str = "/apis/view.meshmeter.io/v1/namespaces/prod/reads";
const METRICS: [&str; 3] = [
    "appmesh_requests_per_second",
    "appmesh_inflight_requests",
    "appmesh_error_ratio",
];
/// Groups and versions that a cluster serves.
const APIS: [&str; 8] = [
    "apps/v1",
    "autoscaling/v2",
    "apiregistration.k8s.io/v1",
    "authentication.k8s.io/v1",
    "authorization.k8s.io/v1",
    "rbac.authorization.k8s.io/v1",
    "coordination.k8s.io/v1",
    "appmesh.k8s.aws/v1beta2",
];

// === impl Cluster ===

impl Cluster {
    pub(super) async fn start() -> Self {
        let server = ApiServer::start().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let cluster = Self { server, folder };
        cluster.server.write_kubeconfig(&cluster.file()).unwrap();
        let server = &cluster.server;
        set_version(server, "v1.36.2");
        set_apis(server, &APIS);
        let kinds = [
            "meshes",
            "virtualnodes",
            "virtualnodes/status",
            "virtualservices",
            "virtualrouters",
            "virtualgateways",
            "gatewayroutes",
        ];
        set_resources(server, "appmesh.k8s.aws/v1beta2", &kinds);
        for group in [
            "custom.metrics.k8s.io/v1beta2",
            "custom.metrics.k8s.io/v1beta1",
        ] {
            let names = METRICS.map(|name| format!("pods/{name}"));
            set_resources(server, group, &names.each_ref().map(String::as_str));
        }
        set_resources(server, "external.metrics.k8s.io/v1beta1", &METRICS);
        set_resources(server, "view.meshmeter.io/v1", &["pods", "health"]);
        for name in [
            "v1.view.meshmeter.io",
            "v1beta2.custom.metrics.k8s.io",
            "v1beta1.custom.metrics.k8s.io",
            "v1beta1.external.metrics.k8s.io",
        ] {
            set_api_service(server, name, |_| {});
        }
        for account in ["meshmeter", "meshmeter-injector"] {
            server.allow(&format!("system:serviceaccount:meshmeter:{account}"));
        }
        set_webhook(server, "Y2E=");
        server.set_page(HEALTH, StatusCode::OK, health());
        set_hpa(server, |_| {});
        set_reads(server, &[41_000, 120_000]);
        cluster
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    pub(super) fn kubeconfig(&self) -> String {
        self.file().display().to_string()
    }
}

pub(super) fn set_version(server: &ApiServer, version: &str) {
    server.set_page("/version", StatusCode::OK, json!({"gitVersion": version}));
}

pub(super) fn set_apis(server: &ApiServer, apis: &[&str]) {
    let groups = apis
        .iter()
        .map(|api| json!({"versions": [{"groupVersion": api}]}));
    let groups: Vec<_> = groups.collect();
    server.set_page("/apis", StatusCode::OK, json!({"groups": groups}));
}

/// The APIs without one of them.
pub(super) fn set_apis_without(server: &ApiServer, api: &str) {
    let rest: Vec<_> = APIS.into_iter().filter(|known| *known != api).collect();
    set_apis(server, &rest);
}

pub(super) fn set_resources(server: &ApiServer, group: &str, names: &[&str]) {
    let resources: Vec<_> = names.iter().map(|name| json!({"name": name})).collect();
    let page = json!({"kind": "APIResourceList", "groupVersion": group, "resources": resources});
    server.set_page(&format!("/apis/{group}"), StatusCode::OK, page);
}

pub(super) fn set_api_service(server: &ApiServer, name: &str, change: fn(&mut Value)) {
    let mut object = json!({
        "metadata": {"name": name},
        "spec": {"caBundle": "Y2E=", "service": {"name": "meshmeter-api", "namespace": "meshmeter"}},
        "status": {"conditions": [{"type": "Available", "status": "True", "reason": "Passed", "message": "all checks passed"}]},
    });
    change(&mut object);
    server.objects().apply(API_SERVICE, object);
}

pub(super) fn set_webhook(server: &ApiServer, ca_bundle: &str) {
    let service = json!({"name": "meshmeter-injector", "namespace": "meshmeter"});
    let webhook = json!({
        "name": "pods.meshmeter.io", "failurePolicy": "Ignore",
        "clientConfig": {"caBundle": ca_bundle, "service": service},
    });
    let object = json!({"metadata": {"name": "aa-meshmeter-injector"}, "webhooks": [webhook]});
    server.objects().apply(WEBHOOK_CONFIGURATION, object);
}

pub(super) fn set_hpa(server: &ApiServer, change: fn(&mut Value)) {
    let mut object = json!({
        "metadata": {"namespace": "prod", "name": "jazz"},
        "spec": {"maxReplicas": 10, "metrics": [{"type": "Pods", "pods": {
            "metric": {"name": "appmesh_requests_per_second"},
            "target": {"type": "AverageValue", "averageValue": "20"},
        }}]},
        "status": {"conditions": [{"type": "ScalingActive", "status": "True", "reason": "ValidMetricFound"}]},
    });
    change(&mut object);
    server.objects().apply(AUTOSCALER, object);
}

pub(super) fn set_reads(server: &ApiServer, sums: &[u64]) {
    let reads = sums.iter().map(|sum| {
        json!({"atUnixMs": NOW, "metric": "appmesh_requests_per_second", "object": "pods", "code": 200,
               "sumMilli": sum, "source": "pods", "pods": 3, "ageMs": 900, "windowMs": 2000})
    });
    let reads: Vec<_> = reads.collect();
    let list = json!({"kind": "ReadList", "apiVersion": "view.meshmeter.io/v1", "items": reads});
    server.set_page(READS, StatusCode::OK, list);
}

/// Two replicas that agree.
pub(super) fn health() -> Value {
    let replica = |name: &str| {
        json!({
            "name": name, "version": "0.2.0", "atUnixMs": NOW, "pods": {"live": 3}, "streams": 3,
            "requestsPerSecond": 120.5, "refused": {"ingest: malformed_frame": 0},
            "certificates": [{"listener": "api", "notAfterUnixMs": NOW + 90 * 86_400_000},
                             {"listener": "ingest", "notAfterUnixMs": NOW + 30 * 86_400_000}],
            "remoteWrite": {"writing": name == "meshmeter-0", "lagMs": 9000, "sent": 5, "dropped": {"too_old": 0}},
        })
    };
    json!({
        "kind": "Health", "apiVersion": "view.meshmeter.io/v1", "atUnixMs": NOW,
        "replicas": [replica("meshmeter-0"), replica("meshmeter-1")],
        "uncounted": [], "sidecars": [{"version": "0.2.0", "state": "live", "pods": 3}],
    })
}
