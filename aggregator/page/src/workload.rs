//! One workload: the last two minutes of each pod, what autoscalers read of it, and their targets.

use aggregator_view::documents::{Group, List, Pod, Read, Timeline};
use maud::{Markup, html};

use crate::address::{Address, View};
use crate::chart::{Chart, Level, Line, Mark, MarkKind, Panel, Shape, Span};
use crate::page::{Fragment, Page, hpa_page};
use crate::pods::{self, HISTORY_STEP_MS, history_time};
use crate::shown::Shown;
use crate::table::{self, number, text};
use crate::{figures, moment, overview};

/// What the page of a workload shows.
#[derive(Clone, Copy, Debug)]
pub struct WorkloadDocuments<'a> {
    pub workload: &'a Group,
    /// Its pods, the first [`ROWS_MAX`](crate::ROWS_MAX) of them.
    pub pods: &'a List<Pod>,
    /// Timelines of its HPAs, for their targets.
    pub timelines: &'a [Timeline],
    /// Reads by its HPAs.
    pub reads: &'a List<Read>,
}

/// Lines of their own; the pods above are one band.
const LINES: [&str; 7] = ["c0", "c1", "c2", "c3", "c4", "c5", "c6"];
/// Values in the table of the chart: every fifth, so every 10 s.
const TABLE_STEP: usize = 5;
/// Reads in the table.
const READS_MAX: usize = 40;
/// Time that the chart shows.
const SPAN_MS: u64 = 120_000;

/// The page of a workload.
pub fn workload(address: &Address, now_unix_ms: u64, documents: &WorkloadDocuments<'_>) -> Page {
    let group = documents.workload;
    let title = format!("{} {}", group.kind, group.name);
    let fragments = vec![
        Fragment {
            id: "summary",
            html: summary(address, group),
        },
        Fragment {
            id: "history",
            html: history(address, now_unix_ms, documents),
        },
        Fragment {
            id: "pods",
            html: pods::of_workload(documents.pods),
        },
        Fragment {
            id: "reads",
            html: reads(address, now_unix_ms, documents.reads),
        },
    ];
    Page::new(address, now_unix_ms, &title, fragments)
}

fn summary(address: &Address, group: &Group) -> Markup {
    let rates = &group.rates;
    html! {
        section #summary aria-label="Summary" {
            dl.facts {
                div { dt { "Requests/s" } dd { (figures::rate(rates.requests_per_second)) } }
                div { dt { "Attempts/s" } dd { (figures::rate(rates.attempts_per_second)) } }
                div { dt { "In flight" } dd { (figures::inflight(rates.inflight)) } }
                div { dt { "Errors" } dd { (figures::share(rates.error_ratio)) } }
                div { dt { "Skew" } dd { (figures::skew(group.skew)) } }
                div { dt { "Window" } dd { (figures::duration(rates.window_ms)) } }
                div { dt { "Age" } dd { (figures::duration(rates.age_ms)) } }
                div { dt { "Pods" } dd { (table::states(&group.pods)) } }
                div { dt { "HPA has → wants" } dd { (overview::hpas(address, group)) } }
            }
        }
    }
}

/// The chart, and its figures as a table.
fn history(address: &Address, now: u64, documents: &WorkloadDocuments<'_>) -> Markup {
    let busiest = busiest(documents.pods);
    let mut lines: Vec<Line> = busiest
        .iter()
        .zip(LINES)
        .map(|(pod, class)| line(pod, class, now))
        .collect();
    let rest = busiest.get(LINES.len()..).unwrap_or_default();
    if !rest.is_empty() {
        lines.extend(band(rest, now));
    }
    let panel = Panel {
        unit: "requests/s per pod".to_owned(),
        height: 220,
        integers: false,
        lines,
        levels: targets(documents),
        marks: marks(address, now, documents.reads),
    };
    let chart = Chart {
        id: "pods-chart",
        title: "Requests per second of each pod, last 2 minutes",
        description: "Lines of the busiest pods, the targets of autoscalers as dashed lines, and a mark for each read. \
                      The tables below have the same figures.",
        span: Span {
            from: now.saturating_sub(SPAN_MS),
            to: now,
        },
        panels: vec![panel],
    };
    html! {
        section #history aria-labelledby="history-title" {
            h2 #history-title { "Last 2 minutes" }
            @if busiest.is_empty() {
                p.none { "No pod has a history yet." }
            } @else {
                (chart.to_markup())
                (figures_table(&busiest, now))
            }
        }
    }
}

/// Pods with a history, by their rate now if they are many.
fn busiest(list: &List<Pod>) -> Vec<&Pod> {
    let known = |pod: &&Pod| pod.history.iter().any(Option::is_some);
    let mut pods: Vec<&Pod> = list.items.iter().filter(known).collect();
    let rate = |pod: &Pod| pod.rates.requests_per_second.unwrap_or(-1.0);
    // Of equal pods the order stays, so that colours do.
    if pods.len() > LINES.len() {
        pods.sort_by(|a, b| rate(b).total_cmp(&rate(a)));
    }
    pods
}

fn line(pod: &Pod, class: &'static str, now: u64) -> Line {
    Line {
        label: pod.name.clone(),
        class,
        shape: Shape::Straight,
        points: points(&pod.history, now),
    }
}

fn points(history: &[Option<f64>], now: u64) -> Vec<(u64, Option<f64>)> {
    let length = history.len();
    let values = history.iter().enumerate();
    values
        .map(|(index, value)| (history_time(now, length, index), *value))
        .collect()
}

/// Lowest and highest of many pods.
fn band(pods: &[&Pod], now: u64) -> [Line; 2] {
    let length = pods.iter().map(|pod| pod.history.len()).max().unwrap_or(0);
    let fold = |fold: fn(f64, f64) -> f64| {
        let at = |index: usize| {
            // Histories end together, so they are counted from their ends.
            let values = pods.iter().filter_map(|pod| {
                let index = (index + pod.history.len()).checked_sub(length)?;
                pod.history.get(index).copied().flatten()
            });
            values.reduce(fold)
        };
        (0..length).map(at).collect::<Vec<_>>()
    };
    let others = pods.len();
    [("highest", fold(f64::max)), ("lowest", fold(f64::min))].map(|(which, values)| Line {
        label: format!("{which} of {others} other pods"),
        class: "rest",
        shape: Shape::Straight,
        points: points(&values, now),
    })
}

/// A dashed line for each HPA that reads requests per second.
fn targets(documents: &WorkloadDocuments<'_>) -> Vec<Level> {
    let on_this_axis = |timeline: &&Timeline| {
        let mut reads = documents.reads.items.iter();
        reads.any(|read| read.hpa == timeline.hpa && is_rate(read))
    };
    let timelines = documents.timelines.iter().filter(on_this_axis);
    timelines
        .filter_map(|timeline| {
            let milli = timeline.target_milli?;
            Some(Level {
                label: format!(
                    "target of {}: {} per pod",
                    timeline.hpa,
                    figures::thousandths_text(milli)
                ),
                class: "target",
                value: figures::from_milli(milli),
            })
        })
        .collect()
}

/// True for a read of the metric that the chart shows, under whatever prefix.
fn is_rate(read: &Read) -> bool {
    read.metric.ends_with("_requests_per_second")
        && !read.metric.ends_with("_upstream_requests_per_second")
}

/// Reads of the chart's metric at their mean per pod; refusals on the axis.
fn marks(address: &Address, now: u64, list: &List<Read>) -> Vec<Mark> {
    let shown = list
        .items
        .iter()
        .filter(|read| !read.hpa.is_empty() && is_rate(read));
    let mark = |read: &Read| {
        let value = mean_milli(read);
        let at = moment::clock(read.at_unix_ms, now);
        let label = match value {
            Some(milli) => format!(
                "{at}: {} read {} per pod of {} pods. Why it did what it did",
                read.hpa,
                figures::thousandths_text(milli),
                read.pods
            ),
            None => format!("{at}: {} was refused. Why it did what it did", read.hpa),
        };
        Mark {
            at: read.at_unix_ms,
            value: value.map_or(0.0, figures::from_milli),
            kind: value.map_or(MarkKind::Refusal, |_| MarkKind::Read),
            href: address.link(&explanation(address, read)),
            label,
        }
    };
    let within = |read: &&Read| read.at_unix_ms + SPAN_MS >= now && read.at_unix_ms <= now;
    shown.filter(within).take(READS_MAX).map(mark).collect()
}

/// The mean per pod; `None` for a refusal.
fn mean_milli(read: &Read) -> Option<u64> {
    read.sum_milli?.checked_div(read.pods.into())
}

fn explanation(address: &Address, read: &Read) -> Address {
    let view = View::Explanation {
        hpa: read.hpa.clone(),
        at: read.at_unix_ms,
    };
    Address {
        namespace: address.namespace.clone(),
        view,
    }
}

/// The chart's lines as figures, newest first.
fn figures_table(pods: &[&Pod], now: u64) -> Markup {
    let shown = pods.get(..pods.len().min(LINES.len())).unwrap_or_default();
    let length = shown.iter().map(|pod| pod.history.len()).max().unwrap_or(0);
    let head = html! {
        th scope="col" class="number" { "Until" }
        @for pod in shown {
            th scope="col" class="number" { (Shown(&pod.name)) }
        }
    };
    let rows = html! {
        @for index in (0..length).rev().step_by(TABLE_STEP) {
            tr {
                (pods::time_heading(history_time(now, length, index), now))
                @for pod in shown {
                    @let value = (index + pod.history.len()).checked_sub(length)
                        .and_then(|index| pod.history.get(index).copied().flatten());
                    td.number { (figures::rate(value)) }
                }
            }
        }
    };
    let caption = format!(
        "Requests per second over {} s each, every {} s",
        HISTORY_STEP_MS / 1_000,
        HISTORY_STEP_MS * TABLE_STEP as u64 / 1_000
    );
    html! {
        details {
            summary { "The chart as a table" }
            (table::table("history", &caption, &head, &rows))
        }
    }
}

/// What autoscalers read, newest first.
fn reads(address: &Address, now: u64, list: &List<Read>) -> Markup {
    let headings = [
        text("Read at"),
        text("HPA"),
        text("Metric").wide(),
        number("Sum"),
        number("Pods"),
        number("Per pod"),
        number("Oldest value").wide(),
        number("Window").wide(),
        text("Left out").wide(),
    ];
    let mut newest: Vec<&Read> = list.items.iter().collect();
    newest.sort_by_key(|read| std::cmp::Reverse(read.at_unix_ms));
    let rows = html! {
        @for read in newest.iter().take(READS_MAX) {
            tr {
                th scope="row" {
                    @if read.hpa.is_empty() {
                        (moment::element(read.at_unix_ms, now))
                    } @else {
                        a href=(address.link(&explanation(address, read))) { (moment::element(read.at_unix_ms, now)) }
                    }
                }
                td {
                    @if read.hpa.is_empty() {
                        span.none { "not known" }
                    } @else {
                        a href=(address.link(&hpa_page(address.namespace.as_deref().unwrap_or_default(), &read.hpa))) {
                            (Shown(&read.hpa))
                        }
                    }
                }
                td.wide { code { (Shown(&read.metric)) } }
                (answer(read))
            }
        }
    };
    html! {
        section #reads aria-labelledby="reads-title" {
            h2 #reads-title { "What autoscalers read" }
            (table::silent_replicas(&list.replicas))
            @if list.items.is_empty() {
                p.none { "No autoscaler has read a metric of this workload, as far as the ledger reaches." }
            } @else {
                (table::table("reads", "Each read with its link to why the HPA did what it did", &table::headings(&headings), &rows))
            }
        }
    }
}

/// Cells of what was answered.
fn answer(read: &Read) -> Markup {
    html! {
        @if let Some(sum) = read.sum_milli {
            td.number { (figures::thousandths(Some(sum))) }
            td.number { (read.pods) }
            td.number { (figures::thousandths(mean_milli(read))) }
            td.number.wide { (figures::duration(Some(read.age_ms))) }
            td.number.wide { (figures::duration(Some(read.window_ms))) }
            td.wide {
                @if read.left_out.is_empty() { span.none { "none" } }
                @for (index, (reason, count)) in read.left_out.iter().enumerate() {
                    @if index > 0 { ", " }
                    (count) " " (Shown(reason))
                }
            }
        } @else {
            td colspan="6" {
                span.badge { "refused " (read.code) } " "
                @if read.message.is_empty() { "the ledger no longer has the reason" } @else { (Shown(&read.message)) }
            }
        }
    }
}
