//! The cluster itself: that it answers, its version, and the APIs that meshmeter needs of it.

use std::collections::BTreeSet;

use super::objects::{Groups, Resources, Version};
use super::{Probe, Report, webhooks};

const GROUP: &str = "Kubernetes";
/// Oldest minor version that the manifests are made for: native sidecars (1.29), `sleep` before
/// the end (1.30).
const OLDEST: u32 = 30;
/// Newest minor version that tests ran on.
const NEWEST_TESTED: u32 = 36;
/// APIs that programs and manifests use.
const NEEDED: [&str; 7] = [
    "apps/v1",
    "autoscaling/v2",
    "apiregistration.k8s.io/v1",
    "authentication.k8s.io/v1",
    "authorization.k8s.io/v1",
    "rbac.authorization.k8s.io/v1",
    "coordination.k8s.io/v1",
];
const APP_MESH: &str = "appmesh.k8s.aws/v1beta2";
/// Custom resources of App Mesh that the control plane watches.
const APP_MESH_KINDS: [&str; 6] = [
    "meshes",
    "virtualnodes",
    "virtualservices",
    "virtualrouters",
    "virtualgateways",
    "gatewayroutes",
];

/// True if the server is an aggregator that runs without a cluster.
pub(super) async fn is_absent(probe: &Probe<'_>, report: &mut Report) -> bool {
    let Ok(groups) = probe.connection.read::<Groups>("/apis", &[]).await else {
        return false;
    };
    let served = groups.groups.into_iter().flat_map(|group| group.versions);
    let served: BTreeSet<_> = served.map(|version| version.group_version).collect();
    let is_absent = is_aggregator_alone(&served);
    if is_absent {
        let text = format!(
            "{} is an aggregator without a cluster: what concerns Kubernetes is not checked",
            probe.connection.server()
        );
        report.group(GROUP).skip("apiserver", text);
    }
    is_absent
}

/// True if these APIs are those of an aggregator: its own, and none of Kubernetes.
fn is_aggregator_alone(served: &BTreeSet<String>) -> bool {
    let view = format!("{}/{}", aggregator_view::GROUP, aggregator_view::VERSION);
    served.contains(&view) && NEEDED.iter().all(|api| !served.contains(*api))
}

/// False if nothing else can be asked.
pub(super) async fn check(probe: &Probe<'_>, report: &mut Report) -> bool {
    let connection = probe.connection;
    let version = connection.read::<Version>("/version", &[]).await;
    let mut group = report.group(GROUP);
    let version = match version {
        Ok(version) => version.git_version,
        // Anonymous and narrow users may not read it, and the rest may work.
        Err(error) if error.status() == Some(403) => String::new(),
        Err(error) => {
            let fix = "look at kubeconfig, context and network; `kubectl version` has to answer";
            group.unknown("apiserver", error.to_string(), fix);
            return false;
        }
    };
    group.ok(
        "apiserver",
        format!("kube-apiserver answers at {}", connection.server()),
    );
    judge_version(&version, &mut group);
    match connection.read::<Groups>("/apis", &[]).await {
        Ok(groups) => {
            let served = groups.groups.into_iter().flat_map(|group| group.versions);
            let served: BTreeSet<_> = served.map(|version| version.group_version).collect();
            judge_apis(&served, &mut group);
            check_app_mesh(probe, served.contains(APP_MESH), &mut group).await;
        }
        Err(error) => group.unknown("apis", format!("APIs: {error}"), ""),
    }
    true
}

fn judge_version(version: &str, report: &mut super::report::Group<'_>) {
    const CHECK: &str = "version";
    let mut parts = version.trim_start_matches('v').split('.');
    let major = parts.next().and_then(|part| part.parse::<u32>().ok());
    let minor = parts.next().and_then(|part| {
        // EKS and others write 30+.
        part.trim_end_matches(|c: char| !c.is_ascii_digit())
            .parse::<u32>()
            .ok()
    });
    match (major, minor) {
        (Some(1), Some(minor)) if minor < OLDEST => report.fail(
            CHECK,
            format!("Kubernetes {version} is older than 1.{OLDEST}"),
            format!(
                "update the cluster to 1.{OLDEST} or newer: native sidecars need 1.29, their orderly end 1.{OLDEST}"
            ),
        ),
        (Some(1), Some(minor)) if minor > NEWEST_TESTED => report.ok(
            CHECK,
            format!("Kubernetes {version} (tests run on 1.{NEWEST_TESTED})"),
        ),
        (Some(1), Some(_)) => report.ok(CHECK, format!("Kubernetes {version}")),
        _ => report.warn(
            CHECK,
            format!("the version {version:?} is not known"),
            format!("make sure that it is 1.{OLDEST} or newer"),
        ),
    }
}

fn judge_apis(served: &BTreeSet<String>, report: &mut super::report::Group<'_>) {
    let missing = NEEDED.iter().filter(|api| !served.contains(**api));
    let missing: Vec<_> = missing.copied().collect();
    if missing.is_empty() {
        report.ok("apis", "all API versions that meshmeter uses are served");
        return;
    }
    report.fail(
        "apis",
        format!("not served: {}", missing.join(", ")),
        "enable them in kube-apiserver (--runtime-config), or update the cluster",
    );
}

async fn check_app_mesh(probe: &Probe<'_>, is_served: bool, report: &mut super::report::Group<'_>) {
    const CHECK: &str = "app-mesh-crds";
    const FIX: &str = "install App Mesh's CustomResourceDefinitions: by App Mesh's own chart, or where that never was by the value appMesh.crds of ours";
    if !is_served {
        if webhooks::is_installed(probe).await {
            let message =
                format!("{APP_MESH} is not served, but the injector for App Mesh is here");
            report.fail(CHECK, message, FIX);
        } else {
            report.skip(
                CHECK,
                "App Mesh's custom resources are not here (only mesh: app-mesh needs them)",
            );
        }
        return;
    }
    match probe
        .connection
        .read::<Resources>(&format!("/apis/{APP_MESH}"), &[])
        .await
    {
        Ok(found) => {
            let names: BTreeSet<_> = found
                .resources
                .iter()
                .map(|found| found.name.as_str())
                .collect();
            let missing = APP_MESH_KINDS.iter().filter(|kind| !names.contains(**kind));
            let missing: Vec<_> = missing.copied().collect();
            if missing.is_empty() {
                report.ok(
                    CHECK,
                    format!("App Mesh's custom resources are there ({APP_MESH})"),
                );
            } else {
                report.fail(
                    CHECK,
                    format!("{APP_MESH} lacks {}", missing.join(", ")),
                    FIX,
                );
            }
        }
        Err(error) => report.unknown(CHECK, format!("{APP_MESH}: {error}"), ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An aggregator by itself is not taken for a broken cluster, nor a broken cluster for one.
    #[test]
    fn an_aggregator_alone_is_known() {
        let view = "view.meshmeter.io/v1";
        for (served, expected) in [
            (&["custom.metrics.k8s.io/v1beta2", view][..], true),
            (&[view, "apps/v1"], false),
            (&["custom.metrics.k8s.io/v1beta2"], false),
            (&[], false),
        ] {
            let served = served.iter().map(|api| (*api).to_owned()).collect();
            assert_eq!(is_aggregator_alone(&served), expected, "{served:?}");
        }
    }
}
