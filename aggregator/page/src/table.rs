//! Tables: caption, headings, pages.

use std::collections::BTreeMap;

use aggregator_view::documents::{ListMeta, Rates, ReplicaAnswer};
use maud::{Markup, html};

use crate::address::{Address, Column, Listing, Sort, View};
use crate::figures;
use crate::shown::Shown;

/// A column's heading.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heading {
    pub(crate) label: &'static str,
    /// `number` for figures, `wide` for what a narrow screen leaves out.
    pub(crate) class: &'static str,
    pub(crate) column: Option<Column>,
}

/// States of a pod, in the order of its life.
const STATES: [&str; 5] = ["live", "held", "new", "gone", "unknown"];

pub(crate) const fn text(label: &'static str) -> Heading {
    Heading {
        label,
        class: "text",
        column: None,
    }
}

pub(crate) const fn number(label: &'static str) -> Heading {
    Heading {
        label,
        class: "number",
        column: None,
    }
}

// === impl Heading ===

impl Heading {
    pub(crate) const fn sorted_by(mut self, column: Column) -> Self {
        self.column = Some(column);
        self
    }

    pub(crate) const fn wide(mut self) -> Self {
        self.class = match self.class.as_bytes() {
            b"number" => "number wide",
            _ => "text wide",
        };
        self
    }
}

/// A table that scrolls by itself where it is too wide, for the keyboard too.
pub(crate) fn table(id: &str, caption: &str, head: &Markup, rows: &Markup) -> Markup {
    html! {
        div.scroll role="region" tabindex="0" aria-labelledby={ (id) "-caption" } {
            table {
                caption id={ (id) "-caption" } { (Shown(caption)) }
                thead { tr { (head) } }
                tbody { (rows) }
            }
        }
    }
}

/// Headings that do not sort.
pub(crate) fn headings(headings: &[Heading]) -> Markup {
    html! {
        @for heading in headings {
            th scope="col" class=(heading.class) { (heading.label) }
        }
    }
}

/// Headings of the list on the page at `address`, each a link to the same list in its order. A list
/// of several pages is in the order of names, and its headings do not sort.
pub(crate) fn sorting_headings(
    columns: &[Heading],
    address: &Address,
    metadata: &ListMeta,
) -> Markup {
    if !is_whole(address, metadata) {
        return headings(columns);
    }
    let sort = listing(address)
        .map(|listing| listing.sort)
        .unwrap_or_default();
    html! {
        @for heading in columns {
            @match heading.column {
                None => th scope="col" class=(heading.class) { (heading.label) },
                Some(column) => {
                    @let current = sort.column == column;
                    th scope="col" class=(heading.class) aria-sort=[current.then(|| direction(sort))] {
                        a href=(address.link(&sorted(address, next(sort, column)))) { (heading.label) }
                    }
                }
            }
        }
    }
}

/// True if the list is all on this page, so that it can be sorted.
pub(crate) fn is_whole(address: &Address, metadata: &ListMeta) -> bool {
    let is_first = listing(address).is_none_or(|listing| listing.continue_token.is_empty());
    is_first && metadata.continue_token.is_empty()
}

/// `items` in the order that the page at `address` asks for, if they are all there are. Unknown
/// values come last, whatever the order.
pub(crate) fn in_order<'a, T>(
    address: &Address,
    metadata: &ListMeta,
    items: &'a [T],
    value: impl Fn(Column, &T) -> Option<f64>,
) -> Vec<&'a T> {
    let mut items: Vec<&T> = items.iter().collect();
    let sort = listing(address)
        .map(|listing| listing.sort)
        .unwrap_or_default();
    if !is_whole(address, metadata) {
        return items;
    }
    if sort.column == Column::Name {
        if sort.descending {
            items.reverse();
        }
        return items;
    }
    items.sort_by(|a, b| {
        let [a, b] = [value(sort.column, a), value(sort.column, b)];
        match (a, b) {
            (Some(a), Some(b)) if sort.descending => b.total_cmp(&a),
            (Some(a), Some(b)) => a.total_cmp(&b),
            (a, b) => b.is_some().cmp(&a.is_some()),
        }
    });
    items
}

/// What a column of rates is sorted by.
pub(crate) fn sorted_value(column: Column, rates: &Rates, skew: Option<f64>) -> Option<f64> {
    match column {
        Column::Name => None,
        Column::Requests => rates.requests_per_second,
        Column::Inflight => rates.inflight,
        Column::Errors => rates.error_ratio,
        Column::Skew => skew,
        Column::Age => rates.age_ms.map(figures::from_milli),
    }
}

fn direction(sort: Sort) -> &'static str {
    if sort.descending {
        "descending"
    } else {
        "ascending"
    }
}

/// The order that a click on `column` asks for: names from a, figures from the highest, and the
/// other way round on the second click.
fn next(sort: Sort, column: Column) -> Sort {
    let descending = if sort.column == column {
        !sort.descending
    } else {
        column != Column::Name
    };
    Sort { column, descending }
}

pub(crate) fn listing(address: &Address) -> Option<&Listing> {
    match &address.view {
        View::Overview(listing) | View::Pods(listing) => Some(listing),
        _ => None,
    }
}

fn sorted(address: &Address, sort: Sort) -> Address {
    with_listing(
        address,
        Listing {
            sort,
            continue_token: String::new(),
        },
    )
}

fn with_listing(address: &Address, listing: Listing) -> Address {
    let view = match &address.view {
        View::Pods(_) => View::Pods(listing),
        _ => View::Overview(listing),
    };
    Address {
        namespace: address.namespace.clone(),
        view,
    }
}

/// Links to the first page and to the next one; nothing if all is on this one.
pub(crate) fn pager(address: &Address, metadata: &ListMeta, what: &str) -> Markup {
    let current = listing(address).cloned().unwrap_or_default();
    let is_first = current.continue_token.is_empty();
    let token = &metadata.continue_token;
    if is_first && token.is_empty() {
        return html! {};
    }
    let first = with_listing(
        address,
        Listing {
            continue_token: String::new(),
            ..current.clone()
        },
    );
    let following = Listing {
        continue_token: token.clone(),
        ..current
    };
    let following = with_listing(address, following);
    html! {
        nav.pager aria-label={ "Pages of " (what) } {
            @if !is_first {
                a href=(address.link(&first)) { "First page" }
            }
            @if !token.is_empty() {
                a rel="next" href=(address.link(&following)) { "Next page" }
            }
            @if let Some(remaining) = metadata.remaining_item_count {
                span { (figures::count(Some(remaining))) " more" }
            }
        }
    }
}

/// How many pods are in which state; states without a pod are left out.
pub(crate) fn states(pods: &BTreeMap<String, usize>) -> Markup {
    let rank = |state: &str| STATES.iter().position(|known| *known == state);
    let mut counts: Vec<_> = pods.iter().filter(|(_, count)| **count > 0).collect();
    counts.sort_by_key(|(state, _)| (rank(state).unwrap_or(STATES.len()), *state));
    html! {
        @if counts.is_empty() {
            span.unknown { "none" }
        }
        @for (index, (state, count)) in counts.iter().enumerate() {
            @if index > 0 { " " }
            span.states { (chip(state)) " " (figures::count(Some(**count as u64))) }
        }
    }
}

/// A state, by its word and by a colour.
pub(crate) fn chip(state: &str) -> Markup {
    let class = STATES.iter().find(|known| **known == state);
    html! {
        span class={ "state is-" (class.unwrap_or(&"unknown")) } { (Shown(state)) }
    }
}

/// Says which replicas did not give their part; nothing if all did.
pub(crate) fn silent_replicas(replicas: &[ReplicaAnswer]) -> Markup {
    let silent = replicas.iter().filter(|replica| !replica.error.is_empty());
    html! {
        @for replica in silent {
            p.warning {
                "Replica " (Shown(&replica.name)) " did not give its part, so reads may be missing: "
                (Shown(&replica.error))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(column: Column, descending: bool, continue_token: &str) -> Address {
        let listing = Listing {
            sort: Sort { column, descending },
            continue_token: continue_token.to_owned(),
        };
        Address::new(None, View::Pods(listing))
    }

    /// Unknown is last in either order, and a list of which this is a part is left as it is.
    #[test]
    fn lists_are_sorted_when_they_are_whole() {
        let items = [Some(2.0), None, Some(3.0), Some(1.0)];
        let order = |descending, token| {
            let address = address(Column::Requests, descending, token);
            let sorted = in_order(&address, &ListMeta::default(), &items, |_, item| *item);
            sorted.into_iter().copied().collect::<Vec<_>>()
        };
        assert_eq!(order(true, ""), [Some(3.0), Some(2.0), Some(1.0), None]);
        assert_eq!(order(false, ""), [Some(1.0), Some(2.0), Some(3.0), None]);
        assert_eq!(order(true, "a/b"), items);
    }
}
