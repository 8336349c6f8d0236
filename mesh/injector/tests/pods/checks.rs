//! What kube-apiserver would say of a pod: every field is one of Kubernetes', and they fit
//! together.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, Pod, Probe};
use serde_json::{Value, json};

/// Longest name of a container or volume (a DNS label).
const LABEL_MAX: usize = 63;
/// Longest name of a port.
const PORT_NAME_MAX: usize = 15;

/// `pod` as Kubernetes' type. A field that the type does not have is lost on the way, and so seen.
pub(crate) fn strictly(pod: &Value) -> Pod {
    let typed: Pod = serde_json::from_value(pod.clone()).unwrap();
    let mut again = serde_json::to_value(&typed).unwrap();
    let mut pod = pod.clone();
    without_nulls(&mut pod);
    without_nulls(&mut again);
    let lost = json_patch::diff(&again, &pod);
    assert!(lost.0.is_empty(), "fields that are not Kubernetes': {lost}");
    typed
}

pub(crate) fn without_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(without_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(without_nulls),
        _ => {}
    }
}

/// Names are unique, references lead somewhere, values have their form.
pub(crate) fn fits_together(pod: &Pod) {
    let spec = pod.spec.as_ref().unwrap();
    let volumes = spec.volumes.iter().flatten();
    let volumes: Vec<_> = volumes.map(|volume| volume.name.as_str()).collect();
    unique("volume", volumes.iter().copied());
    for name in &volumes {
        label(name);
    }
    let starting = spec.init_containers.iter().flatten();
    unique(
        "container",
        starting
            .clone()
            .chain(&spec.containers)
            .map(|one| one.name.as_str()),
    );
    for container in starting {
        let native = container.restart_policy.as_deref();
        assert!(matches!(native, None | Some("Always")), "{native:?}");
        let lives = [
            container.lifecycle.is_some(),
            container.liveness_probe.is_some(),
            container.readiness_probe.is_some(),
            container.startup_probe.is_some(),
        ];
        assert!(
            native.is_some() || !lives.contains(&true),
            "{}",
            container.name
        );
        fits(container, &volumes);
    }
    for container in &spec.containers {
        assert_eq!(container.restart_policy, None, "{}", container.name);
        fits(container, &volumes);
    }
    for volume in spec.volumes.iter().flatten() {
        if let Some(limit) = volume
            .empty_dir
            .as_ref()
            .and_then(|dir| dir.size_limit.as_ref())
        {
            quantity(&limit.0);
        }
        let sources = volume
            .projected
            .iter()
            .flat_map(|projected| projected.sources.iter().flatten());
        for token in sources.filter_map(|source| source.service_account_token.as_ref()) {
            assert!(token.expiration_seconds.unwrap() >= 600);
            assert_ne!(token.audience.as_deref(), Some(""));
        }
        if let Some(image) = &volume.image {
            assert!(image.reference.is_some());
        }
    }
}

fn fits(container: &Container, volumes: &[&str]) {
    let name = &container.name;
    label(name);
    assert!(
        container
            .image
            .as_ref()
            .is_some_and(|image| !image.is_empty()),
        "{name}"
    );
    let mounts = container.volume_mounts.as_deref().unwrap_or_default();
    unique(
        "mount",
        mounts.iter().map(|mount| mount.mount_path.as_str()),
    );
    for mount in mounts {
        assert!(
            volumes.contains(&mount.name.as_str()),
            "{name} mounts {}",
            mount.name
        );
        assert!(mount.mount_path.starts_with('/') && !mount.mount_path.contains(':'));
    }
    unique(
        "variable",
        container.env.iter().flatten().map(|one| one.name.as_str()),
    );
    let ports: Vec<_> = container.ports.iter().flatten().collect();
    unique("port", ports.iter().filter_map(|port| port.name.as_deref()));
    for port in ports.iter().filter_map(|port| port.name.as_deref()) {
        assert!(port.len() <= PORT_NAME_MAX, "{port}");
    }
    let probes = [
        &container.startup_probe,
        &container.readiness_probe,
        &container.liveness_probe,
    ];
    for probe in probes.into_iter().flatten() {
        leads_to_a_port(
            probe,
            &ports
                .iter()
                .map(|port| port.container_port)
                .collect::<Vec<_>>(),
        );
    }
    if let Some(resources) = &container.resources {
        let all = [&resources.requests, &resources.limits];
        for (what, amount) in all.into_iter().flatten().flatten() {
            assert!(["cpu", "memory"].contains(&what.as_str()), "{what}");
            quantity(&amount.0);
        }
    }
}

fn leads_to_a_port(probe: &Probe, ports: &[i32]) {
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
    let IntOrString::Int(port) = &probe.http_get.as_ref().unwrap().port else {
        panic!("probes go to numbers");
    };
    assert!(ports.contains(port), "{port} is none of {ports:?}");
}

/// The profile `restricted` of the Pod Security Standards, as far as a container's own settings go.
pub(crate) fn is_restricted(container: &Container) {
    let name = &container.name;
    let security = container.security_context.as_ref().unwrap();
    assert_eq!(security.run_as_non_root, Some(true), "{name}");
    assert_ne!(security.run_as_user, Some(0), "{name}");
    assert_eq!(security.allow_privilege_escalation, Some(false), "{name}");
    assert_eq!(security.privileged, None, "{name}");
    assert_eq!(
        security.seccomp_profile.as_ref().unwrap().type_,
        "RuntimeDefault",
        "{name}"
    );
    let capabilities = security.capabilities.as_ref().unwrap();
    assert_eq!(
        capabilities.drop.as_deref(),
        Some(&["ALL".to_owned()][..]),
        "{name}"
    );
    assert_eq!(capabilities.add, None, "{name}");
    assert!(
        container
            .ports
            .iter()
            .flatten()
            .all(|port| port.host_port.is_none()),
        "{name}"
    );
}

fn unique<'a>(what: &str, names: impl Iterator<Item = &'a str>) {
    let mut seen = BTreeSet::new();
    for name in names {
        assert!(seen.insert(name), "two of the {what} {name}");
    }
}

fn label(name: &str) {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    assert!(name.bytes().all(inner) && name.len() <= LABEL_MAX, "{name}");
    assert!(!name.starts_with('-') && !name.ends_with('-'), "{name}");
}

fn quantity(text: &str) {
    let digits = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    assert!(digits.len() < text.len(), "{text}");
    assert!(
        ["", "m", "k", "M", "G", "Ki", "Mi", "Gi"].contains(&digits),
        "{text}"
    );
}

#[test]
fn what_is_wrong_is_seen() {
    let pod = crate::case("app-mesh/bare")["request"]["object"].clone();
    fits_together(&strictly(&pod));
    let wrong: [fn(&mut Value); 6] = [
        |pod| pod["spec"]["containers"][0]["imagee"] = "x".into(),
        |pod| pod["spec"]["volumes"] = json!([{"name": "a", "emptyDir": {"limit": "1"}}]),
        |pod| {
            pod["spec"]["containers"][0]["volumeMounts"] =
                json!([{"name": "none", "mountPath": "/x"}]);
        },
        |pod| pod["spec"]["containers"][0]["resources"] = json!({"limits": {"memory": "64 MB"}}),
        |pod| pod["spec"]["containers"][0]["startupProbe"] = json!({"httpGet": {"port": 1}}),
        |pod| pod["spec"]["initContainers"] = pod["spec"]["containers"].clone(),
    ];
    for wrong in wrong {
        let mut pod = pod.clone();
        wrong(&mut pod);
        let checked = std::panic::catch_unwind(|| fits_together(&strictly(&pod)));
        assert!(checked.is_err(), "{pod}");
    }
}
