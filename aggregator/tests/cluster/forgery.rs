//! Who is not a front proxy cannot name a user, whatever else they show, wherever they ask.

use tests_support::kubernetes::{CertificateAuthority, Identity, KnownUser};

use crate::control_plane::{Caller, Cluster, PODS, V2};

const HEADERS: [(&str, &str); 4] = [
    ("X-Remote-User", "admin"),
    ("x-remote-group", "system:masters"),
    ("X-REMOTE-UID", "0"),
    ("X-Remote-Extra-Scopes", "all"),
];

/// Certificates that are not those of a front proxy, and none.
fn impostors(cluster: &Cluster) -> Vec<(&'static str, Option<Identity>)> {
    let server = &cluster.server;
    let clients = server.ca();
    let proxies = server.front_proxy().ca();
    let unknown = CertificateAuthority::new("front-proxy-ca").unwrap();
    let named = "front-proxy-client";
    vec![
        ("no certificate", None),
        (
            "a client",
            Some(clients.client("jane", &["system:masters"]).unwrap()),
        ),
        (
            "a client of that name",
            Some(clients.client(named, &[]).unwrap()),
        ),
        (
            "an unknown CA of that name",
            Some(unknown.client(named, &[]).unwrap()),
        ),
        (
            "a front proxy of another name",
            Some(proxies.client("other", &[]).unwrap()),
        ),
        (
            "a server of that name",
            Some(proxies.server_as(named).unwrap()),
        ),
    ]
}

/// 401 and a `Status` in every combination of certificate, header, token and path.
#[tokio::test(flavor = "multi_thread")]
async fn is_refused_in_every_combination() {
    let cluster = Cluster::start(&[]).await;
    cluster.server.allow("admin");
    cluster.server.allow("jane");
    let known = KnownUser {
        username: "jane".to_owned(),
        audiences: vec!["https://kubernetes.default.svc".to_owned()],
        ..KnownUser::default()
    };
    cluster.server.add_token("good", known);
    let external =
        "/apis/external.metrics.k8s.io/v1beta1/namespaces/demo/appmesh_requests_per_second";
    let reads = "/apis/view.meshmeter.io/v1/namespaces/demo/reads".to_owned();
    let paths = [
        PODS, external, &reads, V2, "/apis", "/version", "/healthz", "/none",
    ];
    let mut refused = 0;
    for (who, identity) in impostors(&cluster) {
        for header in HEADERS {
            for token in [None, Some("good")] {
                for path in paths {
                    let mut caller = Caller {
                        identity: identity.clone(),
                        ..Caller::default()
                    };
                    caller = caller.with(header.0, header.1);
                    if let Some(token) = token {
                        caller = caller.with("Authorization", &format!("Bearer {token}"));
                    }
                    let reply = cluster.get(path, &caller).await;
                    let context = format!("{who}, {header:?}, {token:?}, {path}: {}", reply.text());
                    assert_eq!(reply.status, 401, "{context}");
                    assert_eq!(reply.json()["reason"], "Unauthorized", "{context}");
                    refused += 1;
                }
            }
        }
    }
    assert_eq!(refused, 6 * 4 * 2 * 8);
    assert_eq!(
        cluster.server.requests("tokenreviews"),
        0,
        "nobody is asked about forgeries"
    );
    let metrics = cluster.metrics().await;
    let counted = format!("meshmeter_api_refused_total{{reason=\"authentication\"}} {refused}\n");
    assert!(metrics.contains(&counted), "{metrics}");
    cluster.stop().await;
}

/// The same headers of the front proxy are believed, and its own certificate is no user.
#[tokio::test(flavor = "multi_thread")]
async fn is_not_what_a_front_proxy_does() {
    let cluster = Cluster::start(&[]).await;
    cluster.server.allow("jane");
    let jane = cluster.front_proxy("jane");
    assert_eq!(cluster.get(PODS, &jane).await.status, 200);
    let nameless = Caller {
        headers: vec![("X-Remote-Group".to_owned(), "system:masters".to_owned())],
        ..jane.clone()
    };
    assert_eq!(cluster.get(PODS, &nameless).await.status, 401);
    let silent = Caller {
        headers: Vec::new(),
        ..jane
    };
    assert_eq!(cluster.get(PODS, &silent).await.status, 401);
    assert_eq!(cluster.get("/apis", &silent).await.status, 200);
    cluster.stop().await;
}
