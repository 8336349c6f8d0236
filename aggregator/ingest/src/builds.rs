//! Builds of the filter that have open streams: shows a roll-out that did not reach every pod.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

/// Builds counted by name: a roll-out has two or three. Further ones are counted as [`OTHER`].
const BUILDS_MAX: usize = 16;
/// Label of builds beyond [`BUILDS_MAX`].
const OTHER: &str = "other";
/// Label of a filter that does not name its build.
const UNKNOWN: &str = "unknown";

/// Streams by the build that their `Hello` names. Clones share the counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Builds(Arc<Mutex<BTreeMap<String, i64>>>);

/// Counts one stream until it is dropped.
#[derive(Debug)]
pub(crate) struct BuildGuard {
    builds: Builds,
    label: String,
}

// === impl Builds ===

impl Builds {
    pub(crate) fn count(&self, build: &str) -> BuildGuard {
        let mut counts = self.0.lock();
        let label = match build {
            "" => UNKNOWN,
            build if counts.contains_key(build) || counts.len() < BUILDS_MAX => build,
            _ => OTHER,
        };
        *counts.entry(label.to_owned()).or_default() += 1;
        BuildGuard {
            builds: self.clone(),
            label: label.to_owned(),
        }
    }
}

impl Collector for Builds {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let counts = self.0.lock();
        let help = "Streams of sidecars that said hello, by build of the filter";
        let mut family = encoder.encode_descriptor("sidecars", help, None, MetricType::Gauge)?;
        for (build, count) in &*counts {
            let labels = [("build", build.as_str())];
            ConstGauge::new(*count).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

// === impl BuildGuard ===

impl Drop for BuildGuard {
    fn drop(&mut self) {
        let mut counts = self.builds.0.lock();
        if let Some(count) = counts.get_mut(&self.label) {
            *count -= 1;
            // A build without streams frees its place under `BUILDS_MAX`, and its series ends.
            if *count == 0 {
                counts.remove(&self.label);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    fn shown(builds: &Builds) -> Vec<String> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(builds.clone()));
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        let series = text.lines().filter(|line| !line.starts_with('#'));
        series.map(str::to_owned).collect()
    }

    /// Each stream counts as long as it is there; what no stream has is no series.
    #[test]
    fn counts_what_is_there() {
        let builds = Builds::default();
        let old = builds.count("0.1.0");
        let new = [builds.count("0.2.0"), builds.count("0.2.0")];
        let mute = builds.count("");
        let expected = [
            r#"sidecars{build="0.1.0"} 1"#,
            r#"sidecars{build="0.2.0"} 2"#,
            r#"sidecars{build="unknown"} 1"#,
        ];
        assert_eq!(shown(&builds), expected);
        drop((old, mute));
        assert_eq!(shown(&builds), [r#"sidecars{build="0.2.0"} 2"#]);
        drop(new);
        assert!(shown(&builds).is_empty());
    }

    /// However many builds there are, the series stay few and every stream is counted.
    #[test]
    fn is_bounded() {
        let builds = Builds::default();
        let all: Vec<_> = (0..100).map(|n| builds.count(&n.to_string())).collect();
        let series = shown(&builds);
        assert_eq!(series.len(), BUILDS_MAX + 1);
        assert!(series.contains(&r#"sidecars{build="other"} 84"#.to_owned()));
        drop(all);
        assert!(shown(&builds).is_empty());
    }
}
