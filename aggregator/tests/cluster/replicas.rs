//! Replicas ask each other for what each alone knows, and say who gave nothing.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde_json::Value;
use tests_support::clock::wait_for;
use tests_support::kubernetes::KnownUser;
use tokio::net::{TcpListener, TcpSocket};

use crate::control_plane::{Cluster, PATIENCE, PODS, Running, get};

const VIEW: &str = "/apis/view.meshmeter.io/v1";
const ACCOUNT: &str = "system:serviceaccount:meshmeter:meshmeter";

/// Names of the replicas in a document, each with its error.
fn replicas(document: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let replicas = document["replicas"].as_array().unwrap().iter();
    replicas
        .map(|one| (text(&one["name"]), text(&one["error"])))
        .collect()
}

/// A file with a token of the aggregators' service account.
fn token_of_account(cluster: &Cluster) -> PathBuf {
    let account = KnownUser {
        username: ACCOUNT.to_owned(),
        audiences: vec!["https://kubernetes.default.svc".to_owned()],
        ..KnownUser::default()
    };
    cluster.server.add_token("the-account", account);
    let token = cluster.directory.path().join("token");
    std::fs::write(&token, "the-account\n").unwrap();
    token
}

/// Of three other replicas one answers, one hangs and one is dead: what the first one was asked is
/// in the answer, and the two are named with the reason.
#[tokio::test(flavor = "multi_thread")]
async fn others_are_asked() {
    let first = Cluster::start(&["--replica-name=first"]).await;
    let jane = first.front_proxy("jane");
    for user in ["jane", ACCOUNT] {
        first.server.allow(user);
    }
    let token = token_of_account(&first);
    assert_eq!(first.get(PODS, &jane).await.status, 200);
    // Connections are taken by the kernel, and nobody ever speaks.
    let hangs = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hangs_at = hangs.local_addr().unwrap();
    // The port is taken, and nobody listens.
    let dead = TcpSocket::new_v4().unwrap();
    dead.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let dead_at = dead.local_addr().unwrap();
    let peers =
        [first.addresses.api, hangs_at, dead_at].map(|address: SocketAddr| address.to_string());
    let (peers, token) = (peers.join(","), token.display().to_string());
    let flags = [
        "--replica-name=second",
        "--peers",
        &peers,
        "--peers-token-file",
        &token,
    ];
    let second = Running::begin(&first.server, &flags).await;
    let reads = format!("{VIEW}/namespaces/demo/reads");
    // Its certificate and its trust come from the cluster, a moment after it listens.
    let list = wait_for("the other replica's reads", PATIENCE, async || {
        let reply = get(second.addresses, &reads, &jane).await;
        let list = (reply.status == 200).then(|| reply.json());
        Ok(list.filter(|list| {
            list["items"]
                .as_array()
                .is_some_and(|items| !items.is_empty())
        }))
    });
    let list = list.await.unwrap();
    assert_eq!(list["items"][0]["replica"], "first");
    assert_eq!(list["items"][0]["user"], "jane");
    let answers = replicas(&list);
    let error_of = |name: &str| {
        answers
            .iter()
            .find(|(one, _)| one == name)
            .unwrap()
            .1
            .clone()
    };
    assert_eq!(
        (error_of("first"), error_of("second")),
        (String::new(), String::new())
    );
    assert_eq!(error_of(&hangs_at.to_string()), "no answer within 2 s");
    assert!(error_of(&dead_at.to_string()).starts_with("cannot connect"));
    // Asked by another replica, each says only what it knows itself.
    let own = get(first.addresses, &format!("{reads}?replica=self"), &jane)
        .await
        .json();
    assert_eq!(replicas(&own), [("first".to_owned(), String::new())]);
    let health = get(second.addresses, &format!("{VIEW}/health"), &jane)
        .await
        .json();
    let names: Vec<_> = replicas(&health)
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(names.len(), 4, "{names:?}");
    assert!(health["replicas"][0]["notReady"].is_array());
    second.shutdown.cancel();
    second.task.await.unwrap().unwrap();
    first.stop().await;
}

/// Without the right another replica's part is refused, and that is said.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_named() {
    let first = Cluster::start(&["--replica-name=first"]).await;
    let jane = first.front_proxy("jane");
    first.server.allow("jane");
    let account = KnownUser {
        username: ACCOUNT.to_owned(),
        audiences: vec!["https://kubernetes.default.svc".to_owned()],
        ..KnownUser::default()
    };
    first.server.add_token("the-account", account);
    let token = first.directory.path().join("token");
    std::fs::write(&token, "the-account").unwrap();
    let (peers, token) = (first.addresses.api.to_string(), token.display().to_string());
    let flags = ["--peers", &peers, "--peers-token-file", &token];
    let second = Running::begin(&first.server, &flags).await;
    let refusal = wait_for("the refusal", PATIENCE, async || {
        let reply = get(second.addresses, &format!("{VIEW}/health"), &jane).await;
        if reply.status != 200 {
            return Ok(None);
        }
        let errors = replicas(&reply.json()).into_iter().map(|(_, error)| error);
        Ok(errors.into_iter().find(|error| error.starts_with("403: ")))
    });
    let refusal = refusal.await.unwrap();
    assert!(
        refusal.contains("health.view.meshmeter.io is forbidden"),
        "{refusal}"
    );
    second.shutdown.cancel();
    second.task.await.unwrap().unwrap();
    first.stop().await;
}
