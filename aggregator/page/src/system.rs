//! meshmeter itself: its replicas side by side, sidecars, refused work, remote write.

use std::collections::{BTreeMap, BTreeSet};

use aggregator_view::documents::{Health, RemoteWrite, Replica, Uncounted};
use maud::{Markup, html};

use crate::address::Address;
use crate::page::{Fragment, Page};
use crate::shown::Shown;
use crate::table::{self, number, text};
use crate::{ROWS_MAX, figures, moment};

/// A certificate that ends sooner is marked: a CA of ours renews long before.
const CERTIFICATE_SOON_MS: u64 = 7 * 86_400_000;

/// The page of the system.
pub fn system(address: &Address, now_unix_ms: u64, health: &Health) -> Page {
    let fragments = vec![
        Fragment {
            id: "replicas",
            html: replicas(now_unix_ms, health),
        },
        Fragment {
            id: "sidecars",
            html: sidecars(health),
        },
        Fragment {
            id: "uncounted",
            html: uncounted(health),
        },
        Fragment {
            id: "refused",
            html: refused(health),
        },
    ];
    Page::new(address, now_unix_ms, "System", fragments)
}

/// A row for each figure, a column for each replica.
fn replicas(now: u64, health: &Health) -> Markup {
    let replicas = &health.replicas;
    let head = html! {
        th scope="col" { "Figure" }
        @for replica in replicas { th scope="col" class="number" { (Shown(&replica.name)) } }
    };
    let row = |name: &str, cell: &dyn Fn(&Replica) -> Markup| {
        html! {
            tr {
                th scope="row" { (name) }
                @for replica in replicas {
                    td.number {
                        @if replica.error.is_empty() { (cell(replica)) } @else { (figures::unknown()) }
                    }
                }
            }
        }
    };
    let rows = html! {
        (row("Version", &|replica| html! { (Shown(&replica.version)) }))
        (row("Ready", &readiness))
        (row("Clock", &|replica| moment::element(replica.at_unix_ms, now)))
        (row("Pods", &|replica| table::states(&replica.pods)))
        (row("Streams of sidecars", &|replica| figures::count(Some(replica.streams as u64))))
        (row("Requests/s", &|replica| figures::rate(replica.requests_per_second)))
        (row("Ledger of reads", &ledger))
        (row("Certificates end", &|replica| certificates(now, replica)))
        (row("Remote write", &|replica| remote_write(replica.remote_write.as_ref())))
    };
    html! {
        section #replicas aria-labelledby="replicas-title" {
            h2 #replicas-title { "Replicas" }
            @for replica in replicas.iter().filter(|replica| !replica.error.is_empty()) {
                p.warning { "Replica " (Shown(&replica.name)) " did not answer: " (Shown(&replica.error)) }
            }
            @if replicas.is_empty() {
                p.none { "No replica is known." }
            } @else {
                (table::table("replicas", "The replicas of the aggregator side by side", &head, &rows))
            }
        }
    }
}

fn readiness(replica: &Replica) -> Markup {
    html! {
        @if replica.not_ready.is_empty() {
            span.badge.good { "ready" }
        } @else {
            @for reason in &replica.not_ready { span.badge { (Shown(reason)) } " " }
        }
    }
}

fn ledger(replica: &Replica) -> Markup {
    html! {
        (figures::mebibytes(replica.ledger_bytes))
        @if replica.ledger_bytes_max > 0 { " of " (figures::mebibytes(replica.ledger_bytes_max)) }
    }
}

fn certificates(now: u64, replica: &Replica) -> Markup {
    html! {
        @if replica.certificates.is_empty() { span.none { "none" } }
        @for (index, certificate) in replica.certificates.iter().enumerate() {
            @if index > 0 { br; }
            (Shown(&certificate.listener)) " " (moment::day(certificate.not_after_unix_ms))
            @if certificate.not_after_unix_ms < now.saturating_add(CERTIFICATE_SOON_MS) {
                " " span.badge { "soon" }
            }
        }
    }
}

fn remote_write(state: Option<&RemoteWrite>) -> Markup {
    let Some(state) = state else {
        return html! { span.none { "off" } };
    };
    let dropped: u64 = state.dropped.values().sum();
    html! {
        @if state.writing { "writes" } @else { "stands by" }
        ", " (figures::count(Some(state.sent))) " sent, oldest " (figures::duration(state.lag_ms))
        @if dropped > 0 {
            br;
            span.badge { "dropped" }
            @for (reason, count) in &state.dropped { " " (figures::count(Some(*count))) " " (Shown(reason)) }
        }
        @if !state.last_error.is_empty() {
            br; span.reason { (Shown(&state.last_error)) }
        }
    }
}

/// A row for each version of the filter, a column for each state.
fn sidecars(health: &Health) -> Markup {
    let mut versions: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
    let mut states: BTreeSet<&str> = BTreeSet::new();
    for group in &health.sidecars {
        states.insert(&group.state);
        let version = versions.entry(&group.version).or_default();
        *version.entry(&group.state).or_default() += group.pods;
    }
    let head = html! {
        th scope="col" { "Filter version" }
        @for state in &states { th scope="col" class="number" { (Shown(state)) } }
    };
    let rows = html! {
        @for (version, counts) in versions.iter().take(ROWS_MAX) {
            tr {
                th scope="row" {
                    @if version.is_empty() { (figures::unknown()) } @else { (Shown(version)) }
                }
                @for state in &states { td.number { (counts.get(state).copied().unwrap_or_default()) } }
            }
        }
    };
    html! {
        section #sidecars aria-labelledby="sidecars-title" {
            h2 #sidecars-title { "Sidecars" }
            @if versions.is_empty() {
                p.none { "No sidecar has reported." }
            } @else {
                (table::table("sidecars", "Pods by the version of their filter and their state", &head, &rows))
            }
        }
    }
}

fn uncounted(health: &Health) -> Markup {
    let headings = [
        text("Workload"),
        number("Pods"),
        text("Why"),
        text("Such as").wide(),
    ];
    let row = |group: &Uncounted| {
        html! {
            tr {
                th scope="row" { (Shown(&group.namespace)) "/" (Shown(&group.workload)) }
                td.number { (group.pods) }
                td {
                    code { (Shown(&group.reason)) }
                    @if !group.message.is_empty() { p.reason { (Shown(&group.message)) } }
                }
                td.wide { (Shown(&group.example)) }
            }
        }
    };
    let rows = html! { @for group in health.uncounted.iter().take(ROWS_MAX) { (row(group)) } };
    html! {
        section #uncounted aria-labelledby="uncounted-title" {
            h2 #uncounted-title { "Pods that nobody counts" }
            @if health.uncounted.is_empty() {
                p.none { "Every running pod that is known is counted." }
            } @else {
                (table::table("uncounted", "Running pods without a value, by workload and reason", &table::headings(&headings), &rows))
                @if health.uncounted.len() > ROWS_MAX {
                    p.none { (health.uncounted.len() - ROWS_MAX) " more." }
                }
            }
        }
    }
}

/// A row for each reason, a column for each replica.
fn refused(health: &Health) -> Markup {
    let answering: Vec<&Replica> = health
        .replicas
        .iter()
        .filter(|replica| replica.error.is_empty())
        .collect();
    let reasons: BTreeSet<&String> = answering
        .iter()
        .flat_map(|replica| replica.refused.keys())
        .collect();
    let head = html! {
        th scope="col" { "Where and why" }
        @for replica in &answering { th scope="col" class="number" { (Shown(&replica.name)) } }
    };
    let rows = html! {
        @for reason in reasons.iter().take(ROWS_MAX) {
            tr {
                th scope="row" { (Shown(reason)) }
                @for replica in &answering {
                    td.number { (figures::count(Some(replica.refused.get(*reason).copied().unwrap_or_default()))) }
                }
            }
        }
    };
    html! {
        section #refused aria-labelledby="refused-title" {
            h2 #refused-title { "Refused work" }
            @if reasons.is_empty() {
                p.none { "Nothing was refused since the replicas that answered began." }
            } @else {
                (table::table("refused", "What was refused since each replica's start", &head, &rows))
            }
        }
    }
}
