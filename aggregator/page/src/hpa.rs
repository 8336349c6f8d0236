//! One HPA: what it read and did, as a chart, as reactions, and line by line.

mod series;

use aggregator_view::documents::{Entry, EntryKind, HpaState, Reaction, Timeline};
use maud::{Markup, html};

use crate::address::{Address, Range, View};
use crate::chart::{Chart, Level, Panel, Span};
use crate::page::{Fragment, Page};
use crate::shown::Shown;
use crate::table::{self, number, text};
use crate::{ROWS_MAX, figures, moment, overview};

/// What the page of an HPA shows.
#[derive(Clone, Copy, Debug)]
pub struct HpaDocuments<'a> {
    pub timeline: &'a Timeline,
    /// Its status now; `None` if it is not watched.
    pub state: Option<&'a HpaState>,
}

/// The page of an HPA.
pub fn hpa(address: &Address, now_unix_ms: u64, documents: &HpaDocuments<'_>) -> Page {
    let timeline = documents.timeline;
    let title = format!("HPA {}", timeline.hpa);
    let fragments = vec![
        Fragment {
            id: "summary",
            html: summary(address, now_unix_ms, documents),
        },
        Fragment {
            id: "timeline",
            html: chart(address, now_unix_ms, timeline),
        },
        Fragment {
            id: "reactions",
            html: reactions(address, now_unix_ms, timeline),
        },
        Fragment {
            id: "entries",
            html: entries(address, now_unix_ms, timeline),
        },
    ];
    Page::new(address, now_unix_ms, &title, fragments)
}

fn summary(address: &Address, now: u64, documents: &HpaDocuments<'_>) -> Markup {
    let timeline = documents.timeline;
    let last_of = |kind: EntryKind| {
        let mut newest = timeline.entries.iter().rev();
        newest.find(|entry| entry.kind == kind)
    };
    let read = last_of(EntryKind::Read);
    let ready = last_of(EntryKind::Ready).and_then(|entry| entry.count);
    html! {
        section #summary aria-label="Summary" {
            dl.facts {
                div { dt { "Scales" } dd { (target(address, &timeline.target)) } }
                div { dt { "Has → wants" } dd {
                    @match documents.state {
                        Some(state) => (overview::has_and_wants(state)),
                        None => (figures::unknown()),
                    }
                } }
                div { dt { "Ready pods" } dd { (figures::count(ready)) } }
                div { dt { "Target per pod" } dd { (figures::thousandths(timeline.target_milli)) } }
                div { dt { "Last read per pod" } dd { (figures::thousandths(read.and_then(series::per_pod_milli))) } }
                div { dt { "Last read" } dd {
                    @match read {
                        Some(read) => (moment::element(read.at_unix_ms, now)),
                        None => (figures::unknown()),
                    }
                } }
            }
        }
    }
}

/// `Deployment/jazz-v1`, as a link.
pub(crate) fn target(address: &Address, target: &str) -> Markup {
    let Some((kind, name)) = target.split_once('/') else {
        return html! { (Shown(target)) };
    };
    let view = View::Workload {
        kind: kind.to_owned(),
        name: name.to_owned(),
    };
    let workload = Address {
        namespace: address.namespace.clone(),
        view,
    };
    html! {
        a href=(address.link(&workload)) { (Shown(name)) } " " span.kind { (Shown(kind)) }
    }
}

fn chart(address: &Address, now: u64, timeline: &Timeline) -> Markup {
    let range = range(address);
    let span = Span {
        from: now.saturating_sub(range.millis()),
        to: now,
    };
    let target = timeline.target_milli.map(|milli| Level {
        label: format!("target: {}", figures::thousandths_text(milli)),
        class: "target",
        value: figures::from_milli(milli),
    });
    let values = Panel {
        unit: "read per pod".to_owned(),
        height: 160,
        integers: false,
        lines: vec![series::reads(timeline, span)],
        levels: target.into_iter().collect(),
        marks: series::read_marks(address, now, timeline, span),
    };
    let replicas = Panel {
        unit: "replicas".to_owned(),
        height: 120,
        integers: true,
        lines: series::replicas(timeline, span),
        levels: vec![
            level("minimum", timeline.min_replicas),
            level("maximum", timeline.max_replicas),
        ],
        marks: series::decision_marks(address, now, timeline),
    };
    let chart = Chart {
        id: "hpa-chart",
        title: "What it read per pod, and the replicas it wanted and got",
        description: "Above the mean per pod of each read with the target as a dashed line, below wanted replicas and \
                      ready pods with minimum and maximum. The tables below have the same figures.",
        span,
        panels: vec![values, replicas],
    };
    html! {
        section #timeline aria-labelledby="timeline-title" {
            h2 #timeline-title { "Timeline" }
            (ranges(address, range))
            (table::silent_replicas(&timeline.replicas))
            @if timeline.entries.is_empty() {
                p.none { "The ledger has nothing of this HPA in this time." }
            } @else {
                (chart.to_markup())
            }
        }
    }
}

fn level(name: &str, replicas: u32) -> Level {
    Level {
        label: format!("{name}: {replicas}"),
        class: "limit",
        value: f64::from(replicas),
    }
}

fn range(address: &Address) -> Range {
    match address.view {
        View::Hpa { range, .. } => range,
        _ => Range::default(),
    }
}

fn ranges(address: &Address, current: Range) -> Markup {
    html! {
        nav.ranges aria-label="Length of the timeline" {
            ul {
                @for range in Range::ALL {
                    li {
                        a href=(address.link(&at(address, range, None))) aria-current=[(range == current).then_some("true")] {
                            (range.as_str())
                        }
                    }
                }
            }
        }
    }
}

/// The same HPA with another range, or from another time backwards.
fn at(address: &Address, range: Range, before: Option<u64>) -> Address {
    let name = match &address.view {
        View::Hpa { name, .. } => name.clone(),
        _ => String::new(),
    };
    let view = View::Hpa {
        name,
        range,
        before,
    };
    Address {
        namespace: address.namespace.clone(),
        view,
    }
}

/// Why the HPA did what it did at a time.
fn explanation(address: &Address, at: u64) -> Address {
    let hpa = match &address.view {
        View::Hpa { name, .. } => name.clone(),
        _ => String::new(),
    };
    Address {
        namespace: address.namespace.clone(),
        view: View::Explanation { hpa, at },
    }
}

fn reactions(address: &Address, now: u64, timeline: &Timeline) -> Markup {
    let headings = [
        text("Step in load at"),
        text("Replicas"),
        number("Read after"),
        number("Decided after"),
        number("Ready after"),
    ];
    let row = |reaction: &Reaction| {
        html! {
            tr {
                th scope="row" { (moment::element(reaction.step_unix_ms, now)) }
                td {
                    @match reaction.decision_ms {
                        Some(after) => a href=(address.link(&explanation(address, reaction.step_unix_ms + after))) {
                            (reaction.from_replicas) " → " (reaction.to_replicas)
                        },
                        None => { (reaction.from_replicas) " → " (reaction.to_replicas) },
                    }
                }
                td.number { (figures::duration(reaction.read_ms)) }
                td.number { (figures::duration(reaction.decision_ms)) }
                td.number { (figures::duration(reaction.ready_ms)) }
            }
        }
    };
    let rows = html! {
        @for reaction in timeline.reactions.iter().rev().take(ROWS_MAX) { (row(reaction)) }
    };
    html! {
        section #reactions aria-labelledby="reactions-title" {
            h2 #reactions-title { "How soon it reacted" }
            @if timeline.reactions.is_empty() {
                p.none { "No step in load led to other replicas in this time." }
            } @else {
                (table::table("reactions", "From the step in load to the read that shows it, to the decision, to ready pods", &table::headings(&headings), &rows))
            }
        }
    }
}

/// All that happened, newest first, [`ROWS_MAX`] a page.
fn entries(address: &Address, now: u64, timeline: &Timeline) -> Markup {
    let before = match address.view {
        View::Hpa { before, .. } => before,
        _ => None,
    };
    let newest = timeline.entries.iter().rev();
    let mut older = newest.filter(|entry| before.is_none_or(|before| entry.at_unix_ms < before));
    let shown: Vec<&Entry> = older.by_ref().take(ROWS_MAX).collect();
    let rest = older.count();
    let headings = [text("At"), text("What"), text("Details")];
    let rows = html! {
        @for entry in &shown {
            tr {
                th scope="row" { (moment::element(entry.at_unix_ms, now)) }
                td { span class={ "event " (class(entry.kind)) } { (word(entry.kind)) } }
                td {
                    (Shown(&entry.text))
                    @if matches!(entry.kind, EntryKind::Read | EntryKind::Refusal | EntryKind::Decision) {
                        " " a href=(address.link(&explanation(address, entry.at_unix_ms))) {
                            "why" span.sr { " at " (moment::clock(entry.at_unix_ms, now)) }
                        }
                    }
                }
            }
        }
    };
    html! {
        section #entries aria-labelledby="entries-title" {
            h2 #entries-title { "Line by line" }
            @if shown.is_empty() {
                p.none { "Nothing happened in this time." }
            } @else {
                (table::table("entries", "Reads, decisions, ready pods and conditions, newest first", &table::headings(&headings), &rows))
            }
            @if rest > 0 || before.is_some() {
                nav.pager aria-label="Pages of the timeline" {
                    @if before.is_some() {
                        a href=(address.link(&at(address, range(address), None))) { "Newest" }
                    }
                    @if let Some(last) = shown.last().filter(|_| rest > 0) {
                        a rel="next" href=(address.link(&at(address, range(address), Some(last.at_unix_ms)))) { "Older" }
                        span { (rest) " more" }
                    }
                }
            }
        }
    }
}

fn word(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::Read => "read",
        EntryKind::Refusal => "refused",
        EntryKind::Decision => "decision",
        EntryKind::Ready => "ready",
        EntryKind::Condition => "condition",
    }
}

fn class(kind: EntryKind) -> &'static str {
    match kind {
        EntryKind::Refusal => "refusal",
        EntryKind::Decision => "decision",
        EntryKind::Read | EntryKind::Ready | EntryKind::Condition => "quiet",
    }
}
