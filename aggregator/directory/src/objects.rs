//! Pods, services and owners as the API server sends them, reduced to the fields that are used, and
//! their conversion for the directory.

use std::net::IpAddr;
use std::sync::Arc;

use aggregator_core::limits::IPS_PER_POD_MAX;
use aggregator_core::pod::{Labels, Owner, Phase, PodInfo, PodKey};
use common_kubernetes::objects::{Metadata, MetadataOnly, Named};
use serde::Deserialize;

use crate::directory::{ObjectKey, OwnerInfo, ServiceInfo};

pub(crate) mod autoscaler;

/// The container that the injector adds.
const XDS_PROXY: &str = "meshmeter-xds-proxy";

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Pod {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    spec: PodSpec,
    #[serde(default)]
    status: PodStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodSpec {
    init_containers: Vec<Container>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Container {
    name: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct PodStatus {
    phase: String,
    #[serde(rename = "podIP")]
    pod_ip: String,
    #[serde(rename = "podIPs")]
    pod_ips: Vec<PodIp>,
    conditions: Vec<Condition>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct PodIp {
    ip: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Service {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    spec: ServiceSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct ServiceSpec {
    selector: Labels,
}

// === impl Pod ===

impl Pod {
    pub(crate) fn key(&self) -> PodKey {
        PodKey::new(&self.metadata.namespace, &self.metadata.name)
    }

    fn is_injected(&self) -> bool {
        // Both the annotation and the container: the annotation alone may have been copied.
        let mut containers = self.spec.init_containers.iter();
        self.metadata.annotations.injected.is_some()
            && containers.any(|container| container.name == XDS_PROXY)
    }

    pub(crate) fn info(self) -> PodInfo {
        let key = self.key();
        let injected = self.is_injected();
        let owner = controller(&self.metadata);
        let PodStatus {
            phase,
            pod_ip,
            pod_ips,
            conditions,
        } = self.status;
        let ready = conditions
            .iter()
            .find(|condition| condition.kind == "Ready");
        let phase = match phase.as_str() {
            "Pending" => Phase::Pending,
            "Running" => Phase::Running,
            "Succeeded" => Phase::Succeeded,
            "Failed" => Phase::Failed,
            _ => Phase::Unknown,
        };
        let listed = pod_ips.iter().map(|entry| entry.ip.as_str());
        let mut ips: Vec<IpAddr> = listed.filter_map(|ip| ip.parse().ok()).collect();
        if ips.is_empty() {
            ips.extend(pod_ip.parse::<IpAddr>().ok());
        }
        // Truncated, not refused: one address of each family is enough to recognise the pod.
        ips.truncate(IPS_PER_POD_MAX);
        PodInfo {
            owner,
            deleting: self.metadata.deletion_timestamp.is_some(),
            phase,
            ready: ready.map(|condition| condition.status == "True"),
            ips,
            injected,
            ..PodInfo::new(key, self.metadata.uid.into(), self.metadata.labels)
        }
    }
}

// === impl Service ===

impl Service {
    pub(crate) fn key(&self) -> (Arc<str>, Arc<str>) {
        let Metadata {
            namespace, name, ..
        } = &self.metadata;
        (namespace.as_str().into(), name.as_str().into())
    }

    pub(crate) fn info(self) -> ServiceInfo {
        let (namespace, name) = self.key();
        ServiceInfo {
            namespace,
            name,
            selector: self.spec.selector,
        }
    }
}

// === impl Named ===

impl Named for Pod {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}

impl Named for Service {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }
}

fn controller(metadata: &Metadata) -> Option<Owner> {
    let controller = metadata.controller()?;
    Some(Owner {
        group: controller.group().into(),
        kind: controller.kind.as_str().into(),
        name: controller.name.as_str().into(),
        uid: controller.uid.as_str().into(),
    })
}

pub(crate) fn owner_key(owner: &MetadataOnly, group: &str, kind: &str) -> ObjectKey {
    let Metadata {
        namespace, name, ..
    } = &owner.metadata;
    ObjectKey::new(namespace, group, kind, name)
}

pub(crate) fn owner_info(owner: &MetadataOnly, group: &str, kind: &str) -> OwnerInfo {
    OwnerInfo {
        object: owner_key(owner, group, kind),
        uid: owner.metadata.uid.as_str().into(),
        owner: controller(&owner.metadata),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pod as kube-apiserver sends it: what is used is read, and all the rest is left alone.
    #[test]
    fn reads_a_pod() {
        let pod: Pod = common_json::from_str(
            r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"jazz-v1-a","namespace":"prod","uid":"u1",
                "resourceVersion":"7","labels":{"app":"jazz"},"managedFields":[{"manager":"x"}],
                "deletionTimestamp":"2026-11-24T00:00:00Z","ownerReferences":[
                {"apiVersion":"v1","kind":"Node","name":"n","uid":"u0"},
                {"apiVersion":"apps/v1","kind":"ReplicaSet","name":"jazz-v1","uid":"u2","controller":true}]},
                "spec":{"containers":[{"name":"c"}]},
                "status":{"phase":"Running","conditions":[{"type":"PodScheduled","status":"True"},
                {"type":"Ready","status":"False"}],"podIP":"10.0.0.1","podIPs":[{"ip":"10.0.0.1"},{"ip":"fd00::1"}]}}"#,
        )
        .unwrap();
        let info = pod.info();
        assert_eq!(info.key, PodKey::new("prod", "jazz-v1-a"));
        assert_eq!((&*info.uid, info.labels["app"].as_str()), ("u1", "jazz"));
        assert_eq!((info.deleting, info.phase), (true, Phase::Running));
        assert_eq!(info.ready, Some(false));
        assert_eq!(
            info.ips,
            [
                "10.0.0.1".parse::<IpAddr>().unwrap(),
                "fd00::1".parse().unwrap()
            ]
        );
        let owner = info.owner.unwrap();
        assert_eq!(
            (&*owner.group, &*owner.kind, &*owner.name),
            ("apps", "ReplicaSet", "jazz-v1")
        );
    }

    /// A pod that was only just created, and nulls where Go has nothing.
    #[test]
    fn reads_what_is_not_there() {
        let pod: Pod = common_json::from_str(
            r#"{"metadata":{"name":"a","namespace":"b","labels":null,"ownerReferences":null},"status":{}}"#,
        )
        .unwrap();
        let info = pod.info();
        assert_eq!(
            (info.phase, info.deleting, info.ips.len()),
            (Phase::Unknown, false, 0)
        );
        let service: Service = common_json::from_str(
            r#"{"metadata":{"name":"a","namespace":"b"},"spec":{"selector":null}}"#,
        )
        .unwrap();
        assert!(service.info().selector.is_empty());
    }

    /// Null is absent in every place of every object that is read here.
    #[test]
    fn reads_nulls() {
        let pods: Vec<Pod> = common_json::from_str(
            r#"[null,{"metadata":null,"spec":null,"status":null},
                {"metadata":{"name":"a","namespace":"b","uid":null,"labels":null,"annotations":null,"ownerReferences":null,
                "generation":null,"creationTimestamp":null,"deletionTimestamp":null},"spec":{"initContainers":null},
                "status":{"phase":null,"conditions":null,"podIP":null,"podIPs":null}}]"#,
        )
        .unwrap();
        let pod = pods.into_iter().next_back().unwrap().info();
        assert_eq!(
            pod,
            PodInfo::new(PodKey::new("b", "a"), "".into(), Labels::new())
        );
    }

    /// Mark and container, both, as the injector writes them; on a manifest that it made.
    #[test]
    fn knows_injected_pods() {
        let injected = |annotations: &str, container: &str| {
            let pod: Pod = common_json::from_str(&format!(
                r#"{{"metadata":{{"name":"a","namespace":"b","annotations":{annotations}}},
                    "spec":{{"initContainers":[{{"name":"{container}"}}]}}}}"#
            ))
            .unwrap();
            pod.info().injected
        };
        assert!(injected(r#"{"meshmeter.io/injected":"0.1.0"}"#, XDS_PROXY));
        assert!(!injected(r#"{"meshmeter.io/injected":"0.1.0"}"#, "other"));
        assert!(!injected(r#"{"other":"x"}"#, XDS_PROXY));
        assert!(!injected("null", XDS_PROXY));
    }
}
