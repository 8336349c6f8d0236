//! The `ConfigMap` with the CAs of the aggregators, in each namespace whose pods are injected.

use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;
use tests_support::clock::wait_for;
use tests_support::kubernetes::ApiServer;
use tests_support::kubernetes::objects::{
    CONFIG_MAP, EVENT, LEASE, NAMESPACE, WEBHOOK_CONFIGURATION,
};

use crate::program::{PATIENCE, Program, configuration};
use crate::self_managed::start;

const NAME: &str = "meshmeter-ca";
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// What somebody does to ours in a namespace; `None`: deletes it.
type Edit = (&'static str, Option<fn(&mut Value)>);

/// A cluster, and the file in which the injector finds the CAs.
struct Cluster {
    server: ApiServer,
    folder: TempDir,
}

// === impl Cluster ===

impl Cluster {
    async fn new() -> Self {
        let server = ApiServer::start().await.unwrap();
        let objects = server.objects();
        objects.apply(WEBHOOK_CONFIGURATION, configuration());
        let cluster = Self {
            server,
            folder: tempfile::tempdir().unwrap(),
        };
        cluster.rotate("one");
        cluster
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("ca.crt")
    }

    /// Another CA is in the file, as the kubelet replaces it.
    fn rotate(&self, name: &str) {
        let next = self.folder.path().join("next");
        std::fs::write(&next, pem(name)).unwrap();
        std::fs::rename(&next, self.file()).unwrap();
    }

    async fn injector(&self, replica: &str) -> Program {
        let flags = [
            format!("--aggregator-ca-file={}", self.file().display()),
            format!("--aggregator-ca-configmap={NAME}"),
            format!("--lease-identity={replica}"),
        ];
        let flags: Vec<_> = flags.iter().map(String::as_str).collect();
        start(&self.server, &flags).await
    }

    fn namespace(&self, name: &str, asks: bool) {
        let labels = if asks {
            json!({"meshmeter.io/inject": "enabled"})
        } else {
            json!({})
        };
        let namespace = json!({"metadata": {"name": name, "labels": labels}});
        self.server.objects().apply(NAMESPACE, namespace);
    }

    fn held(&self, namespace: &str) -> Option<Value> {
        self.server.objects().get(CONFIG_MAP, namespace, NAME)
    }

    fn put(&self, namespace: &str, change: impl FnOnce(&mut Value)) {
        let mut held = self.held(namespace).unwrap();
        change(&mut held);
        self.server.objects().apply(CONFIG_MAP, held);
    }

    /// Waits until the namespace has these CAs, and nothing else, under our name; `None`: until it
    /// has none.
    async fn has(&self, namespace: &str, ca: Option<&str>) {
        let expected = ca.map(|name| json!({"ca.crt": pem(name)}));
        let what = format!("{ca:?} in {namespace}");
        wait_for(&what, PATIENCE, async || {
            let data = self.held(namespace).map(|held| held["data"].clone());
            Ok((data == expected).then_some(()))
        })
        .await
        .unwrap();
    }

    fn events(&self) -> Vec<Value> {
        self.server.objects().list(EVENT, "").1
    }
}

fn pem(name: &str) -> String {
    format!("-----BEGIN CERTIFICATE-----\n{name}\n-----END CERTIFICATE-----\n")
}

fn outcome(outcome: &str) -> String {
    format!("ca_configmaps_total{{outcome=\"{outcome}\"}}")
}

fn state(state: &str) -> String {
    format!("ca_namespaces{{state=\"{state}\"}}")
}

/// Each namespace with the label has it, whatever becomes of it there; it goes with the label, and
/// follows the file.
#[tokio::test(flavor = "multi_thread")]
async fn a_meshed_namespace_has_the_authorities() {
    let cluster = Cluster::new().await;
    // A namespace each: whoever writes against us again and again waits longer and longer.
    let edits: [Edit; 5] = [
        (
            "edited",
            Some(|held| held["data"]["ca.crt"] = "mine".into()),
        ),
        ("further", Some(|held| held["data"]["further"] = "x".into())),
        ("emptied", Some(|held| held["data"] = Value::Null)),
        (
            "immutable",
            Some(|held| {
                held["data"]["ca.crt"] = "mine".into();
                held["immutable"] = true.into();
            }),
        ),
        ("deleted", None),
    ];
    let meshed = edits.map(|(name, _)| name);
    let untouched = ["kube-system", "kube-public", "kube-node-lease", "meshmeter"];
    for name in meshed.into_iter().chain(untouched) {
        cluster.namespace(name, true);
    }
    cluster.namespace("test", false);
    let program = cluster.injector("a").await;
    for name in meshed {
        cluster.has(name, Some("one")).await;
    }
    let labels = cluster.held("edited").unwrap()["metadata"]["labels"].clone();
    let expected =
        json!({MANAGED_BY: "meshmeter-injector", "meshmeter.io/installed-in": "meshmeter"});
    assert_eq!(labels, expected);
    assert_eq!(cluster.held("test"), None);
    cluster.namespace("test", true);
    cluster.has("test", Some("one")).await;

    for (name, edit) in edits {
        match edit {
            Some(edit) => cluster.put(name, edit),
            None => assert!(cluster.server.objects().delete(CONFIG_MAP, name, NAME)),
        }
    }
    for name in meshed {
        cluster.has(name, Some("one")).await;
    }
    cluster.rotate("two");
    for name in meshed {
        cluster.has(name, Some("two")).await;
    }
    cluster.namespace("test", false);
    cluster.has("test", None).await;
    program.wait_metric(&state("current"), 5.0).await;
    program.wait_metric(&outcome("created"), 8.0).await;
    program.wait_metric(&outcome("removed"), 2.0).await;
    program.wait_metric(&outcome("failed"), 0.0).await;
    for namespace in untouched {
        assert_eq!(cluster.held(namespace), None, "{namespace}");
    }
    assert!(cluster.events().is_empty());
}

/// Each belongs to the webhook's configuration, as it is by then, so that Kubernetes removes them
/// with it; once that is gone none is made.
#[tokio::test(flavor = "multi_thread")]
async fn they_go_with_the_webhook() {
    let cluster = Cluster::new().await;
    let name = configuration()["metadata"]["name"].clone();
    let owned = |cluster: &Cluster, namespace: &str| {
        let metadata = cluster.held(namespace).unwrap()["metadata"].clone();
        let objects = cluster.server.objects();
        let configuration = objects.get(WEBHOOK_CONFIGURATION, "", name.as_str().unwrap());
        let owner = json!([{
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "name": name,
            "uid": configuration.unwrap()["metadata"]["uid"],
        }]);
        assert_eq!(metadata["ownerReferences"], owner, "{namespace}");
    };
    cluster.namespace("first", true);
    let program = cluster.injector("a").await;
    cluster.has("first", Some("one")).await;
    owned(&cluster, "first");
    let objects = cluster.server.objects();
    assert!(objects.delete(WEBHOOK_CONFIGURATION, "", name.as_str().unwrap()));
    cluster.namespace("second", true);
    program.wait_metric(&state("behind"), 1.0).await;
    assert_eq!(cluster.held("second"), None);
    objects.apply(WEBHOOK_CONFIGURATION, configuration());
    cluster.has("second", Some("one")).await;
    owned(&cluster, "second");
}

/// What somebody else has under the name is left as it is, also when the label goes; the namespace
/// hears of it once. Once it is away, ours is there.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_ours_is_refused() {
    let cluster = Cluster::new().await;
    let objects = cluster.server.objects();
    for (namespace, labels) in [
        ("nobodys", json!(null)),
        ("aggregators", json!({MANAGED_BY: "meshmeter"})),
        (
            "elsewhere",
            json!({MANAGED_BY: "meshmeter-injector", "meshmeter.io/installed-in": "other"}),
        ),
    ] {
        cluster.namespace(namespace, true);
        let metadata = json!({"namespace": namespace, "name": NAME, "labels": labels});
        let map = json!({"metadata": metadata, "data": {"ca.crt": pem("theirs")}});
        objects.apply(CONFIG_MAP, map);
    }
    let program = cluster.injector("a").await;
    program.wait_metric(&state("refused"), 3.0).await;
    program.wait_metric(&outcome("refused"), 3.0).await;
    let said = wait_for("events", PATIENCE, async || {
        let events = cluster.events();
        Ok((events.len() == 3).then_some(events))
    });
    for event in said.await.unwrap() {
        assert_eq!(event["reason"], "CaNotWritten");
        assert_eq!(event["involvedObject"]["kind"], "Namespace");
        let message = event["message"].as_str().unwrap();
        let namespace = event["involvedObject"]["name"].as_str().unwrap();
        assert!(message.contains(namespace) && message.contains("delete or rename"));
    }
    cluster.namespace("elsewhere", false);
    program.wait_metric(&state("refused"), 2.0).await;
    cluster.has("elsewhere", Some("theirs")).await;
    assert!(objects.delete(CONFIG_MAP, "nobodys", NAME));
    cluster.has("nobodys", Some("one")).await;
    cluster.has("aggregators", Some("theirs")).await;
    assert_eq!(cluster.events().len(), 3);
}

/// Of two replicas one writes; the other goes on when that one ends, at once.
#[tokio::test(flavor = "multi_thread")]
async fn one_replica_writes() {
    let cluster = Cluster::new().await;
    cluster.namespace("prod", true);
    let mut first = cluster.injector("first").await;
    cluster.has("prod", Some("one")).await;
    let second = cluster.injector("second").await;
    second.wait_ready().await;
    cluster.rotate("two");
    cluster.has("prod", Some("two")).await;
    first.wait_metric(&outcome("changed"), 1.0).await;
    assert!(second.metric(&outcome("changed")).await < 0.5);
    first.process.terminate(PATIENCE).await.unwrap();
    let holder = wait_for("another holder", PATIENCE, async || {
        let lease = cluster.server.objects();
        let lease = lease.get(LEASE, "meshmeter", "meshmeter-injector").unwrap();
        Ok((lease["spec"]["holderIdentity"] == "second").then_some(()))
    });
    holder.await.unwrap();
    cluster.namespace("test", true);
    cluster.has("test", Some("two")).await;
    second.wait_metric(&outcome("created"), 1.0).await;
}

/// What could not be written is tried again; pods are injected meanwhile, and the webhook stays
/// ready.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_is_survived() {
    let cluster = Cluster::new().await;
    let program = cluster.injector("a").await;
    program.wait_ready().await;
    cluster
        .server
        .set_outage(Some(http::StatusCode::SERVICE_UNAVAILABLE));
    cluster.namespace("prod", true);
    wait_for("the outage in the log", PATIENCE, async || {
        let log = program.process.log();
        Ok(log.contains("lease not renewed").then_some(()))
    })
    .await
    .unwrap();
    assert_eq!(program.ready().await, (true, "ok".to_owned()));
    cluster.server.set_outage(None);
    cluster.has("prod", Some("one")).await;
}
