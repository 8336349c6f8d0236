//! A stock Envoy in place of App Mesh's controller: the sidecar, and the init container that
//! redirects the pod's traffic into it.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use crate::annotations::{self, Annotations, CONTROLLER, MOUNTS, SECRETS, add_default, listed};
use crate::names::{
    self, BOOTSTRAP_FILE, EGRESS_PORT, INGRESS_PORT, PROXYINIT, REDIRECT, SIDECAR, SIDECAR_MOUNTS,
    STATUS_PORT, USER, list, named, object, security,
};
use crate::settings::Stock;
use crate::sidecar_env::SidecarEnv;
use crate::skipped::Skipped;
use crate::virtual_node::VirtualNode;

const CNI: &str = "appmesh.k8s.aws/appmeshCNI";
/// Label of pods on Fargate, where App Mesh's CNI plugin always runs.
const FARGATE: &str = "eks.amazonaws.com/fargate-profile";

const PORTS: &str = "appmesh.k8s.aws/ports";
const IGNORED_IPS: &str = "appmesh.k8s.aws/egressIgnoredIPs";
const IGNORED_PORTS: &str = "appmesh.k8s.aws/egressIgnoredPorts";

/// Redirected ports at most: iptables' multiport match takes 15.
const PORTS_MAX: usize = 15;
/// Ignored ports at most: the image adds 22 to them.
const IGNORED_PORTS_MAX: usize = PORTS_MAX - 1;
/// Ignored addresses at most: each needs an iptables rule.
const IGNORED_IPS_MAX: usize = 64;

/// Appends the sidecar to the init containers, as App Mesh's controller did: the application's own
/// init containers run before traffic is redirected.
pub(crate) fn add_sidecar(pod: &mut Value, stock: &Stock) -> Result<(), Skipped> {
    let annotations = object(&mut pod["metadata"]["annotations"])?.clone();
    let sidecar = sidecar(&annotations, &pod["spec"]["volumes"], stock)?;
    for (secret, _) in annotations::mounts(&annotations, SECRETS)? {
        let volumes = &mut pod["spec"]["volumes"];
        if named(volumes, &secret).is_none() {
            list(volumes)?.push(json!({"name": secret, "secret": {"secretName": secret}}));
        }
    }
    list(&mut pod["spec"]["initContainers"])?.push(sidecar);
    Ok(())
}

/// Mounts Kubernetes secrets into the sidecar, except where the pod's annotations mount something.
pub(crate) fn add_secrets(pod: &mut Value, secrets: &[(String, String)]) -> Result<(), Skipped> {
    for (nth, (secret, path)) in secrets.iter().enumerate() {
        // A name of a secret may be longer than one of a volume.
        let volume = format!("meshmeter-acm-{nth}");
        let Some(sidecar) = names::sidecar(pod) else {
            return Ok(());
        };
        let mounts = list(&mut sidecar["volumeMounts"])?;
        let mut paths = mounts
            .iter()
            .filter_map(|mount| mount["mountPath"].as_str());
        if paths.any(|mounted| mounted.trim_end_matches('/') == path) {
            continue;
        }
        mounts.push(json!({"name": volume, "mountPath": path, "readOnly": true}));
        let volumes = &mut pod["spec"]["volumes"];
        if named(volumes, &volume).is_some() {
            let what = "volume";
            return Err(Skipped::Taken { what, name: volume });
        }
        list(volumes)?.push(json!({"name": volume, "secret": {"secretName": secret}}));
    }
    Ok(())
}

/// Redirects the pod's traffic: by an init container, or by App Mesh's CNI plugin, which reads
/// annotations.
pub(crate) fn add_redirection(
    pod: &mut Value,
    stock: &Stock,
    node: &VirtualNode,
) -> Result<(), Skipped> {
    let fargate = pod["metadata"]["labels"][FARGATE].as_str();
    let fargate = fargate.is_some_and(|profile| !profile.is_empty());
    let redirected = named(&pod["spec"]["initContainers"], PROXYINIT).is_some();
    let annotations = object(&mut pod["metadata"]["annotations"])?;
    let cni = annotations.get(CNI).and_then(Value::as_str);
    let by_plugin = cni.map_or(fargate, |cni| cni.eq_ignore_ascii_case("enabled"));
    let ports = match listed(annotations, PORTS, PORTS_MAX, is_ports)? {
        Some(ports) => ports,
        None => joined_ports(&node.ports)?,
    };
    // "0" is App Mesh's form for no ports: its image does not start with an empty list.
    let ports = if ports.is_empty() {
        "0".to_owned()
    } else {
        ports
    };
    let ignored_ips = listed(annotations, IGNORED_IPS, IGNORED_IPS_MAX, is_range)?;
    // The default of App Mesh's controller: the EC2 instance metadata service.
    let ignored_ips = ignored_ips.unwrap_or("169.254.169.254".to_owned());
    let ignored_ports = listed(annotations, IGNORED_PORTS, IGNORED_PORTS_MAX, is_ports)?;
    let ignored_ports = ignored_ports.unwrap_or("22".to_owned());
    if by_plugin {
        for (name, value) in [
            (PORTS, ports.as_str()),
            (IGNORED_IPS, &ignored_ips),
            (IGNORED_PORTS, &ignored_ports),
            ("appmesh.k8s.aws/proxyEgressPort", &EGRESS_PORT.to_string()),
            (
                "appmesh.k8s.aws/proxyIngressPort",
                &INGRESS_PORT.to_string(),
            ),
            ("appmesh.k8s.aws/ignoredUID", &USER.to_string()),
        ] {
            add_default(annotations, name, value);
        }
        // The plugin redirects only pods with this exact value.
        annotations.insert(CONTROLLER.to_owned(), "enabled".into());
        return Ok(());
    }
    // App Mesh's controller, if it still runs, would redirect a second time, which fails.
    annotations.insert(CONTROLLER.to_owned(), "disabled".into());
    if redirected {
        return Ok(());
    }
    let redirect = json!({
        "name": REDIRECT,
        "image": stock.redirect_image,
        "env": [
            {"name": "APPMESH_START_ENABLED", "value": "1"},
            {"name": "APPMESH_IGNORE_UID", "value": USER.to_string()},
            {"name": "APPMESH_ENVOY_INGRESS_PORT", "value": INGRESS_PORT.to_string()},
            {"name": "APPMESH_ENVOY_EGRESS_PORT", "value": EGRESS_PORT.to_string()},
            {"name": "APPMESH_APP_PORTS", "value": ports},
            {"name": "APPMESH_EGRESS_IGNORED_IP", "value": ignored_ips},
            {"name": "APPMESH_EGRESS_IGNORED_PORTS", "value": ignored_ports},
        ],
        "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}},
        // Cannot run under the profile `restricted`: iptables needs NET_ADMIN, iptables-legacy a
        // raw socket (NET_RAW), and both lock a file in the image's root file system.
        "securityContext": {
            "runAsUser": 0,
            "runAsNonRoot": false,
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    });
    list(&mut pod["spec"]["initContainers"])?.push(redirect);
    Ok(())
}

fn joined_ports(ports: &[u16]) -> Result<String, Skipped> {
    if ports.len() > PORTS_MAX {
        return Err(Skipped::TooManyPorts {
            count: ports.len(),
            max: PORTS_MAX,
        });
    }
    let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
    Ok(ports.join(","))
}

fn sidecar(annotations: &Annotations, volumes: &Value, stock: &Stock) -> Result<Value, Skipped> {
    let SidecarEnv {
        concurrency,
        log_level,
        others,
        ..
    } = SidecarEnv::of(annotations)?;
    let others = others.into_iter();
    let env: Vec<_> = others
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect();
    Ok(json!({
        "name": SIDECAR,
        "image": stock.image,
        // A native sidecar starts before the application and ends after it, so Envoy's last report
        // holds all of the application's requests. App Mesh's preStop `sleep 20` served this order,
        // and is not needed.
        "restartPolicy": "Always",
        // Envoy does not parse `--flag=value`.
        "args": [
            "--config-path", BOOTSTRAP_FILE,
            "--disable-hot-restart",
            "--drain-time-s", "20",
            "--concurrency", concurrency,
            "--log-level", log_level,
        ],
        "env": env,
        "ports": [status_port()],
        "startupProbe": probe(1, 120),
        "readinessProbe": probe(10, 3),
        "volumeMounts": mounts(annotations, volumes)?,
        "resources": resources(annotations)?,
        "securityContext": security(),
    }))
}

pub(crate) fn status_port() -> Value {
    json!({"name": "stats", "containerPort": STATUS_PORT, "protocol": "TCP"})
}

pub(crate) fn probe(period: u32, failures: u32) -> Value {
    json!({
        "httpGet": {"path": "/ready", "port": STATUS_PORT},
        "periodSeconds": period,
        "failureThreshold": failures,
    })
}

fn mounts(annotations: &Annotations, volumes: &Value) -> Result<Vec<Value>, Skipped> {
    let ours = SIDECAR_MOUNTS
        .into_iter()
        .filter(|(name, _)| named(volumes, name).is_some());
    let ours = ours.map(|(name, path)| (name.to_owned(), path.to_owned()));
    let annotated = annotations::mounts(annotations, MOUNTS)?;
    if let Some((missing, _)) = annotated
        .iter()
        .find(|(name, _)| named(volumes, name).is_none())
    {
        return Err(Skipped::NoVolume(missing.clone()));
    }
    let secrets = annotations::mounts(annotations, SECRETS)?;
    let mounts: Vec<_> = ours.chain(annotated).chain(secrets).collect();
    // kube-apiserver rejects two mounts at one path, and the pod with them.
    for (nth, (_, path)) in mounts.iter().enumerate() {
        if mounts[..nth].iter().any(|(_, earlier)| earlier == path) {
            let what = "second mount for the sidecar at";
            let name = path.clone();
            return Err(Skipped::Taken { what, name });
        }
    }
    let mounts = mounts
        .into_iter()
        .map(|(name, path)| json!({"name": name, "mountPath": path, "readOnly": true}));
    Ok(mounts.collect())
}

/// Memory request of a stock Envoy with the filter, whose working set is 35 MiB. App Mesh's
/// controller requests 32.
const MEMORY: &str = "48Mi";

/// From the pod's annotations, else the defaults of App Mesh's controller, but for memory. Without
/// a request Kubernetes uses the limit as request.
fn resources(annotations: &Annotations) -> Result<Value, Skipped> {
    let (mut requests, mut limits) = (Map::new(), Map::new());
    for (what, request, limit, default) in [
        (
            "cpu",
            "appmesh.k8s.aws/cpuRequest",
            "appmesh.k8s.aws/cpuLimit",
            "10m",
        ),
        (
            "memory",
            "appmesh.k8s.aws/memoryRequest",
            "appmesh.k8s.aws/memoryLimit",
            MEMORY,
        ),
    ] {
        let annotated = |name| listed(annotations, name, 1, is_quantity);
        let (request, limit) = (annotated(request)?, annotated(limit)?);
        // An empty annotation means no value, not the default.
        let amount = |text: String| (!text.is_empty()).then(|| (what.to_owned(), text.into()));
        let limit = limit.and_then(amount);
        let default = limit.is_none().then(|| default.to_owned());
        requests.extend(request.or(default).and_then(amount));
        limits.extend(limit);
    }
    Ok(json!({"requests": requests, "limits": limits}))
}

/// A Kubernetes quantity: digits and a unit, or a power of ten.
fn is_quantity(text: &str) -> bool {
    const UNITS: [&str; 16] = [
        "", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei",
    ];
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let power = unit
        .strip_prefix(['e', 'E'])
        .and_then(|power| power.parse::<i8>().ok());
    unit.len() < text.len() && (UNITS.contains(&unit) || power.is_some())
}

/// A port, or a range of ports in iptables' notation.
fn is_ports(text: &str) -> bool {
    let port = |text: &str| text.parse::<u16>().ok();
    match text.split_once(':') {
        None => port(text).is_some(),
        Some((first, last)) => port(first)
            .zip(port(last))
            .is_some_and(|(first, last)| first <= last),
    }
}

/// An IP address or CIDR block.
fn is_range(text: &str) -> bool {
    let (address, bits) = text.split_once('/').unwrap_or((text, "0"));
    address.parse::<IpAddr>().is_ok() && bits.parse::<u8>().is_ok_and(|bits| bits <= 128)
}
