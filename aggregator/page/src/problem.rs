//! The page in place of one that cannot be shown.

use maud::html;

use crate::address::{Address, Listing, View};
use crate::page::{Fragment, Page, overview};
use crate::shown::Shown;

/// Says what happened, and where to go on. Has no live updates.
pub fn problem(namespace: Option<&str>, depth: Depth, now_unix_ms: u64, message: &str) -> Page {
    // Any page of the same depth, so that links hold.
    let view = match depth {
        Depth::Page => overview(namespace).view,
        Depth::Below => View::Pods(Listing::default()),
    };
    let address = Address::new(namespace, view);
    let html = html! {
        section #problem {
            p.warning { (Shown(message)) }
            @if let Some(namespace) = namespace {
                p { a href=(address.link(&overview(Some(namespace)))) { "Namespace " (Shown(namespace)) } }
            }
            p { a href=(address.link(&overview(None))) { "All namespaces" } }
        }
    };
    let fragments = vec![Fragment {
        id: "problem",
        html,
    }];
    Page::new(
        &address,
        now_unix_ms,
        "This page cannot be shown",
        fragments,
    )
    .without_updates()
}

/// Whether the URL ends with `page`, or with a segment behind it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Depth {
    Page,
    Below,
}
