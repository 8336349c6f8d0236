//! Demand for an object without serving pods: the outbound requests that its callers' sidecars
//! count.
//!
//! Only requests and requests in flight can be read so: without a pod no attempt reaches a
//! connection, and response classes say nothing about the object. A demand of 0 is served only if
//! callers are known and none of them has requests outside the series by cluster, since those might
//! be for the object.

use std::sync::Arc;

use aggregator_core::pod::PodKey;
use aggregator_core::query::{Metric, MetricQuery, QueryResult};
use aggregator_core::series::Direction;

use crate::metrics::sum::{self, Set, Source, Sum};
use crate::metrics::{MetricRequest, Outcome, ReadContext, no_value};
use crate::path::Object;
use crate::status::{Kind, Reason, Refusal};

/// Clusters under which sidecars count requests without the dimension, and beyond its limit.
const UNDIVIDED_CLUSTERS: [&str; 2] = ["", "other"];

/// Outbound clusters by destination.
struct Clusters {
    leading: Vec<Arc<str>>,
    known: usize,
    /// Clusters with an unknown destination.
    unmapped: usize,
    example: Option<Arc<str>>,
}

/// The demand for the object of `request`; `none_runs` says why its own pods have no value.
pub(super) fn of(
    request: &MetricRequest<'_>,
    context: ReadContext<'_>,
    none_runs: &str,
) -> Outcome<Sum> {
    let because = |why: String| {
        format!(
            "the server could not find the metric {} for {}: {none_runs}, and {why}",
            request.metric,
            request.subject()
        )
    };
    Outcome::from(leading(request, context, &because)).and_then(|clusters| {
        let result = read(request, context, &clusters);
        Outcome {
            result: sum(request, context, &result, &because),
            pods: result,
        }
    })
}

/// Clusters that lead to the object.
fn leading(
    request: &MetricRequest<'_>,
    context: ReadContext<'_>,
    because: &impl Fn(String) -> String,
) -> Result<Vec<Arc<str>>, Refusal> {
    if let Some(why) = unsupported_query(&request.query) {
        return Err(no_value(because(why.to_owned())));
    }
    let clusters = find(request, context);
    if clusters.leading.is_empty() {
        let reason = match clusters.example {
            Some(_) => Reason::UnmappedCluster,
            None => Reason::NoValue,
        };
        return Err(Refusal::not_found(reason, because(clusters.none_leads())));
    }
    Ok(clusters.leading)
}

/// The sum over callers, unless it would be too low.
fn sum(
    request: &MetricRequest<'_>,
    context: ReadContext<'_>,
    result: &QueryResult,
    because: &impl Fn(String) -> String,
) -> Result<Sum, Refusal> {
    let doubtful: Vec<_> = result
        .missing
        .iter()
        .filter(|(pod, why)| sum::is_doubtful(*why, context.directory.serving(pod), Set::Members))
        .cloned()
        .collect();
    if !doubtful.is_empty() {
        return Err(sum::too_low(request, "callers", &doubtful));
    }
    let sum = Sum::of(
        context.now.monotonic,
        Source::Callers,
        request.query.metric,
        &result.readings,
    )
    .ok_or_else(|| no_value(because("none of its callers reports any more".to_owned())))?;
    if sum.value.0 == 0
        && let Some(pod) = hidden(request, context)
    {
        let message = format!(
            "the callers of {} send no requests, but pod {pod} does not count its requests by cluster, so 0 may be \
             too low; set dimensions to [\"cluster\"] or raise max_series there",
            request.subject()
        );
        return Err(Refusal::new(Kind::Unavailable, Reason::Doubt, message));
    }
    Ok(sum)
}

/// Why callers cannot count the metric of `query`; `None` if they can.
fn unsupported_query(query: &MetricQuery) -> Option<&'static str> {
    let is_supported = matches!(
        query.metric,
        Metric::RequestsPerSecond | Metric::InflightRequests
    );
    if !is_supported {
        return Some("its callers report only requests_per_second and inflight_requests");
    }
    let is_divided = query.direction == Some(Direction::Outbound)
        || query.cluster.is_some()
        || query.code_class.is_some();
    is_divided.then_some(
        "the demand of its callers is not divided by direction=outbound, cluster or code_class",
    )
}

fn find(request: &MetricRequest<'_>, context: ReadContext<'_>) -> Clusters {
    let mut clusters = Clusters {
        leading: Vec::new(),
        known: 0,
        unmapped: 0,
        example: None,
    };
    let namespace = request.namespace;
    for cluster in context.store.called_clusters() {
        if UNDIVIDED_CLUSTERS.contains(&&*cluster) {
            continue;
        }
        clusters.known += 1;
        let Some(destination) = context.clusters.destination(&cluster) else {
            clusters.unmapped += 1;
            clusters.example.get_or_insert(cluster);
            continue;
        };
        let leads = match request.object {
            Object::Service(name) => destination.is_service(namespace, name),
            Object::Workload(kind, name) => destination.is_workload(namespace, *kind, name),
            Object::Pods | Object::Pod(_) | Object::Namespace => false,
        };
        if leads {
            clusters.leading.push(cluster);
        }
    }
    clusters
}

/// Reads the callers of each of `clusters`.
fn read(
    request: &MetricRequest<'_>,
    context: ReadContext<'_>,
    clusters: &[Arc<str>],
) -> QueryResult {
    let mut all = QueryResult::default();
    for cluster in clusters {
        let result = read_one(request, context, cluster);
        all.readings.extend(result.readings);
        all.missing.extend(result.missing);
    }
    all
}

fn read_one(
    request: &MetricRequest<'_>,
    context: ReadContext<'_>,
    cluster: &Arc<str>,
) -> QueryResult {
    let query = MetricQuery {
        direction: Some(Direction::Outbound),
        cluster: Some(Arc::clone(cluster)),
        ..request.query.clone()
    };
    let mut callers = context.store.callers(cluster);
    callers.retain(|pod| context.directory.is_serving(pod));
    context.store.read(context.now.monotonic, &callers, &query)
}

/// A pod with requests that may be for the object, but are not counted by cluster.
fn hidden(request: &MetricRequest<'_>, context: ReadContext<'_>) -> Option<PodKey> {
    UNDIVIDED_CLUSTERS.iter().find_map(|cluster| {
        let result = read_one(request, context, &Arc::from(*cluster));
        let mut busy = result.readings.into_iter().filter(|r| r.value.0 > 0);
        busy.next().map(|reading| reading.pod)
    })
}

// === impl Clusters ===

impl Clusters {
    fn none_leads(&self) -> String {
        let Self {
            known, unmapped, ..
        } = self;
        match &self.example {
            None => format!("none of the {known} clusters that pods call leads to it"),
            Some(example) => format!(
                "none of the {known} clusters that pods call is known to lead to it; the destination of {unmapped}, such as \
                 {example:?}, is unknown: set it by --cluster-destination"
            ),
        }
    }
}
