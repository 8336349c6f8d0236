//! The watches and reviews against an API server with recorded behaviour, over TLS, by a
//! kubeconfig.

use std::sync::Arc;
use std::time::Duration;

use aggregator_core::pod::PodKey;
use aggregator_directory::{AUTOSCALERS_WATCH, Directory, ObjectKey};
use anyhow::Result;
use common_kubernetes::reviews::Reviewer;
use common_kubernetes::watch::LOST_AFTER;
use common_kubernetes::{Scope, Watches, connection};
use http::StatusCode;
use serde_json::{Value, json};
use tests_support::clock::{system, wait_for};
use tests_support::kubernetes::objects::{AUTOSCALER, DEPLOYMENT, POD, REPLICA_SET, SERVICE};
use tests_support::kubernetes::{ApiServer, KnownUser};
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_mins(1);

struct Cluster {
    server: ApiServer,
    client: kube::Client,
    directory: Arc<Directory>,
    watches: Watches,
    _directory: tempfile::TempDir,
}

async fn cluster(scopes: &[Scope]) -> Result<Cluster> {
    let server = ApiServer::start().await?;
    let directory = tempfile::tempdir()?;
    let kubeconfig = directory.path().join("kubeconfig");
    server.write_kubeconfig(&kubeconfig)?;
    let client = connection::connect(Some(&kubeconfig)).await?;
    let known = Arc::new(Directory::default());
    server.objects().apply(POD, pod("prod", "jazz-1"));
    server.objects().apply(POD, pod("dev", "jazz-1"));
    let mut watches = Watches::new(client.clone(), system(), CancellationToken::new());
    aggregator_directory::follow(&mut watches, &known, scopes);
    Ok(Cluster {
        server,
        client,
        directory: known,
        watches,
        _directory: directory,
    })
}

fn pod(namespace: &str, name: &str) -> Value {
    json!({
        "metadata": {"namespace": namespace, "name": name, "labels": {"app": "jazz"}, "ownerReferences": [
            {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "jazz", "uid": "r", "controller": true}]},
        "spec": {"containers": []},
        "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}]},
    })
}

fn keys(directory: &Directory) -> Vec<String> {
    directory
        .pod_keys()
        .iter()
        .map(ToString::to_string)
        .collect()
}

async fn becomes(directory: &Directory, pods: &[&str]) {
    let known = wait_for("the pods", PATIENCE, async || {
        Ok((keys(directory) == pods).then_some(()))
    });
    assert!(
        known.await.is_ok(),
        "{:?} instead of {pods:?}",
        keys(directory)
    );
}

/// What is there is listed, what comes and goes is followed, services and owners too.
#[tokio::test]
async fn follows_objects() {
    let Cluster {
        server,
        directory,
        watches,
        ..
    } = &cluster(&[Scope::All]).await.unwrap();
    becomes(directory, &["dev/jazz-1", "prod/jazz-1"]).await;
    let objects = server.objects();
    let owner = json!([{"apiVersion": "apps/v1", "kind": "Deployment", "name": "jazz", "uid": "d", "controller": true}]);
    objects.apply(
        REPLICA_SET,
        json!({"metadata": {"namespace": "prod", "name": "jazz", "uid": "r", "ownerReferences": owner}}),
    );
    objects.apply(
        DEPLOYMENT,
        json!({"metadata": {"namespace": "prod", "name": "jazz", "uid": "d"}}),
    );
    objects.apply(SERVICE, json!({"metadata": {"namespace": "prod", "name": "jazz"}, "spec": {"selector": {"app": "jazz"}}}));
    objects.apply(POD, pod("prod", "jazz-2"));
    objects.delete(POD, "dev", "jazz-1");
    becomes(directory, &["prod/jazz-1", "prod/jazz-2"]).await;
    let deployment = ObjectKey::new("prod", "apps", "Deployment", "jazz");
    let pods = [PodKey::new("prod", "jazz-1"), PodKey::new("prod", "jazz-2")];
    let found = wait_for("the owners", PATIENCE, async || {
        let ready =
            directory.service_keys().len() == 1 && watches.fault()(system().now()).is_none();
        Ok((ready && directory.pods_of_owner(&deployment).as_deref() == Some(&pods)).then_some(()))
    });
    found.await.unwrap();
}

/// Only the namespace asked for.
#[tokio::test]
async fn keeps_to_its_namespace() {
    let scope = Scope::Namespace("dev".to_owned());
    let Cluster {
        server, directory, ..
    } = &cluster(&[scope]).await.unwrap();
    becomes(directory, &["dev/jazz-1"]).await;
    server.objects().apply(POD, pod("prod", "jazz-2"));
    server.objects().apply(POD, pod("dev", "jazz-2"));
    becomes(directory, &["dev/jazz-1", "dev/jazz-2"]).await;
}

/// A broken watch goes on where it was; one whose past is forgotten lists again, and what went
/// meanwhile is gone.
#[tokio::test]
async fn survives_breaks() {
    let Cluster {
        server, directory, ..
    } = &cluster(&[Scope::All]).await.unwrap();
    becomes(directory, &["dev/jazz-1", "prod/jazz-1"]).await;
    server.break_watches();
    server.objects().apply(POD, pod("prod", "jazz-2"));
    becomes(directory, &["dev/jazz-1", "prod/jazz-1", "prod/jazz-2"]).await;
    assert_eq!(server.requests("list pods"), 1);
    server.set_outage(Some(StatusCode::SERVICE_UNAVAILABLE));
    server.objects().delete(POD, "prod", "jazz-1");
    server.objects().compact();
    assert_eq!(directory.len(), 3, "what is known is served on");
    server.set_outage(None);
    becomes(directory, &["dev/jazz-1", "prod/jazz-2"]).await;
}

/// A watch that is not listed, or silent for too long, is a fault that says why.
#[tokio::test]
async fn shows_what_is_lost() {
    let Cluster {
        server,
        directory,
        watches,
        ..
    } = &cluster(&[Scope::All]).await.unwrap();
    becomes(directory, &["dev/jazz-1", "prod/jazz-1"]).await;
    let fault = watches.fault();
    wait_for("all lists", PATIENCE, async || {
        Ok(fault(system().now()).is_none().then_some(()))
    })
    .await
    .unwrap();
    server.set_outage(Some(StatusCode::FORBIDDEN));
    let later = || system().now() + LOST_AFTER + Duration::from_secs(1);
    let told = wait_for("the failure", PATIENCE, async || {
        Ok(fault(later()).filter(|fault| fault.contains("injected")))
    });
    let told = told.await.unwrap();
    assert!(
        told.starts_with("the watch of pods in all namespaces has been silent for"),
        "{told}"
    );
    server.set_outage(None);
    wait_for("the recovery", PATIENCE, async || {
        Ok(fault(system().now()).is_none().then_some(()))
    })
    .await
    .unwrap();
}

/// The config map of the aggregation layer, and its changes.
#[tokio::test]
async fn follows_the_authentication() {
    let mut cluster = cluster(&[]).await.unwrap();
    let mut config = cluster.watches.follow_authentication();
    let known = tokio::time::timeout(PATIENCE, config.wait_for(Option::is_some))
        .await
        .unwrap()
        .unwrap()
        .clone();
    assert_eq!(
        known.unwrap()["requestheader-username-headers"],
        "[\"X-Remote-User\"]"
    );
}

/// A token is somebody only for the audiences it is for; a revoked one is nobody.
#[tokio::test]
async fn reviews_tokens() {
    let Cluster { server, client, .. } = cluster(&[]).await.unwrap();
    let user = KnownUser {
        username: "system:serviceaccount:prod:jazz".to_owned(),
        audiences: vec!["meshmeter".to_owned()],
        ..KnownUser::default()
    };
    server.add_token("t", user);
    let reviewer = Reviewer::new(client);
    let ours = ["meshmeter".to_owned()];
    let name = async |token: &str, audiences: &[String]| {
        reviewer
            .token(token, audiences)
            .await
            .unwrap()
            .and_then(|user| user.username)
    };
    assert_eq!(
        name("t", &ours).await.as_deref(),
        Some("system:serviceaccount:prod:jazz")
    );
    assert_eq!(name("t", &[]).await, None);
    assert_eq!(name("x", &ours).await, None);
    server.revoke_token("t");
    assert_eq!(name("t", &ours).await, None);
}

/// Autoscalers come and go; without the permission, and where they are not served, there are none,
/// readiness does not depend on it, and the reason can be asked for.
#[tokio::test]
async fn does_without_autoscalers() {
    let mut cluster = cluster(&[Scope::All]).await.unwrap();
    let (server, directory) = (&cluster.server, &cluster.directory);
    let jazz = json!({
        "metadata": {"namespace": "prod", "name": "jazz"},
        "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "jazz"}, "maxReplicas": 5},
        "status": {"currentReplicas": 1, "desiredReplicas": 2},
    });
    server.objects().apply(AUTOSCALER, jazz.clone());
    server.set_forbidden(AUTOSCALER, true);
    aggregator_directory::follow_autoscalers(&mut cluster.watches, directory, &[Scope::All]);
    let fault = cluster.watches.fault();
    let own = cluster.watches.fault_of(AUTOSCALERS_WATCH);
    let now = || system().now();
    let own_fault = async |expected: &str| {
        wait_for(expected, PATIENCE, async || {
            Ok(own(now()).filter(|fault| fault.contains(expected)))
        })
        .await
        .unwrap()
    };
    let reason = own_fault("is forbidden").await;
    assert!(
        reason.starts_with("horizontalpodautoscalers in all namespaces: "),
        "{reason}"
    );
    wait_for("readiness without autoscalers", PATIENCE, async || {
        Ok(fault(now() + Duration::from_mins(1))
            .is_none()
            .then_some(()))
    })
    .await
    .unwrap();
    server.set_absent(AUTOSCALER, true);
    server.set_forbidden(AUTOSCALER, false);
    own_fault("does not know").await;
    server.set_absent(AUTOSCALER, false);
    let known = wait_for("the autoscaler", PATIENCE, async || {
        Ok(directory.autoscaler("prod", "jazz"))
    });
    assert_eq!(
        known
            .await
            .unwrap()
            .status
            .as_ref()
            .unwrap()
            .desired_replicas,
        2
    );
    assert_eq!(own(now()), None);
    server.objects().delete(AUTOSCALER, "prod", "jazz");
    wait_for("its end", PATIENCE, async || {
        Ok(directory.autoscalers().is_empty().then_some(()))
    })
    .await
    .unwrap();
}
