//! What an xDS proxy costs: the same configuration, requested in turn from the control plane and
//! through the xDS proxy.

use std::fmt;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_types::pb::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use envoy_types::pb::google::rpc::Status;
use serde::Serialize;
use tests_mesh::{Mesh, Modules, XdsProxy};
use tests_support::clock;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::{optimised, usage};

const CLUSTERS: usize = 1_000;
/// Requests each way.
const ROUNDS: usize = 40;
/// Rejections of a change.
const REJECTIONS: usize = 20;
const IDLE: Duration = Duration::from_secs(10);
const MESSAGE_MAX: usize = 64 * 1024 * 1024;

const MEMORY_MAX: u64 = 15 * 1024 * 1024;
const LATENCY_MAX_MS: f64 = 10.0;
/// Of one core, while nothing happens.
const IDLE_MAX: f64 = 0.005;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Print one JSON document instead of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    clusters: usize,
    response_bytes: usize,
    direct_ms: f64,
    interposed_ms: f64,
    added_ms: f64,
    restored_ms: f64,
    resident_bytes: u64,
    idle_cpu_share: f64,
}

/// Measures and prints; fails if a limit is exceeded.
pub(crate) async fn run(args: &Args) -> Result<()> {
    if cfg!(debug_assertions) {
        return optimised::run(&["mesh"]);
    }
    let mesh = Mesh::start((95, 5)).await?;
    mesh.add("many.yaml", &manifests())?;
    let modules = Modules::built()?;
    let nobody: SocketAddr = "127.0.0.1:9".parse()?;
    let xds_proxy = XdsProxy::start("caller", mesh.control_plane(), nobody, &modules).await?;
    eprintln!("{CLUSTERS} clusters, {ROUNDS} times each way ...");
    let (mut direct, mut by_way, mut bytes) = (Vec::new(), Vec::new(), 0);
    // The control plane reads the folder every half second.
    tokio::time::sleep(Duration::from_secs(2)).await;
    for _ in 0..ROUNDS {
        let (elapsed, size) = clusters(mesh.control_plane()).await?;
        direct.push(elapsed);
        bytes = size;
        let (elapsed, size) = clusters(xds_proxy.xds).await?;
        ensure!(size > bytes, "nothing was added");
        by_way.push(elapsed);
    }
    let pid = xds_proxy.pid().context("the xDS proxy ended")?;
    eprintln!("{REJECTIONS} rejections ...");
    let mut restored = Vec::new();
    for _ in 0..REJECTIONS {
        // Each is the first one of its xDS proxy: what was rejected once is not tried again.
        let other = XdsProxy::start("caller", mesh.control_plane(), nobody, &modules).await?;
        reject_listeners(other.xds).await?;
        // On its own clock, from the rejection's coming in to the original's going out.
        restored.push(other.metric("restore_seconds_sum").await? * 1e3);
    }
    eprintln!("{} s of nothing ...", IDLE.as_secs());
    let before = usage::cpu_ns(pid)?;
    tokio::time::sleep(IDLE).await;
    let used = Duration::from_nanos(usage::cpu_ns(pid)?.saturating_sub(before));
    let (direct, by_way) = (median(direct), median(by_way));
    let report = Report {
        clusters: CLUSTERS,
        response_bytes: bytes,
        direct_ms: direct,
        interposed_ms: by_way,
        added_ms: by_way - direct,
        restored_ms: median(restored),
        resident_bytes: usage::resident_bytes(pid)?,
        idle_cpu_share: used.as_secs_f64() / IDLE.as_secs_f64(),
    };
    if args.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print!("{report}");
    }
    let within = report.added_ms <= LATENCY_MAX_MS
        && report.restored_ms <= LATENCY_MAX_MS
        && report.resident_bytes <= MEMORY_MAX
        && report.idle_cpu_share <= IDLE_MAX;
    ensure!(within, "a limit was exceeded");
    Ok(())
}

/// A workload that calls [`CLUSTERS`] others.
fn manifests() -> String {
    let mut text = String::new();
    let mut backends = String::new();
    for nth in 0..CLUSTERS {
        let _ = write!(
            backends,
            "\n    - virtualService: {{virtualServiceRef: {{name: s{nth}}}}}"
        );
        let _ = write!(
            text,
            "---
apiVersion: appmesh.k8s.aws/v1beta2
kind: VirtualNode
metadata: {{name: s{nth}, namespace: prod}}
spec:
  listeners: [{{portMapping: {{port: 9080, protocol: http}}}}]
  serviceDiscovery: {{dns: {{hostname: s{nth}.prod.svc.cluster.local}}}}
---
apiVersion: appmesh.k8s.aws/v1beta2
kind: VirtualService
metadata: {{name: s{nth}, namespace: prod}}
spec:
  awsName: s{nth}.prod.svc.cluster.local
  provider: {{virtualNode: {{virtualNodeRef: {{name: s{nth}}}}}}}
"
        );
    }
    let _ = write!(
        text,
        "---
apiVersion: appmesh.k8s.aws/v1beta2
kind: VirtualNode
metadata: {{name: caller, namespace: prod}}
spec:
  listeners: [{{portMapping: {{port: 9080, protocol: http}}}}]
  serviceDiscovery: {{dns: {{hostname: caller.prod.svc.cluster.local}}}}
  backends:{backends}
"
    );
    text
}

/// Requests the clusters on a new stream: milliseconds until they arrive, and their bytes.
async fn clusters(address: SocketAddr) -> Result<(f64, usize)> {
    let client = AggregatedDiscoveryServiceClient::connect(format!("http://{address}")).await?;
    let mut client = client.max_decoding_message_size(MESSAGE_MAX);
    let (requests, stream) = mpsc::channel(1);
    let node = Node {
        id: "mesh/dj-app/virtualNode/caller_prod".to_owned(),
        ..Node::default()
    };
    let request = DiscoveryRequest {
        node: Some(node),
        type_url: "type.googleapis.com/envoy.config.cluster.v3.Cluster".to_owned(),
        ..DiscoveryRequest::default()
    };
    let begun = clock::now();
    requests.send(request).await?;
    let answer = client
        .stream_aggregated_resources(ReceiverStream::new(stream))
        .await?;
    let response = answer
        .into_inner()
        .message()
        .await?
        .context("no response")?;
    let elapsed = begun.elapsed().as_secs_f64() * 1e3;
    ensure!(
        response.resources.len() > CLUSTERS,
        "{} clusters",
        response.resources.len()
    );
    let bytes = response
        .resources
        .iter()
        .map(|resource| resource.value.len());
    Ok((elapsed, bytes.sum()))
}

/// Rejects the listeners, and has the original.
async fn reject_listeners(address: SocketAddr) -> Result<()> {
    let client = AggregatedDiscoveryServiceClient::connect(format!("http://{address}")).await?;
    let mut client = client.max_decoding_message_size(MESSAGE_MAX);
    let (requests, stream) = mpsc::channel(1);
    let listeners = DiscoveryRequest {
        node: Some(Node {
            id: "mesh/dj-app/virtualNode/caller_prod".to_owned(),
            ..Node::default()
        }),
        type_url: "type.googleapis.com/envoy.config.listener.v3.Listener".to_owned(),
        ..DiscoveryRequest::default()
    };
    requests.send(listeners.clone()).await?;
    let answer = client
        .stream_aggregated_resources(ReceiverStream::new(stream))
        .await?;
    let mut responses = answer.into_inner();
    let changed = responses.message().await?.context("no response")?;
    let rejection = DiscoveryRequest {
        response_nonce: changed.nonce.clone(),
        error_detail: Some(Status {
            message: "no".to_owned(),
            ..Status::default()
        }),
        ..listeners
    };
    requests.send(rejection).await?;
    let original = responses.message().await?.context("no original")?;
    let size = |response: &DiscoveryResponse| {
        response
            .resources
            .iter()
            .map(|any| any.value.len())
            .sum::<usize>()
    };
    ensure!(size(&original) < size(&changed), "it is not the original");
    Ok(())
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} clusters ({} KiB): {:.1} ms from the control plane, {:.1} ms by way of the xDS proxy: {:.1} ms more (at most {LATENCY_MAX_MS})",
            self.clusters,
            self.response_bytes / 1024,
            self.direct_ms,
            self.interposed_ms,
            self.added_ms
        )?;
        writeln!(
            f,
            "after a rejection the original goes out within {:.2} ms (median of {REJECTIONS}, at most {LATENCY_MAX_MS})",
            self.restored_ms
        )?;
        writeln!(
            f,
            "memory {:.1} MiB (at most {}), CPU while nothing happens {:.2} % of a core",
            megabytes(self.resident_bytes),
            MEMORY_MAX / 1024 / 1024,
            self.idle_cpu_share * 1e2
        )
    }
}

#[expect(clippy::cast_precision_loss, reason = "memory is far below 2^53 bytes")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1024.0 / 1024.0
}
