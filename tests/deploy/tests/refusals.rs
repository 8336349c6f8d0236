//! Values that do not go together are refused by a sentence that names both, and values of the
//! wrong type by the schema.

use tests_deploy::helm::{CHART, Helm, Release};
use tests_deploy::read;

const AMP: &str =
    "url: 'https://aps-workspaces.eu-west-1.amazonaws.com/workspaces/ws-0/api/v1/remote_write'";

/// What does not go together: (values, what the sentence says of one, and of the other).
const TOGETHER: [(&str, &str, &str); 35] = [
    (
        "mesh: istio\nappMesh: {injectEnvoy: true}",
        "appMesh.injectEnvoy is true",
        "mesh is istio",
    ),
    (
        "mesh: plain\nappMesh: {crds: true}",
        "appMesh.crds is true",
        "mesh is plain",
    ),
    (
        "mesh: none\nappMesh: {upstream: 'http://a:1'}",
        "appMesh.upstream is set",
        "mesh is none",
    ),
    (
        "appMesh: {sdsSocket: /run/a.sock}",
        "appMesh.sdsSocket is set",
        "appMesh.injectEnvoy is false",
    ),
    (
        "mesh: istio\nappMesh: {acm: {'arn:aws:acm:a': b}}",
        "appMesh.acm is set",
        "mesh is istio",
    ),
    (
        "mesh: istio\nappMesh: {failurePolicy: Fail}",
        "appMesh.failurePolicy is Fail",
        "mesh is istio",
    ),
    (
        "appMesh: {controlPlane: other}",
        "appMesh.controlPlane is other",
        "appMesh.upstream is empty",
    ),
    (
        "appMesh: {upstream: 'http://a:1'}",
        "appMesh.upstream is set",
        "appMesh.controlPlane is meshmeter",
    ),
    (
        "appMesh: {injectEnvoy: true, envoyImage: ''}",
        "appMesh.injectEnvoy is true",
        "appMesh.envoyImage is empty",
    ),
    (
        "appMesh: {injectEnvoy: true, redirectImage: ''}",
        "appMesh.injectEnvoy is true",
        "appMesh.redirectImage is empty",
    ),
    (
        "ingest: {identity: token}",
        "ingest.identity is token",
        "ingest.tls is off",
    ),
    (
        "mesh: istio\nmeshedNamespaces: [a]\ningest: {tls: required}",
        "meshedNamespaces is set",
        "ingest.tls is required",
    ),
    (
        "mesh: istio\nmeshedNamespaces: [a]\ningest: {tls: permissive, identity: token}",
        "meshedNamespaces is set",
        "ingest.identity is token",
    ),
    (
        "mesh: plain\nmeshedNamespaces: [a]",
        "meshedNamespaces is set",
        "mesh is plain",
    ),
    (
        "meshedNamespaces: [kube-system]",
        "meshedNamespaces has kube-system",
        "the release is in meshmeter",
    ),
    (
        "meshedNamespaces: [a, meshmeter]",
        "meshedNamespaces has meshmeter",
        "the release is in meshmeter",
    ),
    (
        "istio: {selector: {app: a}}",
        "istio.selector is set",
        "mesh is app-mesh",
    ),
    (
        "mesh: none\nistio: {pluginConfig: {responses: code}}",
        "istio.pluginConfig is set",
        "mesh is none",
    ),
    (
        "remoteWrite: {url: 'http://a'}",
        "remoteWrite.url is set",
        "remoteWrite.receiver is none",
    ),
    (
        "remoteWrite: {receiver: other}",
        "remoteWrite.receiver is other",
        "remoteWrite.url is empty",
    ),
    (
        "remoteWrite: {receiver: amp, url: 'http://a', cluster: a, aws: {credentials: pod-identity}}",
        "remoteWrite.receiver is amp",
        "remoteWrite.url begins with http://",
    ),
    (
        "remoteWrite: {receiver: other, AMP}",
        "remoteWrite.receiver is other",
        "remoteWrite.url is a workspace of AMP",
    ),
    (
        "remoteWrite: {receiver: amp, AMP, aws: {credentials: pod-identity}}",
        "remoteWrite.receiver is amp",
        "remoteWrite.cluster is empty",
    ),
    (
        "remoteWrite: {receiver: amp, AMP, output: sums, cluster: a, aws: {credentials: pod-identity}}",
        "remoteWrite.output is sums",
        "remoteWrite.cluster is set",
    ),
    (
        "remoteWrite: {receiver: other, url: 'http://a', cluster: a}",
        "remoteWrite.receiver is other",
        "remoteWrite.cluster is set",
    ),
    (
        "remoteWrite: {receiver: amp, AMP, cluster: a}",
        "remoteWrite.receiver is amp",
        "remoteWrite.aws.credentials is empty",
    ),
    (
        "remoteWrite: {aws: {credentials: pod-identity}}",
        "remoteWrite.aws.credentials is pod-identity",
        "remoteWrite.receiver is none",
    ),
    (
        "remoteWrite: {receiver: amp, AMP, cluster: a, aws: {credentials: irsa}}",
        "remoteWrite.aws.credentials is irsa",
        "remoteWrite.aws.roleArn is empty",
    ),
    (
        "remoteWrite: {receiver: amp, AMP, cluster: a, aws: {credentials: pod-identity, roleArn: 'arn:aws:iam::111122223333:role/a'}}",
        "remoteWrite.aws.roleArn is set",
        "remoteWrite.aws.credentials is pod-identity",
    ),
    (
        "remoteWrite: {receiver: amp, AMP, cluster: a, aws: {credentials: pod-identity}, auth: {type: bearer, secretName: a}}",
        "remoteWrite.receiver is amp",
        "remoteWrite.auth.type is bearer",
    ),
    (
        "remoteWrite: {receiver: other, url: 'http://a', auth: {type: bearer}}",
        "remoteWrite.auth.type is bearer",
        "remoteWrite.auth.secretName is empty",
    ),
    (
        "remoteWrite: {receiver: other, url: 'http://a', auth: {type: basic, secretName: a}}",
        "remoteWrite.auth.type is basic",
        "remoteWrite.auth.user is empty",
    ),
    (
        "api: {certificate: {source: secret}}",
        "api.certificate.source is secret",
        "api.certificate.ca is empty",
    ),
    (
        "api: {certificate: {ca: '-----BEGIN CERTIFICATE-----'}}",
        "api.certificate.ca is set",
        "api.certificate.source is self-managed",
    ),
    // Two at once: both are said.
    (
        "mesh: none\nappMesh: {crds: true}\ningest: {identity: token}",
        "appMesh.crds is true",
        "ingest.tls is off",
    ),
];

/// What needs what the cluster has not: (values, the value, what is missing).
const MISSING: [(&str, &str, &str); 3] = [
    (
        "api: {certificate: {source: cert-manager}}",
        "api.certificate.source is cert-manager",
        "the cluster has no cert-manager.io/v1",
    ),
    (
        "monitoring: {enabled: true}",
        "monitoring.enabled is true",
        "the cluster has no monitoring.coreos.com/v1",
    ),
    (
        "alerts: {enabled: true}",
        "alerts.enabled is true",
        "the cluster has no monitoring.coreos.com/v1",
    ),
];

/// What is said of a release in the namespace `default`.
const OWN_NAMESPACE: (&str, &str) = (
    "namespace.create is true",
    "the release's namespace is default",
);

/// What the schema refuses: (values, which value).
const TYPES: [(&str, &str); 14] = [
    ("mesh: linkerd", "mesh"),
    ("meshes: app-mesh", "meshes"),
    ("aggregator: {replicas: 5}", "replicas"),
    ("aggregator: {replicas: null}", "replicas"),
    ("aggregator: {replica: 2}", "replica"),
    ("aggregator: {drainSeconds: 301}", "drainSeconds"),
    ("aggregator: {extraArgs: [serve]}", "extraArgs"),
    ("ingest: {tls: true}", "tls"),
    ("remoteWrite: {url: 'ftp://a'}", "url"),
    ("remoteWrite: {aws: {roleArn: a}}", "roleArn"),
    ("istio: {api: EnvoyFilter}", "api"),
    ("istio: {pluginConfig: {role: filter}}", "role"),
    ("image: {aggregator: {digest: latest}}", "digest"),
    ("meshedNamespaces: [Prod]", "meshedNamespaces"),
];

fn refusal(helm: Helm, values: &str, has_operators: bool) -> String {
    let release = Release {
        values,
        has_operators,
        ..Release::default()
    };
    match release.text(helm) {
        Ok(_) => panic!("taken: {values}"),
        Err(error) => format!("{error:#}"),
    }
}

#[test]
fn wrong_combinations_are_refused_by_a_sentence() {
    for (values, one, other) in TOGETHER {
        let values = values.replace("AMP", AMP);
        let said = refusal(Helm::Four, &values, true);
        let sentences = |part: &str| said.lines().any(|line| line.contains(part));
        assert!(sentences(one) && sentences(other), "{values}: {said}");
    }
    for (values, one, other) in MISSING {
        let said = refusal(Helm::Four, values, false);
        let sentence = said
            .lines()
            .find(|line| line.contains(one))
            .unwrap_or(&said);
        assert!(sentence.contains(other), "{values}: {said}");
    }
}

/// Helm 3 says the same.
#[test]
fn both_helms_refuse_alike() {
    let (values, one, _) = TOGETHER[0];
    assert!(refusal(Helm::Three, values, true).contains(one));
    let (values, one, _) = MISSING[0];
    assert!(refusal(Helm::Three, values, false).contains(one));
}

/// Every sentence of the template is in the tables.
#[test]
fn every_sentence_is_tried() {
    let template = read(&format!("{CHART}/templates/validate.yaml")).unwrap();
    let tried: Vec<(&str, &str)> = TOGETHER
        .iter()
        .chain(&MISSING)
        .map(|(_, one, other)| (*one, *other))
        .chain([OWN_NAMESPACE])
        .collect();
    let mut sentences = 0;
    for line in template.lines().filter(|line| line.starts_with("  (list ")) {
        let sentence = line.split('"').find(|part| part.contains(" and ")).unwrap();
        let (one, other) = sentence.split_once(" and ").unwrap();
        let [one, other] = [one, other].map(|part| part.split(['%', ':']).next().unwrap());
        let is_tried = tried.iter().any(|row| {
            row.0.starts_with(one) && (row.1.starts_with(other) || other.starts_with(row.1))
        });
        assert!(is_tried, "{sentence}");
        sentences += 1;
    }
    assert!(sentences > 30, "{sentences}");
}

#[test]
fn the_schema_refuses_what_it_does_not_know() {
    for helm in Helm::ALL {
        for (values, what) in TYPES {
            let said = refusal(helm, values, true);
            assert!(
                said.contains("schema") && said.contains(what),
                "{values}: {said}"
            );
        }
    }
}

/// A namespace that is not ours is not made.
#[test]
fn the_namespace_has_to_be_its_own() {
    let release = Release {
        values: "namespace: {create: true}",
        arguments: &["--namespace=default"],
        ..Release::default()
    };
    let said = format!("{:#}", release.text(Helm::Four).unwrap_err());
    let (one, other) = OWN_NAMESPACE;
    assert!(said.contains(&format!("{one} and {other}")), "{said}");
}
