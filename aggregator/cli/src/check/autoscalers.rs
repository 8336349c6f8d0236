//! HPAs: whether somebody serves what they name, and whether their maximum suffices.

use aggregator_view::documents::{List, Read};
use aggregator_view::{GROUP as VIEW, VERSION};

use super::objects::{Hpa, MetricSource};
use super::registration::Registered;
use super::report::Group;
use super::{Probe, Report, quantity, spelling, word};
use crate::ConnectionError;
use crate::numbers::{counted, milli};

const GROUP: &str = "Autoscalers";
const CUSTOM: &str = "custom.metrics.k8s.io";
const EXTERNAL: &str = "external.metrics.k8s.io";
/// What all our metrics begin with, unless a flag says otherwise.
const PREFIX: &str = "appmesh_";
/// HPAs that are looked at.
const HPAS_MAX: usize = 500;
/// How far reads are looked at for a peak.
const PEAK_OF_MS: u64 = 3_600_000;

/// One metric of an HPA that a metrics API serves.
struct Wanted<'a> {
    group: &'static str,
    source: &'a MetricSource,
}

pub(super) async fn check(probe: &Probe<'_>, registered: &Registered, report: &mut Report) {
    let mut report = report.group(GROUP);
    if !registered.is_known {
        let message = "HPAs: it is not known who serves what they name (above)";
        return report.skip("autoscalers", message);
    }
    let hpas = match list(probe).await {
        Ok(hpas) => hpas,
        Err(error) => {
            let fix = "have Kubernetes' role view bound to you, or ask for one namespace by -n";
            return report.unknown("autoscalers", format!("HPAs: {error}"), fix);
        }
    };
    let mut of_ours = 0;
    for hpa in hpas.iter().take(HPAS_MAX) {
        let wanted: Vec<_> = wanted(hpa).collect();
        let before = of_ours;
        for metric in &wanted {
            of_ours += usize::from(judge(hpa, metric, registered, &mut report));
        }
        if of_ours > before {
            active(probe, hpa, &mut report);
            peak(probe, hpa, &wanted, registered, &mut report).await;
        }
    }
    if hpas.len() > HPAS_MAX {
        let more = counted(hpas.len() - HPAS_MAX, "more HPA");
        report.skip(
            "autoscalers",
            format!("{more}: ask for one namespace by -n"),
        );
    }
    if of_ours > 0 {
        let read = counted(of_ours, "metric");
        report.ok("autoscalers", format!("HPAs read {read} from meshmeter"));
    } else {
        report.skip("autoscalers", "no HPA reads from meshmeter");
    }
}

async fn list(probe: &Probe<'_>) -> Result<Vec<Hpa>, ConnectionError> {
    let path = match probe.connection.given_namespace() {
        Some(namespace) => {
            format!("/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers")
        }
        None => "/apis/autoscaling/v2/horizontalpodautoscalers".to_owned(),
    };
    let list: List<Hpa> = probe.connection.list(&path, &[]).await?;
    Ok(list.items)
}

fn wanted(hpa: &Hpa) -> impl Iterator<Item = Wanted<'_>> {
    let metrics = hpa.spec.metrics.iter();
    metrics.filter_map(|metric| {
        let custom = metric.pods.as_ref().or(metric.object.as_ref());
        let (group, source) = match (custom, &metric.external) {
            (Some(source), _) => (CUSTOM, source),
            (None, Some(source)) => (EXTERNAL, source),
            (None, None) => return None,
        };
        Some(Wanted { group, source })
    })
}

fn shown(hpa: &Hpa) -> String {
    format!("HPA {}/{}", hpa.metadata.namespace, hpa.metadata.name)
}

/// True if we serve it.
fn judge(hpa: &Hpa, wanted: &Wanted<'_>, registered: &Registered, report: &mut Group<'_>) -> bool {
    let name = &wanted.source.metric.name;
    let is_ours = registered.ours.contains(wanted.group);
    if is_ours && registered.metrics.contains(name) {
        return true;
    }
    let nearest = spelling::nearest(name, &registered.metrics);
    if !name.starts_with(PREFIX) && (nearest.is_none() || !is_ours) {
        // Somebody else's, which is none of our business.
        return false;
    }
    let hpa = shown(hpa);
    let others = registered.others.iter();
    let mut others = others.filter(|(group, _)| *group == wanted.group);
    let whose = match others.next() {
        Some((_, service)) => format!(
            "{} belongs to {}/{}",
            wanted.group, service.namespace, service.name
        ),
        None => format!("nobody serves {}", wanted.group),
    };
    match (is_ours, nearest) {
        (true, Some(nearest)) => report.fail(
            "metric",
            format!("{hpa} names {name}, which nobody serves"),
            format!("is {nearest} meant?"),
        ),
        (true, None) => report.fail(
            "metric",
            format!("{hpa} names {name}, which nobody serves"),
            "docs/API.md lists the metrics that there are",
        ),
        (false, _) => report.fail(
            "metric",
            format!("{hpa} names {name}, but {whose}"),
            "register it for meshmeter (api.custom or api.external of the chart), or name another metric",
        ),
    }
    false
}

/// What the autoscaler itself says.
fn active(probe: &Probe<'_>, hpa: &Hpa, report: &mut Group<'_>) {
    let mut conditions = hpa.status.conditions.iter();
    let inactive = conditions.find(|one| one.kind == "ScalingActive" && one.status == "False");
    if let Some(condition) = inactive {
        let program = probe.connection.program();
        let (namespace, name) = (word(&hpa.metadata.namespace), word(&hpa.metadata.name));
        report.warn(
            "scaling-active",
            format!(
                "{} does not scale: {}: {}",
                shown(hpa),
                condition.reason,
                condition.message
            ),
            format!("`{program} explain hpa {name} -n {namespace}` says what was read"),
        );
    }
}

/// Whether what was read in the last hour fits what it may scale to.
async fn peak(
    probe: &Probe<'_>,
    hpa: &Hpa,
    wanted: &[Wanted<'_>],
    registered: &Registered,
    report: &mut Group<'_>,
) {
    const CHECK: &str = "max-replicas";
    let targets = wanted.iter().filter_map(|metric| {
        let name = metric.source.metric.name.as_str();
        let target = quantity::milli(&metric.source.target.average_value)?;
        (registered.metrics.contains(name) && target > 0).then_some((name, target))
    });
    let targets: Vec<_> = targets.collect();
    // Without the view nobody knows what was read, which was said above.
    if targets.is_empty() || !registered.ours.contains(VIEW) {
        return;
    }
    let (namespace, name) = (&hpa.metadata.namespace, &hpa.metadata.name);
    let from = (probe.read_clock)()
        .unix_ms()
        .saturating_sub(PEAK_OF_MS)
        .to_string();
    let path = format!("/apis/{VIEW}/{VERSION}/namespaces/{namespace}/reads");
    let query = [("hpa", name.as_str()), ("from", from.as_str())];
    let reads = match probe.connection.list::<Read>(&path, &query).await {
        Ok(reads) => reads.items,
        Err(error) => {
            let message = format!("{}: what it read: {error}", shown(hpa));
            return report.unknown(CHECK, message, "");
        }
    };
    for (metric, target) in targets {
        let of_metric = reads.iter().filter(|read| read.metric == metric);
        let Some(peak) = of_metric.filter_map(|read| read.sum_milli).max() else {
            continue;
        };
        let max = hpa.spec.max_replicas;
        if target.saturating_mul(max.into()) < peak {
            let needed = peak.div_ceil(target);
            report.fail(
                CHECK,
                format!(
                    "{} could not follow the last hour's peak of {metric}: {} is more than {max} replicas with {} each",
                    shown(hpa),
                    milli(peak),
                    milli(target)
                ),
                format!("set maxReplicas to {needed} or more, or the target higher"),
            );
        }
    }
}
