//! Documents become rows, and rows a table. Pure.

use std::collections::BTreeMap;

use aggregator_view::documents::{Group, HpaState, Pod, Rates};
use serde_json::Value;

use crate::args::TopKind;
use crate::numbers;
use crate::sparkline;
use crate::table::{Cell, Kind, Table, Tone};

/// Columns of a sparkline.
const SPARKLINE: usize = 30;
/// States in the order in which they are listed.
const STATES: [&str; 5] = ["live", "held", "new", "gone", "unknown"];

/// One pod, workload, namespace or service.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    pub(super) namespace: String,
    pub(super) name: String,
    /// As kubectl names it: `pod`, `deployment.apps`.
    kind: String,
    pub(super) state: String,
    tone: Tone,
    pub(super) rates: Rates,
    pub(super) skew: Option<f64>,
    history: Vec<Option<f64>>,
    workload: String,
    ready: Option<bool>,
    filter: String,
    why: String,
    hpas: Vec<HpaState>,
}

/// Which columns there are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) kind: TopKind,
    pub(super) with_namespace: bool,
    pub(super) is_wide: bool,
    pub(super) with_history: bool,
}

/// The table of rows.
pub(super) fn table(rows: &[Row], shape: Shape) -> Table {
    let mut columns = Vec::new();
    let is_pods = shape.kind == TopKind::Pods;
    let has_namespace = shape.with_namespace && shape.kind != TopKind::Namespaces;
    if has_namespace {
        columns.push(("NAMESPACE", Kind::Name));
    }
    columns.push(("NAME", Kind::Name));
    for name in ["REQ/S", "ATT/S", "IN FLIGHT", "ERRORS"] {
        columns.push((name, Kind::Number));
    }
    if !is_pods {
        columns.push(("SKEW", Kind::Number));
    }
    columns.extend([("WINDOW", Kind::Number), ("AGE", Kind::Number)]);
    columns.push(("STATE", Kind::Name));
    if shape.with_history {
        columns.push(("LAST 2 MIN", Kind::Extra));
    }
    match (shape.is_wide, is_pods) {
        (true, true) => columns.extend([
            ("WORKLOAD", Kind::Name),
            ("READY", Kind::Name),
            ("FILTER", Kind::Name),
            ("WHY", Kind::Extra),
        ]),
        (true, false) => columns.push(("HPA HAS/WANTS (MIN-MAX)", Kind::Name)),
        (false, _) => {}
    }
    let rows = rows.iter().map(|row| row.cells(shape, has_namespace));
    Table {
        columns,
        rows: rows.collect(),
    }
}

// === impl Row ===

impl Row {
    /// Reads an item of a list.
    pub(super) fn of(kind: TopKind, item: &Value) -> Result<Self, serde_json::Error> {
        let text = item.to_string();
        Ok(match kind {
            TopKind::Pods => Self::of_pod(common_json::from_str(&text)?),
            _ => Self::of_group(common_json::from_str(&text)?),
        })
    }

    fn of_pod(pod: Pod) -> Self {
        let workload = pod.workload.map(|of| format!("{}/{}", of.kind, of.name));
        Self {
            namespace: pod.namespace,
            name: pod.name,
            kind: "pod".to_owned(),
            tone: match pod.state.as_str() {
                "live" if pod.reason.is_empty() => Tone::Good,
                "live" | "new" | "held" => Tone::Warning,
                _ => Tone::Bad,
            },
            state: pod.state,
            rates: pod.rates,
            skew: None,
            history: pod.history,
            workload: workload.unwrap_or_default(),
            ready: pod.ready,
            filter: pod.filter_version,
            why: if pod.message.is_empty() {
                pod.reason
            } else {
                pod.message
            },
            hpas: Vec::new(),
        }
    }

    fn of_group(group: Group) -> Self {
        let (state, tone) = summary(&group.pods);
        Self {
            namespace: group.namespace,
            name: group.name,
            kind: reference_kind(&group.kind),
            state,
            tone,
            rates: group.rates,
            skew: group.skew,
            history: group.history,
            hpas: group.hpas,
            ..Self::default()
        }
    }

    /// As `kubectl get -o name` prints it.
    pub(super) fn reference(&self) -> String {
        format!("{}/{}", self.kind, self.name)
    }

    /// What a filter is compared with.
    pub(super) fn key(&self) -> String {
        format!("{}/{} {}", self.namespace, self.name, self.state)
    }

    fn cells(&self, shape: Shape, has_namespace: bool) -> Vec<Cell> {
        let rates = &self.rates;
        let mut cells = Vec::new();
        if has_namespace {
            cells.push(Cell::new(&self.namespace));
        }
        cells.push(Cell::new(&self.name));
        cells.push(Cell::new(&numbers::rate(rates.requests_per_second)));
        cells.push(Cell::new(&numbers::rate(rates.attempts_per_second)));
        cells.push(Cell::new(&numbers::rate(rates.inflight)));
        let fails = rates.error_ratio.is_some_and(|share| share > 0.0);
        let errors = Cell::new(&numbers::percent(rates.error_ratio));
        cells.push(errors.toned(if fails { Tone::Bad } else { Tone::Plain }));
        if shape.kind != TopKind::Pods {
            cells.push(Cell::new(&numbers::factor(self.skew)));
        }
        cells.push(Cell::new(&numbers::time(rates.window_ms)));
        cells.push(Cell::new(&numbers::time(rates.age_ms)));
        cells.push(Cell::new(&self.state).toned(self.tone));
        if shape.with_history {
            let line = sparkline::line(&self.history, SPARKLINE);
            cells.push(Cell::new(&line).toned(Tone::Faint));
        }
        match (shape.is_wide, shape.kind) {
            (true, TopKind::Pods) => cells.extend(self.of_wide_pod()),
            (true, _) => cells.push(Cell::new(&hpas(&self.hpas))),
            (false, _) => {}
        }
        cells
    }

    fn of_wide_pod(&self) -> [Cell; 4] {
        let or_unknown = |text: &str| match text {
            "" => Cell::new(numbers::UNKNOWN),
            text => Cell::new(text),
        };
        let ready = match self.ready {
            Some(true) => "yes",
            Some(false) => "no",
            None => "unknown",
        };
        [
            or_unknown(&self.workload),
            Cell::new(ready),
            or_unknown(&self.filter),
            Cell::new(&self.why),
        ]
    }
}

/// Pods by state as `3 live, 1 held`, and how bad that is.
fn summary(pods: &BTreeMap<String, usize>) -> (String, Tone) {
    let known = STATES.iter().filter_map(|state| pods.get_key_value(*state));
    let others = pods
        .iter()
        .filter(|(state, _)| !STATES.contains(&state.as_str()));
    let parts = known.chain(others).filter(|(_, count)| **count > 0);
    let parts: Vec<_> = parts
        .map(|(state, count)| format!("{count} {state}"))
        .collect();
    let has = |state: &str| pods.get(state).is_some_and(|count| *count > 0);
    let tone = match () {
        () if has("gone") || has("unknown") => Tone::Bad,
        () if has("held") || has("new") => Tone::Warning,
        () if has("live") => Tone::Good,
        () => Tone::Faint,
    };
    if parts.is_empty() {
        return ("no pods".to_owned(), tone);
    }
    (parts.join(", "), tone)
}

fn hpas(hpas: &[HpaState]) -> String {
    let replicas = |count: Option<u32>| count.map_or_else(|| "?".to_owned(), |n| n.to_string());
    let each = hpas.iter().map(|hpa| {
        let (current, wanted) = (
            replicas(hpa.current_replicas),
            replicas(hpa.desired_replicas),
        );
        let (min, max) = (hpa.min_replicas, hpa.max_replicas);
        format!("{} {current}/{wanted} ({min}-{max})", hpa.name)
    });
    match hpas {
        [] => numbers::UNKNOWN.to_owned(),
        _ => each.collect::<Vec<_>>().join(", "),
    }
}

/// `deployment.apps` for `Deployment`.
fn reference_kind(kind: &str) -> String {
    let lower = kind.to_lowercase();
    let group = match lower.as_str() {
        "deployment" | "replicaset" | "statefulset" | "daemonset" => ".apps",
        "job" | "cronjob" => ".batch",
        _ => "",
    };
    lower + group
}
