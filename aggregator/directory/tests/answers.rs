//! Whatever a real API server says is understood, in whatever parts it comes: the stand-in says it
//! as kube-apiserver 1.36.2 does.

#![expect(clippy::unwrap_used, reason = "a test helper may panic")]

use std::sync::Arc;
use std::time::Duration;

use aggregator_directory::Directory;
use common_kubernetes::{Scope, Watches, connection};
use common_time::Monotonic;
use http::StatusCode;
use serde_json::{Value, json};
use tests_support::clock::{system, wait_for};
use tests_support::kubernetes::objects::{DEPLOYMENT, POD, SERVICE};
use tests_support::kubernetes::{ApiServer, Manner};
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_mins(1);

fn now() -> Monotonic {
    system().now()
}

struct Cluster {
    server: ApiServer,
    directory: Arc<Directory>,
    watches: Watches,
    _files: tempfile::TempDir,
}

impl Cluster {
    async fn of(server: ApiServer, scope: Scope) -> Self {
        let files = tempfile::tempdir().unwrap();
        let kubeconfig = files.path().join("kubeconfig");
        server.write_kubeconfig(&kubeconfig).unwrap();
        let client = connection::connect(Some(&kubeconfig)).await.unwrap();
        let directory = Arc::new(Directory::default());
        let mut watches = Watches::new(client, system(), CancellationToken::new());
        aggregator_directory::follow(&mut watches, &directory, &[scope]);
        Self {
            server,
            directory,
            watches,
            _files: files,
        }
    }

    /// Waits until all is listed and as many pods are known.
    async fn knows(&self, pods: usize) {
        let fault = self.watches.fault();
        let known = wait_for("the pods", PATIENCE, async || {
            Ok((fault(now()).is_none() && self.directory.len() == pods).then_some(()))
        });
        let known = known.await;
        let (fault, pods) = (fault(now()), self.directory.len());
        known.unwrap_or_else(|error| panic!("{error:#}: {pods} pods, {fault:?}"));
    }
}

fn pod(number: usize) -> Value {
    json!({
        "metadata": {"namespace": "prod", "name": format!("jazz-{number}"), "labels": {}, "annotations": {},
                     "ownerReferences": []},
        "spec": {"containers": []},
        "status": {"phase": "Running", "conditions": [], "podIPs": []},
    })
}

/// A namespace without anything, and a cluster without anything: each is listed, and there is
/// nothing.
#[tokio::test]
async fn nothing_is_listed_too() {
    for scope in [Scope::Namespace("empty".to_owned()), Scope::All] {
        let server = ApiServer::start().await.unwrap();
        Cluster::of(server, scope).await.knows(0).await;
    }
}

/// What is there at first, what comes, what changes and what goes is known, in whatever manner it
/// is told.
#[tokio::test]
async fn any_manner_is_understood() {
    let manners = [
        Manner {
            nulls: true,
            ..Manner::default()
        },
        Manner {
            chunk: 7,
            ..Manner::default()
        },
        Manner {
            chunk: 100,
            pause: Duration::from_millis(5),
            nulls: true,
            ..Manner::default()
        },
        Manner {
            joined: true,
            ..Manner::default()
        },
        Manner {
            joined: true,
            chunk: 31,
            nulls: true,
            ..Manner::default()
        },
    ];
    for manner in manners {
        let server = ApiServer::start().await.unwrap();
        server.set_manner(manner);
        let objects = server.objects();
        objects.apply(POD, pod(0));
        objects.apply(POD, pod(1));
        let service =
            json!({"metadata": {"namespace": "prod", "name": "jazz"}, "spec": {"selector": {}}});
        objects.apply(SERVICE, service);
        let deployment =
            json!({"metadata": {"namespace": "prod", "name": "jazz", "ownerReferences": []}});
        objects.apply(DEPLOYMENT, deployment);
        let cluster = Cluster::of(server, Scope::All).await;
        cluster.knows(2).await;
        let objects = cluster.server.objects();
        for number in 2..6 {
            objects.apply(POD, pod(number));
        }
        objects.delete(POD, "prod", "jazz-0");
        objects.apply(POD, pod(1));
        cluster.knows(5).await;
        assert_eq!(cluster.directory.service_keys().len(), 1, "{manner:?}");
        assert_eq!(cluster.server.requests("list pods"), 1, "{manner:?}");
    }
}

/// A list whose continue token is too old begins again; nothing is lost or left over.
#[tokio::test]
async fn an_expired_page_begins_the_list_again() {
    let server = ApiServer::start().await.unwrap();
    for number in 0..1_100 {
        server.objects().apply(POD, pod(number));
    }
    server.expire_tokens(2);
    let cluster = Cluster::of(server, Scope::All).await;
    cluster.knows(1_100).await;
    // Two that were broken off at their second page, and one of three pages.
    assert_eq!(cluster.server.requests("list pods"), 2 * 2 + 3);
}

/// That a watch begins too early is said by an event or by the status of the answer: both end in a
/// new list.
#[tokio::test]
async fn what_is_gone_is_listed_again() {
    for gone_as_status in [false, true] {
        let server = ApiServer::start().await.unwrap();
        server.objects().apply(POD, pod(0));
        server.set_manner(Manner {
            gone_as_status,
            ..Manner::default()
        });
        let cluster = Cluster::of(server, Scope::All).await;
        cluster.knows(1).await;
        cluster
            .server
            .set_outage(Some(StatusCode::INTERNAL_SERVER_ERROR));
        cluster.server.objects().delete(POD, "prod", "jazz-0");
        cluster.server.objects().apply(POD, pod(1));
        cluster.server.objects().compact();
        cluster.server.set_outage(None);
        let listed = wait_for("the list", PATIENCE, async || {
            Ok((cluster.server.requests("list pods") == 2).then_some(()))
        });
        listed.await.unwrap();
        cluster.knows(1).await;
    }
}

/// A server that forgets every version at once is not asked for all of it again and again.
#[tokio::test]
async fn a_forgetful_server_is_spared() {
    for gone_as_status in [false, true] {
        let server = ApiServer::start().await.unwrap();
        server.set_manner(Manner {
            gone_as_status,
            forgetful: true,
            ..Manner::default()
        });
        let cluster = Cluster::of(server, Scope::All).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let lists = cluster.server.requests("list pods");
        assert!((1..=5).contains(&lists), "{lists} lists in two seconds");
    }
}

/// Refusals end when the server says otherwise, whatever their form.
#[tokio::test]
async fn refusals_are_outlived() {
    for status in [
        StatusCode::TOO_MANY_REQUESTS,
        StatusCode::INTERNAL_SERVER_ERROR,
        StatusCode::GATEWAY_TIMEOUT,
        StatusCode::UNAUTHORIZED,
    ] {
        let server = ApiServer::start().await.unwrap();
        server.objects().apply(POD, pod(0));
        server.set_outage(Some(status));
        let cluster = Cluster::of(server, Scope::All).await;
        let told = wait_for("the refusal", PATIENCE, async || {
            let fault = cluster.watches.fault()(now());
            Ok(fault.filter(|fault| !fault.contains("no answer yet")))
        });
        assert!(told.await.unwrap().contains("are not listed yet"));
        cluster.server.set_outage(None);
        cluster.knows(1).await;
    }
}
