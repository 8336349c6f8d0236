//! Why an HPA had as many replicas as it had at a time.

use aggregator_view::documents::{Explanation, MetricExplanation, Read, Step};
use maud::{Markup, html};

use crate::address::Address;
use crate::page::{Fragment, Page};
use crate::shown::Shown;
use crate::table::{self, number, text};
use crate::{ROWS_MAX, figures, hpa, moment};

/// The page of an explanation.
pub fn explanation(address: &Address, now_unix_ms: u64, document: &Explanation) -> Page {
    let at = moment::clock(document.at_unix_ms, now_unix_ms);
    let title = format!("Why {} did what it did at {at}", document.hpa);
    let fragments = vec![
        Fragment {
            id: "summary",
            html: summary(address, document),
        },
        Fragment {
            id: "sentences",
            html: sentences(document),
        },
        Fragment {
            id: "arithmetic",
            html: arithmetic(now_unix_ms, document),
        },
        Fragment {
            id: "change",
            html: what_would_change_it(document),
        },
    ];
    Page::new(address, now_unix_ms, &title, fragments)
}

fn summary(address: &Address, document: &Explanation) -> Markup {
    let derived = document.derived_replicas;
    html! {
        section #summary aria-label="Summary" {
            dl.facts {
                div { dt { "Scales" } dd { (hpa::target(address, &document.target)) } }
                div { dt { "Replicas before" } dd { (figures::count(document.current_replicas)) } }
                div { dt { "Derived here" } dd { b { (figures::count(derived)) } } }
                div { dt { "Its status said" } dd {
                    (figures::count(document.observed_replicas)) " " (agreement(document))
                } }
                div { dt { "Limits" } dd { (document.min_replicas) "–" (document.max_replicas) } }
            }
        }
    }
}

fn agreement(document: &Explanation) -> Markup {
    match (document.derived_replicas, document.observed_replicas) {
        (Some(derived), Some(observed)) if derived == observed => {
            html! { span.badge.good { "the same" } }
        }
        (Some(_), Some(_)) => html! { span.badge { "differs" } },
        _ => html! {},
    }
}

fn sentences(document: &Explanation) -> Markup {
    html! {
        section #sentences aria-labelledby="sentences-title" {
            h2 #sentences-title { "In words" }
            (table::silent_replicas(&document.replicas))
            @if document.sentences.is_empty() {
                p.none { "Nothing is known of this time." }
            }
            ol.sentences {
                @for sentence in &document.sentences { li { (Shown(sentence)) } }
            }
            @if !document.unknown.is_empty() {
                h3 { "Not known" }
                ul { @for sentence in &document.unknown { li { (Shown(sentence)) } } }
            }
        }
    }
}

fn arithmetic(now: u64, document: &Explanation) -> Markup {
    html! {
        section #arithmetic aria-labelledby="arithmetic-title" {
            h2 #arithmetic-title { "The arithmetic" }
            @for (index, metric) in document.metrics.iter().enumerate() {
                (of_metric(now, index, metric))
            }
            @if !document.limits.is_empty() {
                h3 { "Behaviour, minimum and maximum" }
                (steps("limits", "What was made of the metrics' replicas", &document.limits))
            }
        }
    }
}

fn of_metric(now: u64, index: usize, metric: &MetricExplanation) -> Markup {
    let id = format!("metric-{index}");
    html! {
        h3 { (Shown(&metric.metric)) }
        p {
            "Target: " (Shown(&metric.target)) ". "
            @if metric.ours {
                "Replicas that it wants: " b { (figures::count(metric.proposed_replicas)) } "."
            } @else {
                "Another server answers it, so its value is not known here."
            }
        }
        @if !metric.steps.is_empty() {
            (steps(&format!("{id}-steps"), "Step by step", &metric.steps))
        }
        @if let Some(read) = &metric.read {
            (of_read(now, &id, read))
        }
    }
}

fn steps(id: &str, caption: &str, steps: &[Step]) -> Markup {
    let headings = [text("Step"), number("Replicas after it")];
    let rows = html! {
        @for step in steps {
            tr {
                td { (Shown(&step.text)) }
                td.number {
                    @match step.replicas {
                        Some(replicas) => b { (replicas) },
                        None => span.none { "–" span.sr { "not said" } },
                    }
                }
            }
        }
    };
    table::table(id, caption, &table::headings(&headings), &rows)
}

/// The read behind a metric, with its pods.
fn of_read(now: u64, id: &str, read: &Read) -> Markup {
    let headings = [
        text("Pod"),
        number("Value"),
        number("Window"),
        number("Age"),
        text("State"),
    ];
    let each = read.each.as_deref().unwrap_or_default();
    let rows = html! {
        @for pod in each.iter().take(ROWS_MAX) {
            tr {
                th scope="row" { (Shown(&pod.name)) }
                @if pod.value_milli.is_some() {
                    td.number { (figures::thousandths(pod.value_milli)) }
                    td.number { (figures::duration(Some(pod.window_ms))) }
                    td.number { (figures::duration(Some(pod.age_ms))) }
                } @else {
                    td.number { span.unknown { "left out" } }
                    td.number { "" }
                    td.number { "" }
                }
                td {
                    (table::chip(&pod.state))
                    @if pod.pending { " " span.badge { "pending" } }
                }
            }
        }
    };
    html! {
        p {
            "Read at " (moment::element(read.at_unix_ms, now)) ": "
            @match read.sum_milli {
                Some(_) => {
                    "a sum of " b { (figures::thousandths(read.sum_milli)) } " of " (read.pods) " pods, the oldest value "
                    (figures::duration(Some(read.age_ms))) " old."
                }
                None => { "refused with " (read.code) ". " (Shown(&read.message)) }
            }
        }
        @if !each.is_empty() {
            (table::table(&format!("{id}-pods"), "What was read of each pod", &table::headings(&headings), &rows))
            @if each.len() > ROWS_MAX {
                p.none { (each.len() - ROWS_MAX) " more pods." }
            }
        } @else if read.sum_milli.is_some() {
            p.none { "The ledger keeps each pod's value for 15 minutes and around changes; of this read it has the sum." }
        }
    }
}

fn what_would_change_it(document: &Explanation) -> Markup {
    html! {
        section #change aria-labelledby="change-title" {
            h2 #change-title { "What would change it" }
            @if document.would_change.is_empty() {
                p.none { "That cannot be said without a read." }
            } @else {
                ul { @for sentence in &document.would_change { li { (Shown(sentence)) } } }
            }
        }
    }
}
