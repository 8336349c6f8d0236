//! The walkthrough's autoscaler over real Envoys: up within two sync periods, frozen while the
//! aggregator is gone, down again, and what `kubectl describe hpa` says at each point. The same
//! against a model, always, and against a real control plane where `KUBEBUILDER_ASSETS` has its
//! binaries.

#![expect(clippy::unwrap_used, reason = "in a test any surprise is a failure")]
#![expect(clippy::print_stderr, reason = "how fast it was is for the reader")]

use std::time::Duration;

use tests_cluster::load::Load;
use tests_cluster::objects::{autoscaler, deployment};
use tests_cluster::plane::NO_ASSETS;
use tests_cluster::rest::{autoscalers, deployments};
use tests_cluster::scalings::Scaling;
use tests_cluster::{Fleet, Plane, Scalings};
use tests_support::aggregator::{Aggregator, Options};
use tests_support::{clock, skipped};

/// Longest wait for something that takes a few syncs, or a look of kube-apiserver at the
/// `APIServices`.
const PATIENCE: Duration = Duration::from_mins(2);
/// Two of the controller's default sync periods. Here a sync is a second, so this is what the
/// signal may take.
const TWO_SYNC_PERIODS: Duration = Duration::from_secs(30);
/// How long the aggregator is away: longer than it takes to scale down, had it been taken for no
/// load.
const AWAY: Duration = Duration::from_secs(14);

const JAZZ: &str = "jazz-v1";
const METAL: &str = "metal-v1";
const FOUND: &str = "the HPA was able to successfully calculate a replica count from pods metric appmesh_requests_per_second";
const UNAVAILABLE: &str = "unable to get metric appmesh_requests_per_second: unable to fetch metrics from custom metrics API: the server is currently unable to handle the request (get pods.custom.metrics.k8s.io *)";

struct Scenario {
    plane: Plane,
    aggregator: Aggregator,
    fleet: Fleet,
}

impl Scenario {
    async fn start(plane: Plane) -> Self {
        let options = options(&plane);
        let aggregator = Aggregator::start(&options).await.unwrap();
        plane.register(aggregator.api_address()).await.unwrap();
        let rest = plane.rest();
        rest.create(&deployments(), &deployment(JAZZ, "jazz", 2))
            .await
            .unwrap();
        rest.create(&deployments(), &deployment(METAL, "metal", 1))
            .await
            .unwrap();
        let fleet = Fleet::new(rest, "jazz", aggregator.ingest()).await.unwrap();
        Self {
            plane,
            aggregator,
            fleet,
        }
    }

    /// Waits, with an Envoy for each pod all the while, until there are `count` of them.
    async fn pods(&mut self, count: usize) {
        self.until(&format!("{count} pods"), async |running, _| {
            running == count
        })
        .await;
    }

    async fn until(&mut self, what: &str, done: impl AsyncFn(usize, &Plane) -> bool) {
        let Self { plane, fleet, .. } = self;
        let waiting = clock::wait_for(what, PATIENCE, async || {
            let running = fleet.follow().await?;
            Ok(done(running, plane).await.then_some(()))
        });
        if let Err(error) = waiting.await {
            let described = plane.describe(JAZZ).await.unwrap();
            panic!("{error:#}\n{described}\n{}", self.aggregator.log_tail());
        }
    }

    /// Waits until the autoscaler `name` is described with `text`.
    async fn described(&mut self, name: &str, text: &str) {
        self.until(text, async |_, plane| {
            plane.describe(name).await.unwrap().contains(text)
        })
        .await;
    }
}

fn options(plane: &Plane) -> Options {
    let kubeconfig = plane.kubeconfig().display().to_string();
    Options {
        flags: vec!["--kubeconfig".to_owned(), kubeconfig],
        ..Options::default()
    }
}

async fn scales(plane: Plane) {
    let mut scenario = Scenario::start(plane).await;
    scenario.pods(2).await;
    let load = Load::start(scenario.fleet.addresses(), 18);
    let rest = scenario.plane.rest().clone();
    let scalings = Scalings::follow(&rest, scenario.plane.view(), JAZZ);
    rest.create(&autoscalers(), &autoscaler(JAZZ, (2, 6), "10"))
        .await
        .unwrap();
    rest.create(&autoscalers(), &autoscaler(METAL, (1, 3), "10"))
        .await
        .unwrap();
    scenario.described(JAZZ, FOUND).await;
    assert_eq!(scenario.plane.replicas(JAZZ).await.unwrap(), 2);

    // A step: 18 to 48 requests per second want five pods.
    let step = clock::now();
    load.set(48);
    scenario
        .until("the first step up", async |_, plane| {
            plane.replicas(JAZZ).await.unwrap() > 2
        })
        .await;
    let took = step.elapsed();
    eprintln!("scaled up {:.1} s after the step", took.as_secs_f64());
    assert!(took < TWO_SYNC_PERIODS, "scaled up only after {took:?}");
    scenario.pods(5).await;

    // A workload without sidecars is told so, and stays.
    scenario
        .described(
            METAL,
            "no sidecar of pods matching app=metal in namespace prod",
        )
        .await;
    assert_eq!(scenario.plane.replicas(METAL).await.unwrap(), 1);

    // Asked before the aggregator that knows them is gone.
    scenario
        .until("the explanation of the scaling up", async |running, _| {
            let last = scalings.now().last().map(|last| last.to);
            last.is_some_and(|last| last == running as u64)
        })
        .await;
    freezes(&mut scenario).await;

    load.set(10);
    scenario.pods(2).await;
    // It is explained by the spec that it was made by.
    scenario
        .until("the explanation of the scaling down", async |_, _| {
            scalings.now().last().is_some_and(|last| last.to == 2)
        })
        .await;

    // The walkthrough's first target: ten requests in a thousand seconds, which any load exceeds.
    let tiny = serde_json::json!({"spec": autoscaler(JAZZ, (2, 4), "10m")["spec"]});
    rest.patch(&format!("{}/{JAZZ}", autoscalers()), &tiny)
        .await
        .unwrap();
    scenario.pods(4).await;
    scenario
        .described(
            JAZZ,
            "the desired replica count is more than the maximum replica count",
        )
        .await;
    scenario
        .until("the last explanation", async |_, _| {
            scalings.now().last().is_some_and(|last| last.to == 4)
        })
        .await;
    explains(&scalings.now());
}

/// What the aggregator derives of each scaling is what the controller did.
fn explains(scalings: &[Scaling]) {
    let mut wrong = Vec::new();
    for scaling in scalings {
        let Scaling { from, to, .. } = scaling;
        eprintln!("from {from} to {to}:\n  {}", scaling.sentences());
        let observed = scaling.explanation["observedReplicas"].as_u64();
        if (scaling.derived(), observed) != (Some(*to), Some(*to)) {
            wrong.push(format!("from {from} to {to}: {}", scaling.explanation));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let ups = scalings.iter().filter(|scaling| scaling.to > scaling.from);
    let (ups, all) = (ups.count(), scalings.len());
    eprintln!("derived {all} scalings as the controller did, {ups} of them up");
    assert!(ups >= 2 && all > ups, "up twice and down: {scalings:?}");
}

/// A killed aggregator freezes, and one that comes back goes on.
async fn freezes(scenario: &mut Scenario) {
    let before = scenario.plane.replicas(JAZZ).await.unwrap();
    let (ingest, api) = (
        scenario.aggregator.ingest(),
        scenario.aggregator.api_address(),
    );
    scenario.aggregator.kill().await.unwrap();
    let killed = clock::now();
    scenario.described(JAZZ, UNAVAILABLE).await;
    scenario
        .until("the end of the outage", async |_, plane| {
            let now = plane.replicas(JAZZ).await.unwrap();
            assert_eq!(now, before, "the autoscaler scaled without a number");
            killed.elapsed() > AWAY
        })
        .await;
    let options = Options {
        ingest,
        api,
        ..options(&scenario.plane)
    };
    scenario.aggregator = Aggregator::start(&options).await.unwrap();
    scenario.described(JAZZ, FOUND).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scales_by_the_model() {
    scales(Plane::model().await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scales_by_kubernetes() {
    match Plane::real().await.unwrap() {
        Some(plane) => scales(plane).await,
        None => skipped::say(
            "the autoscaler in a real Kubernetes control plane",
            NO_ASSETS,
        ),
    }
}
