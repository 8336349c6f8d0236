//! All that a program asks of a cluster is permitted by the manifests, and they permit nothing that
//! it does not ask.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tests_deploy::helm::chart;
use tests_deploy::permissions::{Request, Rule, rules};
use tests_deploy::{list, text};
use tests_support::clock::wait_for;
use tests_support::kubernetes::Resource;
use tests_support::kubernetes::custom;
use tests_support::kubernetes::objects::{CONFIG_MAP, NAMESPACE, SECRET, WEBHOOK_CONFIGURATION};

use crate::PATIENCE;
use crate::running::{Running, registered, run};

/// A verb of a role on one of its resources.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Use {
    role: String,
    verb: String,
    resource: String,
}

// === impl Use ===

impl Use {
    /// All that our own roles permit.
    fn all(rules: &[Rule]) -> BTreeSet<Self> {
        let ours = rules
            .iter()
            .filter(|rule| rule.role.starts_with("meshmeter"));
        ours.flat_map(|rule| {
            let verbs = list(&rule.value["verbs"]).iter().map(text);
            verbs.flat_map(move |verb| {
                let resources = list(&rule.value["resources"]).iter().map(text);
                resources.map(move |resource| Self {
                    role: rule.role.clone(),
                    verb: verb.to_owned(),
                    resource: resource.to_owned(),
                })
            })
        })
        .collect()
    }

    fn is_made(&self, asked: &[Request], rules: &[Rule]) -> bool {
        asked.iter().any(|request| {
            request.verb == self.verb
                && request.resource == self.resource
                && rules
                    .iter()
                    .any(|rule| rule.role == self.role && rule.permits(request))
        })
    }
}

fn asked(of: &[Running]) -> Vec<Request> {
    let seen = of.iter().flat_map(|running| running.server.seen());
    seen.map(|(method, path)| {
        Request::parse(&method, &path).unwrap_or_else(|| panic!("{method} {path}"))
    })
    .collect()
}

/// `elsewhere`: resources that are asked for only by what another test does.
async fn are_those_that_are_used(running: &[Running], rules: &[Rule], elsewhere: &[&str]) {
    let mut wanted = Use::all(rules);
    wanted.retain(|one| !elsewhere.contains(&one.resource.as_str()));
    let unused = || -> Vec<Use> {
        let asked = asked(running);
        let unused = wanted.iter().filter(|one| !one.is_made(&asked, rules));
        unused.cloned().collect()
    };
    let ended = wait_for("use of every permission", PATIENCE, async || {
        Ok(unused().is_empty().then_some(()))
    });
    assert!(
        ended.await.is_ok(),
        "permitted and never used: {:?}",
        unused()
    );
    for request in asked(running) {
        let permitted = rules.iter().any(|rule| rule.permits(&request));
        assert!(permitted, "not permitted: {request:?}");
    }
}

/// The secret that `running` made, at the end of the time that a CA beside the one that signs is
/// published.
async fn rotating(running: &Running, name: &str) -> Value {
    let made = wait_for("the secret", PATIENCE, async || {
        Ok(running.server.objects().get(SECRET, "meshmeter", name))
    });
    let mut secret = made.await.unwrap();
    secret["data"]["next.crt"] = secret["data"]["tls.crt"].clone();
    secret["data"]["next.key"] = secret["data"]["tls.key"].clone();
    // 600
    secret["data"]["waited-seconds"] = "NjAw".into();
    secret
}

#[tokio::test]
async fn of_the_aggregator() {
    let objects = chart(
        "
ingest: {tls: required, identity: token}
remoteWrite: {receiver: other, url: 'http://127.0.0.1:9/api/v1/write'}
",
    )
    .unwrap();
    let rules = rules(&objects, "meshmeter").unwrap();
    assert!(Use::all(&rules).len() > 6);
    // One cluster with nothing in it, and one whose pods were told of another CA while it is
    // replaced.
    let other = json!({"metadata": {"namespace": "meshmeter", "name": "meshmeter-ca"}, "data": {"ca.crt": "another"}});
    let empty = registered(&objects);
    let mut told = empty.clone();
    told.push((CONFIG_MAP, other));
    let first = run(&objects, "StatefulSet", "meshmeter", &empty).await;
    told.push((SECRET, rotating(&first, "meshmeter-api-ca").await));
    let second = run(&objects, "StatefulSet", "meshmeter", &told).await;
    let clusters = [first, second];
    // Replicas ask each other for these, not the cluster.
    are_those_that_are_used(&clusters, &rules, &["reads", "health"]).await;
}

/// Namespaces with the label and without, with the `ConfigMap` of CAs as it should not be, and
/// none.
fn meshed() -> Vec<(Resource, Value)> {
    let namespace = |name: &str, labels: Value| {
        let metadata = json!({"name": name, "labels": labels});
        (NAMESPACE, json!({"metadata": metadata}))
    };
    let map = |namespace: &str| {
        let labels = json!({
            "app.kubernetes.io/managed-by": "meshmeter-injector",
            "meshmeter.io/installed-in": "meshmeter",
        });
        let metadata = json!({"namespace": namespace, "name": "meshmeter-ca", "labels": labels});
        let map = json!({"metadata": metadata, "data": {"ca.crt": "another"}});
        (CONFIG_MAP, map)
    };
    let asks = || json!({"meshmeter.io/inject": "enabled"});
    vec![
        namespace("empty", asks()),
        namespace("stale", asks()),
        namespace("silent", json!({})),
        map("stale"),
        map("silent"),
    ]
}

/// As it is, with Envoys to add, and with TLS. Events are raised
/// by reviews: the webhook's own tests.
#[tokio::test]
async fn of_the_injector() {
    let metadata = json!({"name": "aa-meshmeter-injector"});
    let webhooks = json!([{"name": "pods.meshmeter.io", "clientConfig": {}}]);
    let mut there = meshed();
    there.push((
        WEBHOOK_CONFIGURATION,
        json!({"metadata": metadata, "webhooks": webhooks}),
    ));
    for values in [
        "",
        "appMesh: {injectEnvoy: true}",
        "ingest: {tls: required, identity: token}",
    ] {
        let objects = chart(values).unwrap();
        let rules = rules(&objects, "meshmeter-injector").unwrap();
        let first = run(&objects, "Deployment", "meshmeter-injector", &there).await;
        let mut rotated = there.clone();
        rotated.push((SECRET, rotating(&first, "meshmeter-injector-ca").await));
        let second = run(&objects, "Deployment", "meshmeter-injector", &rotated).await;
        are_those_that_are_used(&[first, second], &rules, &["events"]).await;
    }
}

/// Each kind of custom resource with something that is refused, so that its status and an Event say
/// so.
#[tokio::test]
async fn of_the_control_plane() {
    let objects = chart("").unwrap();
    let rules = rules(&objects, "meshmeter-control-plane").unwrap();
    let refused = custom::RESOURCES.map(|resource| {
        let metadata = json!({"namespace": "prod", "name": "refused"});
        let object = json!({"metadata": metadata, "spec": {"unknown": true}});
        (resource, object)
    });
    let clusters = [run(&objects, "Deployment", "meshmeter-control-plane", &refused).await];
    are_those_that_are_used(&clusters, &rules, &[]).await;
}
