//! What `/metrics` says, as tables.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::markdown::cell;

/// Values of a label that are listed; of a label with more it is said that there are more.
const VALUES_MAX: usize = 40;

#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Metric {
    /// Name as registered, without `_total` or `_info`.
    pub name: String,
    /// `counter`, `gauge`, `histogram`, `info`.
    pub kind: String,
    /// Unit, if it was registered with one.
    pub unit: String,
    pub help: String,
    /// Labels, and the values seen.
    pub labels: BTreeMap<String, BTreeSet<String>>,
}

/// Labels that get further values as things happen.
#[derive(Clone, Copy, Debug)]
pub struct OpenLabels {
    pub metric: &'static str,
    /// For the column `Labels`.
    pub text: &'static str,
}

// === impl Metric ===

impl Metric {
    /// The name under which samples are found.
    pub fn exposed(&self) -> String {
        match self.kind.as_str() {
            "counter" => format!("{}_total", self.name),
            "info" => format!("{}_info", self.name),
            _ => self.name.clone(),
        }
    }

    fn unit(&self) -> &str {
        match self.unit.as_str() {
            "" if self.name.ends_with("_seconds") => "seconds",
            "" if self.name.ends_with("_bytes") => "bytes",
            "" if self.kind == "info" => "",
            "" => "1",
            unit => unit,
        }
    }

    fn labels(&self, open: &[OpenLabels]) -> String {
        if let Some(open) = open.iter().find(|open| open.metric == self.exposed()) {
            return open.text.to_owned();
        }
        let labels = self.labels.iter().filter(|(name, _)| *name != "le");
        let labels = labels.map(|(name, values)| {
            let mut shown: Vec<_> = values
                .iter()
                .take(VALUES_MAX)
                .map(|value| format!("`{value}`"))
                .collect();
            if values.len() > VALUES_MAX {
                shown.push("…".to_owned());
            }
            format!("`{name}`: {}", shown.join(", "))
        });
        labels.collect::<Vec<_>>().join("; ")
    }
}

/// Reads an exposition in the text format of `OpenMetrics`.
pub fn parse(text: &str) -> Vec<Metric> {
    let mut metrics: Vec<Metric> = Vec::new();
    for line in text.lines() {
        let comment = line.strip_prefix("# ").and_then(|rest| {
            let mut words = rest.splitn(3, ' ');
            Some((words.next()?, words.next()?, words.next()?))
        });
        match comment {
            Some(("HELP", name, help)) => metrics.push(Metric {
                name: name.to_owned(),
                help: help.trim_end_matches('.').to_owned(),
                ..Metric::default()
            }),
            Some((keyword, name, value)) => {
                let metric = metrics.last_mut().filter(|metric| metric.name == name);
                if let Some(metric) = metric {
                    match keyword {
                        "TYPE" => value.clone_into(&mut metric.kind),
                        "UNIT" => value.clone_into(&mut metric.unit),
                        _ => {}
                    }
                }
            }
            None => {
                let metric = metrics.last_mut();
                if let Some(metric) = metric.filter(|metric| line.starts_with(&metric.name)) {
                    for (name, value) in labels(line) {
                        metric
                            .labels
                            .entry(name.to_owned())
                            .or_default()
                            .insert(value.to_owned());
                    }
                }
            }
        }
    }
    metrics.sort_by(|one, other| one.name.cmp(&other.name));
    metrics
}

/// Labels of a sample. Values of ours hold no quotes.
fn labels(line: &str) -> Vec<(&str, &str)> {
    let Some((inside, _)) = line
        .split_once('{')
        .and_then(|(_, rest)| rest.rsplit_once('}'))
    else {
        return Vec::new();
    };
    let parts = inside
        .split("\",")
        .filter_map(|part| part.split_once("=\""));
    parts
        .map(|(name, value)| (name, value.trim_end_matches('"')))
        .collect()
}

/// The table of a program's metrics.
pub fn render(metrics: &[Metric], open: &[OpenLabels]) -> String {
    let mut out =
        String::from("\n| Metric | Type | Unit | Labels | Meaning |\n|---|---|---|---|---|\n");
    for metric in metrics {
        let _ = writeln!(
            out,
            "| `{}` | {} | {} | {} | {}. |",
            metric.exposed(),
            metric.kind,
            metric.unit(),
            cell(&metric.labels(open)),
            cell(&metric.help)
        );
    }
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP a_refused What was refused, by reason.
# TYPE a_refused counter
a_refused_total{reason=\"x\",kind=\"k\"} 0
a_refused_total{reason=\"y\",kind=\"k\"} 0
# HELP a_age_seconds Age.
# TYPE a_age_seconds histogram
# UNIT a_age_seconds seconds
# HELP a_build Which
# TYPE a_build info
a_build_info{version=\"1.2\"} 1
# EOF
";

    /// Names as they are exposed, units, label values.
    #[test]
    fn reads_an_exposition() {
        let metrics = parse(TEXT);
        let exposed: Vec<_> = metrics.iter().map(Metric::exposed).collect();
        assert_eq!(
            exposed,
            ["a_age_seconds", "a_build_info", "a_refused_total"]
        );
        let open = [OpenLabels {
            metric: "a_build_info",
            text: "`version`",
        }];
        let table = render(&metrics, &open);
        assert!(
            table.contains("| `a_age_seconds` | histogram | seconds |  | Age. |"),
            "{table}"
        );
        assert!(
            table.contains("| `a_build_info` | info |  | `version` | Which. |"),
            "{table}"
        );
        assert!(table.contains("`kind`: `k`; `reason`: `x`, `y`"), "{table}");
    }
}
