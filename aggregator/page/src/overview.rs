//! Namespaces and workloads: who serves how much, from how many pods, and what autoscalers want.

use aggregator_view::documents::{Group, Health, HpaState, List};
use maud::{Markup, html};

use crate::address::{Address, Column, View};
use crate::page::{Fragment, Page, hpa_page, overview as overview_of};
use crate::shown::Shown;
use crate::sparkline::sparkline;
use crate::table::{self, Heading, number, sorting_headings, text};
use crate::{figures, moment};

/// What the overview shows.
#[derive(Clone, Copy, Debug)]
pub struct OverviewDocuments<'a> {
    /// All namespaces, of which the [`NAMESPACES_MAX`] busiest are shown, or the one of the page.
    pub namespaces: &'a List<Group>,
    pub workloads: &'a List<Group>,
    /// Shown where the reader may see all of it.
    pub health: Option<&'a Health>,
}

/// Namespaces on the overview: with [`ROWS_MAX`](crate::ROWS_MAX) workloads the page stays light.
pub const NAMESPACES_MAX: usize = 50;

const FIGURES: [Heading; 7] = [
    number("Requests/s").sorted_by(Column::Requests),
    text("Last 2 min").wide(),
    number("In flight").sorted_by(Column::Inflight).wide(),
    number("Errors").sorted_by(Column::Errors),
    number("Skew").sorted_by(Column::Skew).wide(),
    number("Age").sorted_by(Column::Age).wide(),
    text("Pods"),
];

/// The overview of all namespaces, or of the one of `address`.
pub fn overview(address: &Address, now_unix_ms: u64, documents: &OverviewDocuments<'_>) -> Page {
    let title = match address.namespace.as_deref() {
        None => "Overview".to_owned(),
        Some(namespace) => format!("Namespace {namespace}"),
    };
    let mut fragments = vec![Fragment {
        id: "summary",
        html: summary(now_unix_ms, documents),
    }];
    if address.namespace.is_none() {
        fragments.push(Fragment {
            id: "namespaces",
            html: namespaces(address, documents.namespaces),
        });
    }
    fragments.push(Fragment {
        id: "workloads",
        html: workloads(address, documents.workloads),
    });
    Page::new(address, now_unix_ms, &title, fragments)
}

/// Sums over what the page is of.
fn summary(now_unix_ms: u64, documents: &OverviewDocuments<'_>) -> Markup {
    let groups = &documents.namespaces.items;
    let sum =
        |value: fn(&Group) -> Option<f64>| groups.iter().filter_map(value).reduce(|a, b| a + b);
    let mut pods = std::collections::BTreeMap::new();
    for (state, count) in groups.iter().flat_map(|group| &group.pods) {
        *pods.entry(state.clone()).or_default() += count;
    }
    let age = groups.iter().filter_map(|group| group.rates.age_ms).max();
    html! {
        section #summary aria-label="Summary" {
            dl.facts {
                div { dt { "Requests/s" } dd { (figures::rate(sum(|group| group.rates.requests_per_second))) } }
                div { dt { "In flight" } dd { (figures::inflight(sum(|group| group.rates.inflight))) } }
                div { dt { "Oldest value" } dd { (figures::duration(age)) } }
                div { dt { "Pods" } dd { (table::states(&pods)) } }
                @if let Some(health) = documents.health {
                    (replicas(now_unix_ms, health))
                }
            }
        }
    }
}

fn replicas(now_unix_ms: u64, health: &Health) -> Markup {
    let answered = health
        .replicas
        .iter()
        .filter(|replica| replica.error.is_empty());
    let ready = answered
        .filter(|replica| replica.not_ready.is_empty())
        .count();
    let uncounted: usize = health.uncounted.iter().map(|group| group.pods).sum();
    html! {
        div { dt { "meshmeter ready" } dd { (ready) " of " (health.replicas.len()) " replicas" } }
        div { dt { "Pods nobody counts" } dd { (uncounted) } }
        @if health.at_unix_ms != 0 && health.at_unix_ms.abs_diff(now_unix_ms) > 60_000 {
            div { dt { "State of" } dd { (moment::element(health.at_unix_ms, now_unix_ms)) } }
        }
    }
}

fn namespaces(address: &Address, list: &List<Group>) -> Markup {
    let mut busiest: Vec<&Group> = list.items.iter().collect();
    if busiest.len() > NAMESPACES_MAX {
        let rate = |group: &Group| group.rates.requests_per_second.unwrap_or(-1.0);
        busiest.sort_by(|a, b| rate(b).total_cmp(&rate(a)));
    }
    let cut = busiest.len().saturating_sub(NAMESPACES_MAX) as u64;
    let more = cut + list.metadata.remaining_item_count.unwrap_or(0);
    let head = html! {
        (table::headings(&[text("Namespace")]))
        (table::headings(&unsorted(&FIGURES)))
    };
    let rows = html! {
        @for group in busiest.iter().take(NAMESPACES_MAX) {
            tr {
                th scope="row" { a href=(address.link(&overview_of(Some(&group.name)))) { (Shown(&group.name)) } }
                (cells(group))
            }
        }
    };
    html! {
        section #namespaces aria-labelledby="namespaces-title" {
            h2 #namespaces-title { "Namespaces" }
            @if list.items.is_empty() {
                p.none { "No namespace has a pod that is counted." }
            } @else {
                (table::table("namespaces", "Sums over the pods of each namespace", &head, &rows))
            }
            @if more > 0 {
                p.none { (figures::count(Some(more))) " more namespaces are not shown." }
            }
        }
    }
}

fn unsorted(headings: &[Heading]) -> Vec<Heading> {
    let plain = |heading: &Heading| Heading {
        column: None,
        ..*heading
    };
    headings.iter().map(plain).collect()
}

fn workloads(address: &Address, list: &List<Group>) -> Markup {
    let has_namespace = address.namespace.is_none();
    let mut headings = vec![text("Workload").sorted_by(Column::Name)];
    if has_namespace {
        headings.push(text("Namespace").wide());
    }
    headings.extend(FIGURES);
    headings.push(text("HPA has → wants"));
    let value = |column, group: &Group| table::sorted_value(column, &group.rates, group.skew);
    let rows = html! {
        @for group in table::in_order(address, &list.metadata, &list.items, value) {
            tr {
                th scope="row" {
                    a href=(address.link(&workload(group))) { (Shown(&group.name)) }
                    " " span.kind { (Shown(&group.kind)) }
                }
                @if has_namespace {
                    td.wide { (Shown(&group.namespace)) }
                }
                (cells(group))
                td { (hpas(address, group)) }
            }
        }
    };
    html! {
        section #workloads aria-labelledby="workloads-title" {
            h2 #workloads-title { "Workloads" }
            @if list.items.is_empty() {
                p.none { "No workload has a pod that is counted." }
            } @else {
                (table::table("workloads", "Sums over the pods of each workload", &sorting_headings(&headings, address, &list.metadata), &rows))
            }
            (table::pager(address, &list.metadata, "workloads"))
        }
    }
}

fn workload(group: &Group) -> Address {
    let view = View::Workload {
        kind: group.kind.clone(),
        name: group.name.clone(),
    };
    Address::new(Some(&group.namespace), view)
}

/// The figures of [`FIGURES`].
fn cells(group: &Group) -> Markup {
    let rates = &group.rates;
    html! {
        td.number { (figures::rate(rates.requests_per_second)) }
        td.wide { (sparkline(&group.history)) }
        td.number.wide { (figures::inflight(rates.inflight)) }
        td.number { (figures::share(rates.error_ratio)) }
        td.number.wide { (figures::skew(group.skew)) }
        td.number.wide { (figures::duration(rates.age_ms)) }
        td { (table::states(&group.pods)) }
    }
}

/// What each HPA has and wants, with its limits where it is at one of them.
pub(crate) fn hpas(address: &Address, group: &Group) -> Markup {
    html! {
        @if group.hpas.is_empty() {
            span.none { "–" span.sr { "no autoscaler" } }
        }
        @for (index, hpa) in group.hpas.iter().enumerate() {
            @if index > 0 { br; }
            a href=(address.link(&hpa_page(&group.namespace, &hpa.name))) { (Shown(&hpa.name)) }
            " " (has_and_wants(hpa))
        }
    }
}

/// `3 → 5`, and `at its maximum of 5`.
pub(crate) fn has_and_wants(hpa: &HpaState) -> Markup {
    let at_limit = match hpa.desired_replicas {
        Some(desired) if desired >= hpa.max_replicas => Some("max"),
        _ => None,
    };
    html! {
        span.replicas {
            (figures::count(hpa.current_replicas)) " → " b { (figures::count(hpa.desired_replicas)) }
            " of " (hpa.min_replicas) "–" (hpa.max_replicas)
        }
        @if let Some(limit) = at_limit {
            " " span.badge { "at " (limit) }
        }
    }
}
