//! Client certificates, tokens and reviews: who gets in, what the others hear, and how often the
//! cluster is asked.

use tests_support::clock::wait_for;
use tests_support::kubernetes::objects::CONFIG_MAP;
use tests_support::kubernetes::{CertificateAuthority, KnownUser};

use crate::control_plane::{Caller, Cluster, PATIENCE, PODS, V2};

fn bearer(token: &str) -> Caller {
    Caller::default().with("Authorization", &format!("Bearer {token}"))
}

fn user(name: &str) -> KnownUser {
    KnownUser {
        username: name.to_owned(),
        audiences: vec!["https://kubernetes.default.svc".to_owned()],
        ..KnownUser::default()
    }
}

/// A client certificate is its common name, and `system:masters` need not be asked about.
#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_users() {
    let cluster = Cluster::start(&[]).await;
    let ca = cluster.server.ca();
    let caller = |name: &str, groups: &[&str]| Caller {
        identity: Some(ca.client(name, groups).unwrap()),
        ..Caller::default()
    };
    let reply = cluster
        .get(PODS, &caller("root", &["system:masters"]))
        .await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert_eq!(cluster.server.requests("subjectaccessreviews"), 0);
    let reply = cluster.get(PODS, &caller("jane", &["dev"])).await;
    assert_eq!(reply.status, 403);
    let status = reply.json();
    let group = "custom.metrics.k8s.io";
    assert_eq!(
        status["message"],
        format!(
            "pods.{group} \"*\" is forbidden: User \"jane\" cannot get resource \
             \"pods/appmesh_requests_per_second\" in API group \"{group}\" in the namespace \"demo\""
        )
    );
    assert_eq!(status["reason"], "Forbidden");
    assert_eq!(
        status["details"],
        serde_json::json!({"name": "*", "group": group, "kind": "pods"})
    );
    let stranger = CertificateAuthority::new("strangers").unwrap();
    let stranger = Caller {
        identity: Some(stranger.client("root", &["system:masters"]).unwrap()),
        ..Caller::default()
    };
    assert_eq!(cluster.get(PODS, &stranger).await.status, 401);
    cluster.stop().await;
}

/// Tokens are reviewed, and what was answered holds for a while: one question for many requests.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_reviewed_once_in_a_while() {
    let cluster = Cluster::start(&[]).await;
    cluster.server.add_token("t", user("jane"));
    cluster.server.allow("jane");
    let caller = bearer("t");
    for _ in 0..20 {
        assert_eq!(cluster.get(PODS, &caller).await.status, 200);
    }
    assert_eq!(cluster.server.requests("tokenreviews"), 1);
    assert_eq!(cluster.server.requests("subjectaccessreviews"), 1);
    assert_eq!(cluster.get(PODS, &bearer("x")).await.status, 401);
    assert_eq!(cluster.get(PODS, &bearer("")).await.status, 401);
    assert_eq!(
        cluster.get(PODS, &bearer(&"x".repeat(20_000))).await.status,
        401
    );
    cluster.stop().await;
}

/// Without credentials: health and discovery, nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn the_anonymous_get_health_and_discovery() {
    let cluster = Cluster::start(&[]).await;
    let nobody = Caller::default();
    for path in [
        "/healthz",
        "/livez",
        "/readyz",
        "/api",
        "/apis",
        V2,
        "/version",
        "/openapi/v3",
        "/",
    ] {
        let reply = cluster.get(path, &nobody).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
    }
    let reads = "/apis/view.meshmeter.io/v1/namespaces/demo/reads".to_owned();
    for path in [PODS, &reads] {
        let reply = cluster.get(path, &nobody).await;
        assert_eq!(reply.status, 401, "{path}");
        assert_eq!(reply.json()["kind"], "Status", "{path}");
    }
    assert_eq!(cluster.server.requests("tokenreviews"), 0);
    cluster.stop().await;
}

/// While the API server is unreachable, cached reviews hold, the unknown are refused with the
/// reason, and discovery goes on.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_refuses_only_the_unknown() {
    let cluster = Cluster::start(&[]).await;
    cluster.server.allow("jane");
    let (jane, john) = (cluster.front_proxy("jane"), cluster.front_proxy("john"));
    assert_eq!(cluster.get(PODS, &jane).await.status, 200);
    cluster
        .server
        .set_outage(Some(http::StatusCode::SERVICE_UNAVAILABLE));
    assert_eq!(cluster.get(PODS, &jane).await.status, 200);
    assert_eq!(cluster.get(V2, &john).await.status, 200);
    let reply = cluster.get(PODS, &john).await;
    assert_eq!(reply.status, 503);
    let message = reply.json()["message"].as_str().unwrap().to_owned();
    assert!(
        message.contains("User \"john\"") && message.contains("503"),
        "{message}"
    );
    cluster.server.set_outage(None);
    cluster.server.allow("john");
    assert_eq!(cluster.get(PODS, &john).await.status, 200);
    cluster.stop().await;
}

/// The ledger says who read.
#[tokio::test(flavor = "multi_thread")]
async fn readers_are_named() {
    let cluster = Cluster::start(&[]).await;
    cluster.server.allow("jane");
    let jane = cluster.front_proxy("jane");
    cluster.get(PODS, &jane).await;
    let reads = cluster
        .get("/apis/view.meshmeter.io/v1/namespaces/demo/reads", &jane)
        .await;
    let read = &reads.json()["items"][0];
    assert_eq!(read["user"], "jane");
    assert_eq!(read["sumMilli"], 40_000);
    cluster.stop().await;
}

/// A new CA of the front proxies is believed at once, and the old one no more, on connections that
/// are open too.
#[tokio::test(flavor = "multi_thread")]
async fn cas_change_while_it_runs() {
    let cluster = Cluster::start(&[]).await;
    cluster.server.allow("jane");
    let old = cluster.front_proxy("jane");
    assert_eq!(cluster.get(PODS, &old).await.status, 200);
    let ca = CertificateAuthority::new("next-front-proxy-ca").unwrap();
    let objects = cluster.server.objects();
    let name = "extension-apiserver-authentication";
    let mut map = objects.get(CONFIG_MAP, "kube-system", name).unwrap();
    map["data"]["requestheader-client-ca-file"] = ca.pem.clone().into();
    objects.apply(CONFIG_MAP, map.clone());
    let next = Caller {
        identity: Some(ca.client("front-proxy-client", &[]).unwrap()),
        ..old.clone()
    };
    wait_for("the new CA", PATIENCE, async || {
        let reply = cluster.get(PODS, &next).await;
        Ok((reply.status == 200).then_some(()))
    })
    .await
    .unwrap();
    assert_eq!(cluster.get(PODS, &old).await.status, 401);
    // One that cannot be read changes nothing.
    map["data"]["requestheader-client-ca-file"] = "garbage".into();
    objects.apply(CONFIG_MAP, map);
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!(cluster.get(PODS, &next).await.status, 200);
    cluster.stop().await;
}
