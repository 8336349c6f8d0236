//! The clusters that the xDS proxy inserts, towards a real aggregator: by TLS, with the pod's own
//! token, and by name.
#![expect(clippy::unwrap_used, reason = "a test helper may panic")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use tests_mesh::versions::Version;
use tests_mesh::{INGRESS, Mesh, Modules, NAMESPACE, XdsProxy, bootstrap, dump, on_each_version};
use tests_support::aggregator::{Aggregator, Options};
use tests_support::djapp::{App, Behaviour};
use tests_support::envoy::{self, Envoy};
use tests_support::kubernetes::ApiServer;
use tests_support::kubernetes::objects::POD;
use tests_support::secured::{self, Mounted, SERVER_NAME, add_token, write_secret, write_token};
use tests_support::{clock, http};

const PATIENCE: Duration = Duration::from_mins(1);
const NODE: &str = "jazz-v1";
/// The least that a server of a real cluster would take: the token of this pod.
const TOKEN: &str = "the-token-of-jazz";

on_each_version!(
    it_counts_by_tls_and_token,
    only_who_is_asked_for_is_trusted,
    a_restarted_aggregator_is_found_in_time,
    an_access_logger_counts_what_ended,
    an_authority_is_replaced_under_a_sidecar,
    authorities_may_come_late,
);

/// A cluster with the pod, and an aggregator that wants tokens and shows a certificate of ours.
struct Secured {
    server: ApiServer,
    folder: tempfile::TempDir,
    options: Options,
}

impl Secured {
    async fn new() -> Self {
        let server = ApiServer::start().await.unwrap();
        server.objects().apply(
            POD,
            json!({
                "metadata": {"namespace": NAMESPACE, "name": NODE, "uid": format!("uid-{NODE}"), "labels": {}},
                "status": {"phase": "Running", "podIP": "127.0.0.1"},
            }),
        );
        add_token(&server, TOKEN, NAMESPACE, NODE);
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        write_token(&file("token"), TOKEN).unwrap();
        write_secret(&file("token.json"), &file("token")).unwrap();
        let options = secured::options(&server, folder.path()).unwrap();
        Self {
            server,
            folder,
            options,
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// A sidecar whose xDS proxy has these flags too.
struct Sidecar {
    xds_proxy: XdsProxy,
    envoy: Envoy,
    _mesh: Mesh,
    _app: App,
}

impl Sidecar {
    async fn start(version: Version, aggregator: &str, more: &[String]) -> Self {
        let mesh = Mesh::start((1, 1)).await.unwrap();
        let modules = Modules::built().unwrap();
        let mut flags = vec![
            format!("--upstream=http://{}", mesh.control_plane()),
            format!("--filter-wasm={}", modules.filter.display()),
            format!("--aggregator={aggregator}"),
            format!("--pod-namespace={NAMESPACE}"),
            format!("--pod-name={NODE}"),
            format!("--pod-uid=uid-{NODE}"),
        ];
        flags.extend_from_slice(more);
        let xds_proxy = XdsProxy::spawn(flags, &[]).await.unwrap();
        let app = App::start(([127, 0, 0, 1], 0).into(), Behaviour::jazz_v1())
            .await
            .unwrap();
        let config = bootstrap(NODE, app.address(), xds_proxy.xds);
        let options = envoy::Options {
            binary: version.binary().unwrap(),
            ..envoy::Options::default()
        };
        let mut envoy = Envoy::start(&config, &options).await.unwrap();
        envoy.wait_listener(INGRESS).await.unwrap();
        Self {
            xds_proxy,
            envoy,
            _mesh: mesh,
            _app: app,
        }
    }

    async fn send(&self, count: u64) {
        let listener = self.envoy.listener(INGRESS).unwrap();
        for _ in 0..count {
            http::get_ok(listener, "/").await.unwrap();
        }
    }

    /// Waits until the aggregator has exactly so many requests of it.
    async fn arrives(&self, aggregator: &Aggregator, requests: u64) {
        let arrived = clock::wait_for("the requests", PATIENCE, async || {
            let pods = aggregator.pods().await?;
            let pod = pods.find(NAMESPACE, NODE);
            let told = pod.and_then(|pod| pod.requests("inbound"));
            Ok((told == Some(requests)).then_some(()))
        });
        if let Err(error) = arrived.await {
            let logs = [
                self.xds_proxy.log_tail(),
                self.envoy.log_tail(),
                aggregator.log_tail(),
            ];
            panic!("{error:#}\n{}", logs.join("\n"));
        }
    }
}

fn flag(name: &str, file: &Path) -> String {
    format!("{name}={}", file.display())
}

/// All that a real cluster asks for: the certificate is verified, the stream is that of the pod by
/// its token.
async fn it_counts_by_tls_and_token(version: Version) {
    let secured = Secured::new().await;
    let aggregator = Aggregator::start(&secured.options).await.unwrap();
    let more = [
        flag("--aggregator-ca-file", &secured.file("ca.pem")),
        format!("--aggregator-server-name={SERVER_NAME}"),
        flag("--aggregator-token-file", &secured.file("token.json")),
    ];
    let sidecar = Sidecar::start(version, &aggregator.ingest().to_string(), &more).await;
    let rejected = sidecar
        .xds_proxy
        .metric("changes_rejected_total")
        .await
        .unwrap();
    assert!(rejected < 0.5, "{}", sidecar.xds_proxy.log());
    sidecar.send(7).await;
    sidecar.arrives(&aggregator, 7).await;
    assert!(secured.server.requests("tokenreviews") > 0);
}

/// A certificate for another name, and a token that is not there: nothing is streamed, and traffic
/// flows.
async fn only_who_is_asked_for_is_trusted(version: Version) {
    let secured = Secured::new().await;
    let aggregator = Aggregator::start(&secured.options).await.unwrap();
    let ca = flag("--aggregator-ca-file", &secured.file("ca.pem"));
    // By its address, for which the certificate is not.
    let sidecar = Sidecar::start(
        version,
        &aggregator.ingest().to_string(),
        std::slice::from_ref(&ca),
    )
    .await;
    sidecar.send(3).await;
    clock::wait_for("a refused certificate", PATIENCE, async || {
        let stats = sidecar.envoy.stats().await?;
        let refused = stats.get("cluster.meshmeter_aggregator_0.ssl.fail_verify_san");
        Ok((refused > 0).then_some(()))
    })
    .await
    .unwrap();
    let missing = [
        ca,
        format!("--aggregator-server-name={SERVER_NAME}"),
        "--aggregator-token-file=/nowhere/token.json".to_owned(),
    ];
    let sidecar = Sidecar::start(version, &aggregator.ingest().to_string(), &missing).await;
    sidecar.send(3).await;
    let left_out = sidecar
        .xds_proxy
        .metric("responses_without_module_total")
        .await
        .unwrap();
    assert!(left_out > 0.5, "{}", sidecar.xds_proxy.log());
    let pods = aggregator.pods().await.unwrap();
    assert!(
        pods.find(NAMESPACE, NODE)
            .is_none_or(|pod| pod.requests("inbound").is_none())
    );
}

/// By name, as in a cluster: it goes and comes back, and the sidecar finds it soon.
async fn a_restarted_aggregator_is_found_in_time(version: Version) {
    let mut options = Options::default();
    let mut aggregator = Aggregator::start(&options).await.unwrap();
    options.ingest = aggregator.ingest();
    let name = format!("localhost:{}", options.ingest.port());
    let sidecar = Sidecar::start(version, &name, &[]).await;
    sidecar.send(4).await;
    sidecar.arrives(&aggregator, 4).await;
    aggregator.kill().await.unwrap();
    tokio::time::sleep(Duration::from_secs(4)).await;
    sidecar.send(4).await;
    aggregator = Aggregator::start(&options).await.unwrap();
    sidecar.arrives(&aggregator, 8).await;
}

/// The other role: no HTTP filter stands in the way of a request, and each is counted when it has
/// ended.
async fn an_access_logger_counts_what_ended(version: Version) {
    let aggregator = Aggregator::start(&Options::default()).await.unwrap();
    let log = Modules::built().unwrap().log.unwrap();
    let more = ["--role=access-log".to_owned(), flag("--log-wasm", &log)];
    let sidecar = Sidecar::start(version, &aggregator.ingest().to_string(), &more).await;
    sidecar.send(5).await;
    sidecar.arrives(&aggregator, 5).await;
    let dump = dump::config_dump(&sidecar.envoy).await.unwrap();
    let dump = serde_json::to_string(&dump::listeners(&dump).unwrap()).unwrap();
    assert!(dump.contains("extensions.access_loggers.wasm.v3.WasmAccessLog"));
    assert!(!dump.contains("extensions.filters.http.wasm.v3.Wasm"));
}

/// The folder of a `ConfigMap`, and the flags of an xDS proxy that follows it, with the token.
fn followed(secured: &Secured) -> (Mounted, Vec<String>) {
    let mounted = Mounted::new(&secured.file("ca")).unwrap();
    let flags = vec![
        flag("--aggregator-ca-file", &mounted.file("ca.crt")),
        flag("--aggregator-ca-secret", &secured.file("ca.json")),
        format!("--aggregator-server-name={SERVER_NAME}"),
        flag("--aggregator-token-file", &secured.file("token.json")),
    ];
    (mounted, flags)
}

async fn waits_for(sidecar: &Sidecar, statistic: &str) {
    let name = format!("cluster.meshmeter_aggregator_0.{statistic}");
    clock::wait_for(statistic, PATIENCE, async || {
        let stats = sidecar.envoy.stats().await?;
        Ok((stats.get(&name) > 0).then_some(()))
    })
    .await
    .unwrap();
}

/// The aggregator shows a certificate of another CA. The sidecar refuses it until that is in the
/// `ConfigMap`; then the stream is back, with all that was counted meanwhile, and neither Envoy nor
/// the xDS proxy began anew. What is no certificate takes nothing away.
async fn an_authority_is_replaced_under_a_sidecar(version: Version) {
    let mut secured = Secured::new().await;
    let old = std::fs::read_to_string(secured.file("ca.pem")).unwrap();
    let (mut mounted, more) = followed(&secured);
    mounted.put(&[("ca.crt", &old)]).unwrap();
    let mut aggregator = Aggregator::start(&secured.options).await.unwrap();
    secured.options.ingest = aggregator.ingest();
    let sidecar = Sidecar::start(version, &aggregator.ingest().to_string(), &more).await;
    let processes = (sidecar.envoy.pid(), sidecar.xds_proxy.pid());
    sidecar.send(5).await;
    sidecar.arrives(&aggregator, 5).await;

    mounted.put(&[("ca.crt", "no certificate")]).unwrap();
    clock::wait_for("what is no certificate", PATIENCE, async || {
        let refused = sidecar.xds_proxy.log().contains("not reloaded");
        Ok(refused.then_some(()))
    })
    .await
    .unwrap();
    aggregator.kill().await.unwrap();
    aggregator = Aggregator::start(&secured.options).await.unwrap();
    sidecar.send(3).await;
    sidecar.arrives(&aggregator, 8).await;

    let new = secured::issue(secured.folder.path()).unwrap();
    aggregator.kill().await.unwrap();
    aggregator = Aggregator::start(&secured.options).await.unwrap();
    waits_for(&sidecar, "ssl.fail_verify_error").await;
    sidecar.send(4).await;
    let pods = aggregator.pods().await.unwrap();
    let told = pods.find(NAMESPACE, NODE);
    assert!(told.is_none_or(|pod| pod.requests("inbound").is_none()));
    mounted.put(&[("ca.crt", &format!("{old}{new}"))]).unwrap();
    sidecar.arrives(&aggregator, 12).await;
    sidecar.send(2).await;
    sidecar.arrives(&aggregator, 14).await;
    assert_eq!((sidecar.envoy.pid(), sidecar.xds_proxy.pid()), processes);
    let connected = sidecar.envoy.stats().await.unwrap();
    let rejected = connected.get("cluster_manager.cds.update_rejected");
    assert_eq!(rejected, 0, "{}", sidecar.envoy.log_tail());
}

/// Its `ConfigMap` is not there when a pod begins: Envoy does not wait for it, traffic flows,
/// nobody is trusted. Once it is there the sidecar streams, with all that was counted before.
async fn authorities_may_come_late(version: Version) {
    let secured = Secured::new().await;
    let (mut mounted, more) = followed(&secured);
    let aggregator = Aggregator::start(&secured.options).await.unwrap();
    let sidecar = Sidecar::start(version, &aggregator.ingest().to_string(), &more).await;
    sidecar.send(6).await;
    waits_for(&sidecar, "upstream_cx_connect_fail").await;
    let stats = sidecar.envoy.stats().await.unwrap();
    assert_eq!(stats.get("cluster.meshmeter_aggregator_0.ssl.handshake"), 0);
    let ca = std::fs::read_to_string(secured.file("ca.pem")).unwrap();
    mounted.put(&[("ca.crt", &ca)]).unwrap();
    sidecar.arrives(&aggregator, 6).await;
    sidecar.send(3).await;
    sidecar.arrives(&aggregator, 9).await;
}
