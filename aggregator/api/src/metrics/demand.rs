//! What is wanted of an object none of whose pods serves: the outbound requests that its callers'
//! sidecars count.
//!
//! Only requests that begin and requests in flight are told so: attempts reach no connection
//! without a pod, and how requests ended says nothing about the object. A demand of 0 is served
//! only if callers are known and none of them has requests to clusters that are not told apart,
//! since those might be for the object.

use std::sync::Arc;

use aggregator_core::pod::PodKey;
use aggregator_core::query::{Metric, MetricQuery, QueryResult};
use aggregator_core::series::Direction;

use crate::metrics::sum::{self, Set, Source, Sum};
use crate::metrics::{MetricRequest, Outcome, ReadContext, no_value};
use crate::path::Object;
use crate::status::{Kind, Reason, Refusal};

/// Clusters under which sidecars count what they do not tell apart: without the dimension, and
/// beyond its limit.
const NOT_TOLD_APART: [&str; 2] = ["", "other"];

/// Outbound clusters, by where they lead.
struct Clusters {
    leading: Vec<Arc<str>>,
    known: usize,
    /// Those of which nothing is known.
    unmapped: usize,
    example: Option<Arc<str>>,
}

/// The demand for the object of `question`, of which `none_runs` says why its own pods cannot tell.
pub(super) fn of(
    question: &MetricRequest<'_>,
    sources: ReadContext<'_>,
    none_runs: &str,
) -> Outcome<Sum> {
    let because = |why: String| {
        format!(
            "the server could not find the metric {} for {}: {none_runs}, and {why}",
            question.metric,
            question.subject()
        )
    };
    Outcome::from(leading(question, sources, &because)).and_then(|clusters| {
        let answer = read(question, sources, &clusters);
        Outcome {
            result: sum(question, sources, &answer, &because),
            missing: answer.missing,
        }
    })
}

/// Clusters that lead to the object.
fn leading(
    question: &MetricRequest<'_>,
    sources: ReadContext<'_>,
    because: &impl Fn(String) -> String,
) -> Result<Vec<Arc<str>>, Refusal> {
    if let Some(why) = not_told(&question.query) {
        return Err(no_value(because(why.to_owned())));
    }
    let clusters = find(question, sources);
    if clusters.leading.is_empty() {
        let reason = match clusters.example {
            Some(_) => Reason::UnmappedCluster,
            None => Reason::NoValue,
        };
        return Err(Refusal::not_found(reason, because(clusters.none_leads())));
    }
    Ok(clusters.leading)
}

/// What callers say together, unless it would be too low.
fn sum(
    question: &MetricRequest<'_>,
    sources: ReadContext<'_>,
    answer: &QueryResult,
    because: &impl Fn(String) -> String,
) -> Result<Sum, Refusal> {
    let doubtful: Vec<_> = answer
        .missing
        .iter()
        .filter(|(pod, why)| sum::is_doubtful(*why, sources.directory.serving(pod), Set::Members))
        .cloned()
        .collect();
    if !doubtful.is_empty() {
        return Err(sum::too_low(question, "callers", &doubtful));
    }
    let sum = Sum::of(
        sources.now.monotonic,
        Source::Callers,
        question.query.metric,
        &answer.readings,
    )
    .ok_or_else(|| no_value(because("none of its callers reports any more".to_owned())))?;
    if sum.value.0 == 0
        && let Some(pod) = hidden(question, sources)
    {
        let message = format!(
            "the callers of {} ask for nothing, but pod {pod} calls clusters that it does not tell apart, so 0 may be \
             too low; set dimensions to [\"cluster\"] or raise max_series there",
            question.subject()
        );
        return Err(Refusal::new(Kind::Unavailable, Reason::Doubt, message));
    }
    Ok(sum)
}

/// Why callers cannot tell what is asked, if so.
fn not_told(query: &MetricQuery) -> Option<&'static str> {
    let is_told = matches!(
        query.metric,
        Metric::RequestsPerSecond | Metric::InflightRequests
    );
    if !is_told {
        return Some("its callers tell only requests_per_second and inflight_requests");
    }
    let is_divided = query.direction == Some(Direction::Outbound)
        || query.cluster.is_some()
        || query.code_class.is_some();
    is_divided.then_some(
        "what its callers ask for is not divided by direction=outbound, cluster or code_class",
    )
}

fn find(question: &MetricRequest<'_>, sources: ReadContext<'_>) -> Clusters {
    let mut clusters = Clusters {
        leading: Vec::new(),
        known: 0,
        unmapped: 0,
        example: None,
    };
    let namespace = question.namespace;
    for cluster in sources.store.called_clusters() {
        if NOT_TOLD_APART.contains(&&*cluster) {
            continue;
        }
        clusters.known += 1;
        let Some(destination) = sources.clusters.destination(&cluster) else {
            clusters.unmapped += 1;
            clusters.example.get_or_insert(cluster);
            continue;
        };
        let leads = match question.object {
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

/// What the callers of `clusters` say, each cluster for itself.
fn read(
    question: &MetricRequest<'_>,
    sources: ReadContext<'_>,
    clusters: &[Arc<str>],
) -> QueryResult {
    let mut all = QueryResult::default();
    for cluster in clusters {
        let answer = read_one(question, sources, cluster);
        all.readings.extend(answer.readings);
        all.missing.extend(answer.missing);
    }
    all
}

fn read_one(
    question: &MetricRequest<'_>,
    sources: ReadContext<'_>,
    cluster: &Arc<str>,
) -> QueryResult {
    let query = MetricQuery {
        direction: Some(Direction::Outbound),
        cluster: Some(Arc::clone(cluster)),
        ..question.query.clone()
    };
    let mut callers = sources.store.callers(cluster);
    callers.retain(|pod| sources.directory.is_serving(pod));
    sources.store.read(sources.now.monotonic, &callers, &query)
}

/// A pod with requests that may be for the object, though its sidecar does not tell.
fn hidden(question: &MetricRequest<'_>, sources: ReadContext<'_>) -> Option<PodKey> {
    NOT_TOLD_APART.iter().find_map(|cluster| {
        let answer = read_one(question, sources, &Arc::from(*cluster));
        let mut busy = answer.readings.into_iter().filter(|r| r.value.0 > 0);
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
                "none of the {known} clusters that pods call is known to lead to it; of {unmapped}, such as \
                 {example:?}, it is not known where they lead: name them by --cluster-destination"
            ),
        }
    }
}
