//! What a change takes in a large mesh: time and memory for each node and route, of reading all
//! objects again, and of making the configuration of each node again.
//!
//! `cargo bench -p mesh-control-plane`. Compare runs of one machine only.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench may panic, and prints"
)]

use std::alloc::System;
use std::fmt::Write as _;
use std::time::Duration;

use mesh_control_plane::envoy::{Ports, Snapshot};
use mesh_control_plane::mesh::Meshes;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tests_support::clock;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Rounds, of which the fastest counts.
const ROUNDS: usize = 7;
const ROUTES_PER_ROUTER: usize = 10;

const HEAD: &str = "apiVersion: appmesh.k8s.aws/v1beta2\n";

/// As many nodes as routes; each node calls the service behind the router of its number.
fn manifests(count: usize, weight: u32) -> String {
    let routers = count / ROUTES_PER_ROUTER;
    let mut text = format!(
        "{HEAD}kind: Mesh\nmetadata: {{name: dj-app}}\nspec: {{namespaceSelector: {{matchLabels: {{mesh: dj-app}}}}}}\n"
    );
    for node in 0..count {
        write!(
            text,
            "---\n{HEAD}kind: VirtualNode\nmetadata: {{name: node-{node}, namespace: prod}}\nspec:\n  podSelector: \
             {{matchLabels: {{app: node-{node}}}}}\n  listeners:\n  - portMapping: {{port: 9080, protocol: http}}\n    \
             healthCheck: {{protocol: http, path: /ping, healthyThreshold: 2, unhealthyThreshold: 2, timeoutMillis: \
             2000, intervalMillis: 5000}}\n  backends:\n  - virtualService: {{virtualServiceRef: {{name: service-{}}}}}\n  \
             serviceDiscovery: {{dns: {{hostname: node-{node}.prod.svc.cluster.local}}}}\n",
            node % routers
        )
        .unwrap();
    }
    for router in 0..routers {
        write!(
            text,
            "---\n{HEAD}kind: VirtualService\nmetadata: {{name: service-{router}, namespace: prod}}\nspec: {{awsName: \
             service-{router}.prod.svc.cluster.local, provider: {{virtualRouter: {{virtualRouterRef: {{name: \
             router-{router}}}}}}}}}\n---\n{HEAD}kind: VirtualRouter\nmetadata: {{name: router-{router}, namespace: \
             prod}}\nspec:\n  listeners: [{{portMapping: {{port: 9080, protocol: http}}}}]\n  routes:\n"
        )
        .unwrap();
        for route in 0..ROUTES_PER_ROUTER {
            let node = router * ROUTES_PER_ROUTER + route;
            write!(
                text,
                "  - name: route-{route}\n    httpRoute:\n      match: {{prefix: /{route}}}\n      action: \
                 {{weightedTargets: [{{virtualNodeRef: {{name: node-{node}}}, weight: {weight}}}]}}\n      retryPolicy: \
                 {{maxRetries: 2, perRetryTimeout: {{unit: ms, value: 500}}, httpRetryEvents: [server-error]}}\n"
            )
            .unwrap();
        }
    }
    text
}

/// Time and bytes kept.
struct Cost {
    time: Duration,
    bytes: usize,
}

/// The least of [`ROUNDS`] runs of `make`.
fn cost<T>(mut make: impl FnMut() -> T) -> Cost {
    let rounds = (0..ROUNDS).map(|_| {
        let region = Region::new(ALLOCATOR);
        let begun = clock::now();
        let result = make();
        let time = begun.elapsed();
        let change = region.change();
        drop(result);
        Cost {
            time,
            bytes: change
                .bytes_allocated
                .saturating_sub(change.bytes_deallocated),
        }
    });
    rounds.min_by_key(|cost| cost.time).unwrap()
}

fn main() {
    println!(
        "{:>9}{:>22}{:>22}{:>22}{:>22}",
        "each of", "read, us", "kept, bytes", "configure, us", "kept, bytes"
    );
    for count in [100, 300, 1_000] {
        let (before, after) = (manifests(count, 1), manifests(count, 2));
        let (served, refused) = Meshes::parse([("a", before.as_str())], &Meshes::default());
        assert!(refused.is_empty(), "{refused:?}");
        let read = cost(|| Meshes::parse([("a", after.as_str())], &served));
        let configured = cost(|| {
            let nodes = (0..count).map(|node| format!("mesh/dj-app/virtualNode/node-{node}_prod"));
            let nodes = nodes.map(|id| served.node_of(&id).unwrap());
            let made: Vec<_> = nodes
                .map(|node| Snapshot::new(&node, &Ports::default()))
                .collect();
            made
        });
        #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
        let each = |cost: &Cost| {
            let resources = (2 * count) as f64;
            (
                cost.time.as_secs_f64() * 1e6 / resources,
                cost.bytes / (2 * count),
            )
        };
        let ((read_us, read_bytes), (made_us, made_bytes)) = (each(&read), each(&configured));
        println!("{count:>9}{read_us:>22.1}{read_bytes:>22}{made_us:>22.1}{made_bytes:>22}");
    }
}
