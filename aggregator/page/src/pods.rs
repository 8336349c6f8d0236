//! Pods: the list of all of them, and the table of a workload's.

use aggregator_view::documents::{List, Pod};
use maud::{Markup, html};

use crate::address::{Address, Column, View};
use crate::page::{Fragment, Page};
use crate::shown::Shown;
use crate::sparkline::sparkline;
use crate::table::{self, Heading, number, sorting_headings, text};
use crate::{figures, moment};

const FIGURES: [Heading; 7] = [
    text("State"),
    number("Requests/s").sorted_by(Column::Requests),
    text("Last 2 min").wide(),
    number("Attempts/s").wide(),
    number("In flight").sorted_by(Column::Inflight),
    number("Errors").sorted_by(Column::Errors),
    number("Age").sorted_by(Column::Age).wide(),
];

/// A page of the pods of all namespaces, or of the one of `address`.
pub fn pods(address: &Address, now_unix_ms: u64, list: &List<Pod>) -> Page {
    let title = match address.namespace.as_deref() {
        None => "Pods".to_owned(),
        Some(namespace) => format!("Pods of {namespace}"),
    };
    let has_namespace = address.namespace.is_none();
    let mut headings = vec![text("Pod").sorted_by(Column::Name)];
    if has_namespace {
        headings.push(text("Namespace").wide());
    }
    headings.push(text("Workload").wide());
    headings.extend(FIGURES);
    let value = |column, pod: &Pod| table::sorted_value(column, &pod.rates, None);
    let rows = html! {
        @for pod in table::in_order(address, &list.metadata, &list.items, value) {
            tr {
                th scope="row" { (Shown(&pod.name)) }
                @if has_namespace {
                    td.wide { (Shown(&pod.namespace)) }
                }
                td.wide { (workload(address, pod)) }
                (cells(pod))
            }
        }
    };
    let html = html! {
        section #pods aria-labelledby="pods-caption" {
            @if list.items.is_empty() {
                p.none { "No pod is known here." }
            } @else {
                (table::table("pods", "What each pod's sidecar counted", &sorting_headings(&headings, address, &list.metadata), &rows))
            }
            (table::pager(address, &list.metadata, "pods"))
        }
    };
    let fragments = vec![Fragment { id: "pods", html }];
    Page::new(address, now_unix_ms, &title, fragments)
}

fn workload(address: &Address, pod: &Pod) -> Markup {
    let Some(workload) = &pod.workload else {
        return figures::unknown();
    };
    let view = View::Workload {
        kind: workload.kind.clone(),
        name: workload.name.clone(),
    };
    let target = Address::new(Some(&pod.namespace), view);
    html! {
        a href=(address.link(&target)) { (Shown(&workload.name)) }
        " " span.kind { (Shown(&workload.kind)) }
    }
}

/// The table of a workload's pods.
pub(crate) fn of_workload(list: &List<Pod>) -> Markup {
    let mut headings = vec![text("Pod")];
    headings.extend(FIGURES);
    let plain = headings.iter().map(|heading| Heading {
        column: None,
        ..*heading
    });
    let plain: Vec<_> = plain.collect();
    let rows = html! {
        @for pod in &list.items {
            tr {
                th scope="row" { (Shown(&pod.name)) }
                (cells(pod))
            }
        }
    };
    html! {
        section #pods aria-labelledby="pods-title" {
            h2 #pods-title { "Pods" }
            @if list.items.is_empty() {
                p.none { "No pod of this workload is known." }
            } @else {
                (table::table("pods", "What each pod's sidecar counted", &table::headings(&plain), &rows))
            }
            @if let Some(remaining) = list.metadata.remaining_item_count.filter(|count| *count > 0) {
                p.none { (figures::count(Some(remaining))) " more pods are in the list of all pods." }
            }
        }
    }
}

/// The figures of [`FIGURES`].
fn cells(pod: &Pod) -> Markup {
    let rates = &pod.rates;
    html! {
        td {
            (table::chip(&pod.state))
            @if pod.ready == Some(false) { " " span.badge { "not ready" } }
            @if !pod.message.is_empty() {
                p.reason { (Shown(&pod.message)) }
            } @else if !pod.reason.is_empty() {
                p.reason { (Shown(&pod.reason)) }
            }
        }
        td.number { (figures::rate(rates.requests_per_second)) }
        td.wide { (sparkline(&pod.history)) }
        td.number.wide { (figures::rate(rates.attempts_per_second)) }
        td.number { (figures::inflight(rates.inflight)) }
        td.number { (figures::share(rates.error_ratio)) }
        td.number.wide { (figures::duration(rates.age_ms)) }
    }
}

/// When a value of a history ended: they are 2 s apart, the last one ends now.
pub(crate) fn history_time(now_unix_ms: u64, length: usize, index: usize) -> u64 {
    let back = (length.saturating_sub(1 + index) as u64) * HISTORY_STEP_MS;
    now_unix_ms.saturating_sub(back)
}

/// Length of a window of a history.
pub(crate) const HISTORY_STEP_MS: u64 = 2_000;

/// A time on its own, for headings of columns.
pub(crate) fn time_heading(at_unix_ms: u64, now_unix_ms: u64) -> Markup {
    html! { th.number scope="row" { (moment::element(at_unix_ms, now_unix_ms)) } }
}
