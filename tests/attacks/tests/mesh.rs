//! The control plane and the xDS proxy at their shipped limits of memory.
#![expect(clippy::print_stdout, reason = "what was measured belongs in the log")]

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use mesh_core::discovery::LISTENER;
use mesh_core::wire::delimited;
use prost::Message as _;
use serde_json::Value;
use tempfile::TempDir;
use tests_attacks::cage::Cage;
use tests_attacks::flood;
use tests_attacks::probes::Probes;
use tests_mesh::grpc;
use tests_mesh::manifests;
use tests_support::process::Process;
use tests_support::{artifacts, clock, http};

const MIB: usize = 1 << 20;
/// As `deploy/kustomize/components/control-plane/control-plane.yaml` says.
const CONTROL_PLANE: u64 = 256 << 20;
/// As the injector writes into pods.
const XDS_PROXY: u64 = 64 << 20;
const START_WITHIN: Duration = Duration::from_secs(30);

const MANAGER: &str = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";

/// A listener with a connection manager of so many bytes.
fn listener(bytes: usize) -> Vec<u8> {
    let fields = |fields: &[(u32, &[u8])]| {
        let mut message = Vec::new();
        for (number, content) in fields {
            delimited(&mut message, *number, content);
        }
        message
    };
    let router = fields(&[(1, b"envoy.filters.http.router")]);
    let manager = fields(&[(2, &vec![b'x'; bytes]), (5, &router)]);
    let any = fields(&[(1, MANAGER.as_bytes()), (2, &manager)]);
    let chain = fields(&[(3, &fields(&[(1, b"manager"), (4, &any)]))]);
    fields(&[(1, b"lds_ingress_0.0.0.0_15000"), (3, &chain)])
}

/// A program in its cage.
struct Caged {
    process: Process,
    xds: SocketAddr,
    admin: SocketAddr,
    cage: Cage,
    _folder: TempDir,
}

// === impl Caged ===

impl Caged {
    async fn start(limit: u64, folder: TempDir, arguments: &[String]) -> Result<Self> {
        let cage = Cage::new(limit);
        let file = folder.path().join("addresses.json");
        let mut all = arguments.to_vec();
        all.extend(["listen", "admin-listen"].map(|flag| format!("--{flag}=127.0.0.1:0")));
        all.push(format!("--addresses-file={}", file.display()));
        let log = folder.path().join("log");
        let procs = cage.procs();
        let binary = artifacts::mesh()?;
        let mut process = Process::spawn_in(procs.as_deref(), &binary, &all, &[], &log)?;
        let listens: Value = clock::wait_for("addresses", START_WITHIN, async || {
            process.check_running()?;
            let text = fs::read(&file).ok();
            Ok(text.map(|text| serde_json::from_slice(&text)).transpose()?)
        })
        .await?;
        let address = |key: &str| -> Result<SocketAddr> {
            Ok(listens[key].as_str().context("an address")?.parse()?)
        };
        Ok(Self {
            xds: address("xds")?,
            admin: address("admin")?,
            process,
            cage,
            _folder: folder,
        })
    }

    /// Fails if it has ended or was too large.
    fn check(&mut self, what: &str) -> Result<()> {
        self.process
            .check_running()
            .with_context(|| what.to_owned())?;
        let pid = self.process.pid().context("it runs")?;
        let peak = self.cage.check_peak(pid).with_context(|| what.to_owned())?;
        println!("{what}: peak {} MiB", peak >> 20);
        Ok(())
    }

    async fn metric(&self, name: &str) -> Result<f64> {
        let page = http::get_ok(self.admin, "/metrics").await?.text();
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{name} ")));
        Ok(line.context("no such metric")?.parse()?)
    }
}

/// Half-sent requests and streams that say nothing do not take the control plane's memory, nor an
/// Envoy's answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_control_plane_holds_out() -> Result<()> {
    let folder = TempDir::new()?;
    let manifests = folder.path().join("manifests");
    fs::create_dir(&manifests)?;
    fs::write(manifests.join("djapp.yaml"), manifests::djapp((1, 1)))?;
    let endpoints = folder.path().join("endpoints.yaml");
    let none: Vec<SocketAddr> = Vec::new();
    let nodes = ["dj", "jazz-v1", "jazz-v2", "metal-v1", "metal-v2"];
    let nodes = nodes.map(|node| (format!("{}/{node}", tests_mesh::NAMESPACE), none.clone()));
    fs::write(&endpoints, serde_json::to_string(&BTreeMap::from(nodes))?)?;
    let arguments = [
        "control-plane".to_owned(),
        format!("--manifests={}", manifests.display()),
        format!("--endpoints-file={}", endpoints.display()),
    ];
    let mut control_plane = Caged::start(CONTROL_PLANE, folder, &arguments).await?;
    let probes = Probes::start(control_plane.admin, "/readyz");
    let held = flood::half_messages(control_plane.xds, grpc::STREAM, 60, 1, 4 * MIB).await;
    control_plane.check("60 half-sent messages of 4 MiB")?;
    drop(held);
    let held = flood::half_messages(control_plane.xds, grpc::STREAM, 120, 1, MIB - 64).await;
    control_plane.check("120 half-sent messages of 1 MiB")?;
    drop(held);
    let held = flood::empty_streams(control_plane.xds, grpc::STREAM, 100, 32).await;
    control_plane.check("3,200 empty streams")?;
    drop(held);
    println!("probes: {:?}", probes.finish().await?);
    Ok(())
}

/// A listener that is larger than may be changed passes as it is, a still larger one is refused
/// with a word that helps, and the xDS proxy goes on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_xds_proxy_lets_large_responses_pass() -> Result<()> {
    let sizes = [7_000_000, 10_500_000, 30_000_000];
    let answers = sizes.map(|bytes| grpc::response(LISTENER, "1", &[listener(bytes)]));
    let [changes, passes, too_large] = answers;
    let sent = [changes.clone(), passes.clone(), too_large];
    let control_plane = grpc::ControlPlane::start(
        None,
        Arc::new(move |request| {
            let names = ["changes", "passes", "too-large"];
            let asks = |name: &str| {
                request
                    .windows(name.len())
                    .any(|part| part == name.as_bytes())
            };
            let asked = names.into_iter().zip(&sent).filter(|(name, _)| asks(name));
            asked.map(|(_, response)| response.clone()).collect()
        }),
    )
    .await?;
    let folder = TempDir::new()?;
    let wasm = folder.path().join("filter.wasm");
    fs::write(&wasm, b"\0asm\x01\0\0\0")?;
    let arguments = [
        "xds-proxy".to_owned(),
        format!("--upstream=http://{}", control_plane.address),
        format!("--filter-wasm={}", wasm.display()),
        "--aggregator=127.0.0.1:1".to_owned(),
    ];
    let mut xds_proxy = Caged::start(XDS_PROXY, folder, &arguments).await?;
    xds_proxy.check("at the start")?;
    let (requests, mut responses) = grpc::open(xds_proxy.xds).await?;
    let ask = async |name: &str| {
        let mut request = grpc::request(LISTENER);
        request.resource_names = vec![name.to_owned()];
        requests.send(request.encode_to_vec().into()).await
    };
    for nth in 1..=4 {
        ask("changes").await?;
        let got = grpc::next(&mut responses).await?;
        ensure!(got.len() > changes.len(), "nothing was inserted");
        xds_proxy.check(&format!("response {nth} of 7 MB, changed"))?;
    }
    for nth in 1..=4 {
        ask("passes").await?;
        let got = grpc::next(&mut responses).await?;
        ensure!(got == passes, "the response is another");
        xds_proxy.check(&format!("response {nth} of 10.5 MB, unread"))?;
    }
    let name = "meshmeter_mesh_xds_proxy_responses_unread_total";
    ensure!(xds_proxy.metric(name).await? > 3.5, "not counted");
    ask("too-large").await?;
    let refused = grpc::next(&mut responses)
        .await
        .expect_err("it is too large");
    xds_proxy.check("a response of 30 MB")?;
    let text = format!("{refused:#}");
    ensure!(
        text.contains("--memory-limit") && text.contains("30000"),
        "{text}"
    );
    Ok(())
}
