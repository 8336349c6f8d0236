//! What one manifest says of another is so: ports, names, selectors, and the rules that all pods
//! keep.
#![expect(clippy::unwrap_used, reason = "in a test any surprise is a failure")]

use serde_json::Value;
use tests_deploy::helm::{chart, example};
use tests_deploy::pods::{Template, templates, variables};
use tests_deploy::{find, list, text};
use tests_manifests::Object;

/// Everything that may be installed at once.
fn everything() -> Vec<Object> {
    let values = "
namespace: {create: true}
remoteWrite:
  receiver: amp
  url: https://aps-workspaces.eu-west-1.amazonaws.com/workspaces/ws-0/api/v1/remote_write
  cluster: test
  aws: {credentials: pod-identity}
";
    example("app-mesh-closed", values).unwrap()
}

fn service<'a>(objects: &'a [Object], reference: &Value) -> &'a Value {
    assert_eq!(reference["namespace"], "meshmeter");
    &find(objects, "Service", text(&reference["name"]))
        .unwrap()
        .value
}

/// The container's port behind a service's.
fn behind(objects: &[Object], service: &Value, port: &Value) -> u64 {
    let ports = list(&service["spec"]["ports"]);
    let port = ports.iter().find(|one| one["port"] == *port).unwrap();
    let selector = &service["spec"]["selector"];
    let templates = templates(objects);
    let selected: Vec<&Template<'_>> = templates
        .iter()
        .filter(|one| one.is_selected(selector))
        .collect();
    assert_eq!(selected.len(), 1, "{service}");
    selected[0].port(&port["targetPort"]).unwrap()
}

/// Flags that listen and declared ports are the same, and every probe asks a port that is declared.
#[test]
fn flags_listen_where_ports_are_declared() {
    let objects = everything();
    let mut seen = 0;
    for template in templates(&objects) {
        for container in template.containers() {
            let arguments = list(&container["args"]).iter().map(text);
            let mut listening: Vec<u64> = arguments
                .filter(|argument| argument.contains("listen="))
                .map(|argument| argument.rsplit(':').next().unwrap().parse().unwrap())
                .collect();
            let ports = list(&container["ports"]).iter();
            let mut declared: Vec<u64> = ports
                .map(|port| port["containerPort"].as_u64().unwrap())
                .collect();
            listening.sort_unstable();
            declared.sort_unstable();
            assert_eq!(listening, declared, "{}", template.object.name);
            seen += declared.len();
            for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
                for action in ["httpGet", "tcpSocket"] {
                    let port = &container[probe][action]["port"];
                    if !port.is_null() {
                        assert!(template.port(port).is_some(), "{probe}: {port}");
                    }
                }
            }
        }
    }
    assert_eq!(seen, 7);
}

/// Every service, budget, policy and spread constraint selects pods that there are; workloads
/// select their own.
#[test]
fn selectors_select() {
    let objects = everything();
    let templates = templates(&objects);
    let matches = |selector: &Value| {
        templates
            .iter()
            .any(|template| template.is_selected(selector))
    };
    for object in &objects {
        let spec = &object.value["spec"];
        let selector = match object.kind.as_str() {
            "Service" => &spec["selector"],
            "PodDisruptionBudget" | "Deployment" | "StatefulSet" => {
                &spec["selector"]["matchLabels"]
            }
            "NetworkPolicy" if spec["podSelector"] != serde_json::json!({}) => {
                &spec["podSelector"]["matchLabels"]
            }
            _ => continue,
        };
        assert!(
            matches(selector),
            "{} {}: {selector}",
            object.kind,
            object.name
        );
    }
    for template in &templates {
        let spec = &template.value["spec"];
        for constraint in list(&spec["topologySpreadConstraints"]) {
            let selector = &constraint["labelSelector"]["matchLabels"];
            assert!(template.is_selected(selector), "{}", template.object.name);
        }
        let account = text(&spec["serviceAccountName"]);
        if account != "default" {
            find(&objects, "ServiceAccount", account).unwrap();
        }
    }
}

/// Ports of policies are declared by the pods they are about.
#[test]
fn policies_open_ports_that_are_there() {
    let objects = everything();
    let templates = templates(&objects);
    let mut opened = 0;
    for policy in objects
        .iter()
        .filter(|object| object.kind == "NetworkPolicy")
    {
        let spec = &policy.value["spec"];
        for rule in list(&spec["ingress"]) {
            for port in list(&rule["ports"]) {
                let selector = &spec["podSelector"]["matchLabels"];
                let mut selected = templates.iter().filter(|one| one.is_selected(selector));
                let template = selected.next().unwrap();
                assert!(
                    template.port(&port["port"]).is_some(),
                    "{}: {port}",
                    policy.name
                );
                opened += 1;
            }
        }
    }
    assert_eq!(opened, 7);
}

/// `APIServices` and the webhook lead to services that lead to the port on which the program serves
/// them.
#[test]
fn registrations_lead_to_services() {
    let objects = everything();
    let mut names = Vec::new();
    for registered in objects.iter().filter(|object| object.kind == "APIService") {
        let spec = &registered.value["spec"];
        let reference = &spec["service"];
        assert_eq!(
            behind(&objects, service(&objects, reference), &reference["port"]),
            10250
        );
        let name = format!("{}.{}", text(&spec["version"]), text(&spec["group"]));
        assert_eq!(registered.name, name);
        names.push(name);
    }
    names.sort();
    // Those that the aggregator writes its CA into.
    let expected = [
        "v1.view.meshmeter.io",
        "v1beta1.custom.metrics.k8s.io",
        "v1beta1.external.metrics.k8s.io",
        "v1beta2.custom.metrics.k8s.io",
    ];
    assert_eq!(names, expected);

    let webhook = find(
        &objects,
        "MutatingWebhookConfiguration",
        "aa-meshmeter-injector",
    )
    .unwrap();
    let webhook = &webhook.value["webhooks"][0];
    assert_eq!(webhook["failurePolicy"], "Ignore");
    let reference = &webhook["clientConfig"]["service"];
    assert_eq!(reference["path"], "/mutate");
    assert_eq!(
        behind(&objects, service(&objects, reference), &reference["port"]),
        10250
    );
}

/// Where pods are told to stream to and to get configuration from are names and ports of services
/// here, every replica once.
#[test]
fn pods_are_sent_to_what_there_is() {
    let objects = everything();
    let injector = find(&objects, "Deployment", "meshmeter-injector").unwrap();
    let container = &injector.value["spec"]["template"]["spec"]["containers"][0];
    let variables = variables(container, &objects).unwrap();
    let set = &find(&objects, "StatefulSet", "meshmeter").unwrap().value["spec"];
    let service_name = text(&set["serviceName"]);
    let ingest = &find(&objects, "Service", service_name).unwrap().value;
    assert_eq!(behind(&objects, ingest, &7470.into()), 7470);
    assert_eq!(ingest["spec"]["publishNotReadyAddresses"], true);
    let replicas = set["replicas"].as_u64().unwrap();
    let expected: Vec<String> = (0..replicas)
        .map(|nth| format!("meshmeter-{nth}.{service_name}.meshmeter.svc.cluster.local:7470"))
        .collect();
    assert_eq!(variables["MESHMETER_AGGREGATOR"], expected.join(","));
    let upstream = variables["MESHMETER_UPSTREAM"].as_str();
    let rest = upstream.strip_prefix("http://meshmeter-control-plane.meshmeter.svc.cluster.local:");
    let port: u64 = rest.unwrap().parse().unwrap();
    let control_plane = &find(&objects, "Service", "meshmeter-control-plane")
        .unwrap()
        .value;
    assert_eq!(behind(&objects, control_plane, &port.into()), port);
}

/// Monitors select services and pods that have the port they scrape.
#[test]
fn monitors_find_their_targets() {
    let objects = everything();
    let monitor = &find(&objects, "ServiceMonitor", "meshmeter").unwrap().value["spec"];
    let wanted = monitor["selector"]["matchLabels"].as_object().unwrap();
    let services: Vec<&Object> = objects
        .iter()
        .filter(|object| object.kind == "Service")
        .filter(|object| {
            let labels = &object.value["metadata"]["labels"];
            wanted.iter().all(|(key, value)| labels[key] == *value)
        })
        .collect();
    // One: two would scrape each replica twice.
    assert_eq!(services.len(), 1);
    let ports = list(&services[0].value["spec"]["ports"]);
    let port = ports
        .iter()
        .find(|port| port["name"] == monitor["endpoints"][0]["port"])
        .unwrap();
    assert_eq!(behind(&objects, &services[0].value, &port["port"]), 7471);
    let pods = &find(&objects, "PodMonitor", "meshmeter-mesh")
        .unwrap()
        .value["spec"];
    let names = list(&pods["selector"]["matchExpressions"][0]["values"]);
    let mut found = 0;
    for template in templates(&objects) {
        if names.contains(&template.value["metadata"]["labels"]["app.kubernetes.io/name"]) {
            let port = template.port(&pods["podMetricsEndpoints"][0]["port"]);
            assert!(port.is_some(), "{}", template.object.name);
            found += 1;
        }
    }
    assert_eq!(found, names.len());
}

/// Pod Security `restricted`, the namespace that enforces it, and what goes beyond: a read-only
/// root, a user by number, requests.
#[test]
fn pods_are_restricted() {
    let objects = everything();
    let namespace = &find(&objects, "Namespace", "meshmeter").unwrap().value["metadata"];
    assert_eq!(
        namespace["labels"]["pod-security.kubernetes.io/enforce"],
        "restricted"
    );
    for template in templates(&objects) {
        let name = &template.object.name;
        let spec = &template.value["spec"];
        let pod = &spec["securityContext"];
        assert_eq!(pod["runAsNonRoot"], true, "{name}");
        assert!(pod["runAsUser"].as_u64().unwrap() > 0, "{name}");
        assert_eq!(pod["seccompProfile"]["type"], "RuntimeDefault", "{name}");
        for field in ["hostNetwork", "hostPID", "hostIPC"] {
            assert!(spec[field].is_null(), "{name}: {field}");
        }
        assert_eq!(
            spec["enableServiceLinks"], false,
            "{name}: variables of services look like flags"
        );
        for volume in list(&spec["volumes"]) {
            assert!(volume["hostPath"].is_null(), "{name}: {volume}");
        }
        for container in template.containers() {
            let context = &container["securityContext"];
            assert_eq!(context["allowPrivilegeEscalation"], false, "{name}");
            assert_eq!(context["readOnlyRootFilesystem"], true, "{name}");
            assert_eq!(list(&context["capabilities"]["drop"]), ["ALL"], "{name}");
            assert!(context["capabilities"]["add"].is_null(), "{name}");
            for port in list(&container["ports"]) {
                assert!(
                    port["hostPort"].is_null() && port["containerPort"].as_u64() > Some(1023),
                    "{name}"
                );
            }
            let resources = &container["resources"];
            assert!(resources["requests"]["cpu"].is_string(), "{name}");
            assert!(resources["limits"]["memory"].is_string(), "{name}");
        }
    }
}

/// The kubelet waits longer than the program takes at most: six parts of --drain-seconds each, two
/// of them a second more, and preStop.
#[test]
fn the_grace_period_is_long_enough() {
    let objects = chart("").unwrap();
    let spec =
        &find(&objects, "StatefulSet", "meshmeter").unwrap().value["spec"]["template"]["spec"];
    let container = &spec["containers"][0];
    let drain = list(&container["args"])
        .iter()
        .find_map(|argument| text(argument).strip_prefix("--drain-seconds="))
        .unwrap();
    let drain: u64 = drain.parse().unwrap();
    let pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        .as_u64()
        .unwrap();
    let grace = spec["terminationGracePeriodSeconds"].as_u64().unwrap();
    assert!(grace > 7 * drain + 2 + pause, "{grace}");
}
