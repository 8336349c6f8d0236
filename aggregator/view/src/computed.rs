//! What the arithmetic makes of one read alone, for the ledger to record beside it.

use autoscaler::{Hpa, Metric, Phase, Source, Tally};

/// The metric of `hpa` that a read asks for: by its name, its object (`pods`, `services/NAME`,
/// `deployments.apps/NAME`, `namespace`, `external`) and its metric selector, all as in
/// [`Read`](crate::documents::Read).
pub fn metric_of<'a>(
    hpa: &'a Hpa,
    metric: &str,
    object: &str,
    metric_selector: &str,
) -> Option<&'a Metric> {
    let index = index_of(hpa, metric, object, metric_selector)?;
    hpa.metrics.get(index)
}

/// The same as an index.
pub(crate) fn index_of(
    hpa: &Hpa,
    metric: &str,
    object: &str,
    metric_selector: &str,
) -> Option<usize> {
    hpa.metrics.iter().position(|own| {
        own.name == metric && is_object(&own.source, object) && own.selector() == metric_selector
    })
}

/// Replicas that `metric` of `hpa` wants for the values of pods alone, within minimum and maximum,
/// if the target has `replicas` now: before behaviour, and without the HPA's other metrics. `pods`
/// has for each pod its value in thousandths, `None` if it was left out, and whether it is
/// `Pending`. `None`: no pod has a value, or it is no metric of pods.
pub fn computed_for_pods(
    hpa: &Hpa,
    metric: &Metric,
    replicas: u32,
    pods: impl IntoIterator<Item = (Option<u64>, bool)>,
) -> Option<u32> {
    let mut tally = Tally::default();
    for (value, is_pending) in pods {
        let phase = if is_pending {
            Phase::Pending
        } else {
            Phase::Running
        };
        tally.add(phase, false, value.map(i128::from));
    }
    hpa.replicas_for_pods(metric, replicas, &tally)
}

/// The same for a value in all, in thousandths, of an object or an external metric.
pub fn computed_for_total(hpa: &Hpa, metric: &Metric, replicas: u32, total: u64) -> Option<u32> {
    hpa.replicas_for_total(metric, replicas, i128::from(total))
}

/// Whether a read of `object` is one of `source`.
fn is_object(source: &Source, object: &str) -> bool {
    match source {
        Source::Pods { .. } => object == "pods",
        Source::External { .. } => object == "external",
        Source::Object { kind, .. } if kind == "Namespace" => object == "namespace",
        Source::Object { kind, name, .. } => {
            let Some((resource, of)) = object.split_once('/') else {
                return false;
            };
            let resource = resource.split('.').next().unwrap_or_default();
            of == name && is_plural(resource, kind)
        }
        Source::Resource | Source::ContainerResource { .. } => false,
    }
}

/// Whether `resource`, such as `services`, is that of `kind`, such as `Service`.
fn is_plural(resource: &str, kind: &str) -> bool {
    let kind = kind.to_ascii_lowercase();
    let ending = resource.strip_prefix(kind.as_str());
    ending.is_some_and(|ending| ["s", "es"].contains(&ending))
        || kind
            .strip_suffix('y')
            .is_some_and(|stem| resource.strip_prefix(stem) == Some("ies"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use autoscaler::{Selector, Target};

    #[test]
    fn finds_the_metric_that_was_asked_for() {
        let object = |kind: &str, name: &str| Metric {
            source: Source::Object {
                kind: kind.to_owned(),
                name: name.to_owned(),
                selector: None,
            },
            name: "rate".to_owned(),
            target: Target::Value(1000),
        };
        let labels = [("window".to_owned(), "15s".to_owned())];
        let slow = Metric {
            source: Source::Pods {
                selector: Some(Selector {
                    match_labels: labels.into(),
                    ..Selector::default()
                }),
            },
            ..Metric::pods("rate", 1000)
        };
        let external = Metric {
            source: Source::External { selector: None },
            ..object("", "")
        };
        let metrics = vec![
            Metric::pods("rate", 1000),
            slow,
            object("Service", "jazz"),
            object("Deployment", "jazz"),
            object("Ingress", "front"),
            object("Namespace", "prod"),
            external,
        ];
        let hpa = Hpa::new(1, 10, metrics);
        for (object, selector, expected) in [
            ("pods", "", Some(0)),
            ("pods", "window=15s", Some(1)),
            ("services/jazz", "", Some(2)),
            ("deployments.apps/jazz", "", Some(3)),
            ("ingresses.networking.k8s.io/front", "", Some(4)),
            ("namespace", "", Some(5)),
            ("external", "", Some(6)),
            ("services/metal", "", None),
            ("pods", "window=30s", None),
        ] {
            let found = metric_of(&hpa, "rate", object, selector);
            let expected = expected.map(|index: usize| &hpa.metrics[index]);
            assert_eq!(found, expected, "{object} {selector}");
        }
        assert_eq!(metric_of(&hpa, "other", "pods", ""), None);
    }

    #[test]
    fn computes_one_read() {
        let metric = Metric::pods("rate", 10_000);
        let hpa = Hpa::new(1, 10, vec![metric.clone()]);
        let pods = |pods: &[(Option<u64>, bool)]| {
            computed_for_pods(&hpa, &metric, 2, pods.iter().copied())
        };
        assert_eq!(
            pods(&[(Some(20_000), false), (Some(20_000), false)]),
            Some(4)
        );
        // A missing pod counts as 0, and one that is Pending not at all on the way down.
        assert_eq!(pods(&[(Some(30_000), false), (None, false)]), Some(3));
        assert_eq!(pods(&[(Some(4_000), false), (Some(90_000), true)]), Some(1));
        assert_eq!(pods(&[(None, false), (None, false)]), None);
        assert_eq!(pods(&[(Some(900_000), false)]), Some(10));
        assert_eq!(computed_for_total(&hpa, &metric, 2, 5), None);
    }
}
