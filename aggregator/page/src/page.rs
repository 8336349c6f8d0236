//! The frame around every page.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use crate::address::{Address, Listing, View};
use crate::assets::{ICON, SCRIPT, STYLE};
use crate::moment;
use crate::shown::{Shown, plain};

/// A page: whole by [`Page::to_html`], in parts by [`Page::fragments`].
#[derive(Clone, Debug)]
pub struct Page {
    address: Address,
    now_unix_ms: u64,
    title: String,
    fragments: Vec<Fragment>,
    /// False for what stands in place of a page.
    is_real: bool,
}

/// A part of a page that changes as one.
#[derive(Clone, Debug)]
pub struct Fragment {
    pub id: &'static str,
    /// The element with that id.
    pub html: Markup,
}

// === impl Page ===

impl Page {
    pub(crate) fn new(
        address: &Address,
        now_unix_ms: u64,
        title: &str,
        fragments: Vec<Fragment>,
    ) -> Self {
        Self {
            address: address.clone(),
            now_unix_ms,
            title: plain(title),
            fragments,
            is_real: true,
        }
    }

    /// For what is shown in place of the page at its address.
    pub(crate) fn without_updates(mut self) -> Self {
        self.is_real = false;
        self
    }

    pub fn fragments(&self) -> &[Fragment] {
        &self.fragments
    }

    /// Its size in memory.
    pub fn bytes(&self) -> usize {
        self.fragments.iter().map(|one| one.html.0.len()).sum()
    }

    /// When its documents were made.
    pub fn now_unix_ms(&self) -> u64 {
        self.now_unix_ms
    }

    /// The whole document.
    pub fn to_html(&self) -> String {
        let address = &self.address;
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    title { (self.title) " · meshmeter" }
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    link rel="icon" href=(address.asset(&ICON.versioned()));
                    link rel="stylesheet" href=(address.asset(&STYLE.versioned()));
                    script src=(address.asset(&SCRIPT.versioned())) defer {}
                }
                body {
                    a.skip href="#main" { "Skip to content" }
                    header {
                        a.brand href=(address.link(&overview(None))) { "meshmeter" }
                        (self.navigation())
                        (self.state())
                    }
                    main #main tabindex="-1" {
                        (self.trail())
                        h1 { (self.title) }
                        @for fragment in &self.fragments {
                            (fragment.html)
                        }
                    }
                    footer {
                        p {
                            "Times are UTC. Rates are per second, over the window beside them. Unknown is never 0: a "
                            "pod without a value is left out of sums, and counted by its state."
                        }
                    }
                }
            }
        };
        page.into_string()
    }

    fn navigation(&self) -> Markup {
        let address = &self.address;
        let namespace = address.namespace.as_deref();
        let entries = [
            ("Overview", overview(namespace)),
            (
                "Pods",
                Address::new(namespace, View::Pods(Listing::default())),
            ),
            ("System", Address::new(None, View::System)),
        ];
        html! {
            nav aria-label="Pages" {
                ul {
                    @for (name, target) in &entries {
                        @let current = self.is_real
                            && std::mem::discriminant(&target.view) == std::mem::discriminant(&address.view);
                        li {
                            a href=(address.link(target)) aria-current=[current.then_some("page")] { (name) }
                        }
                    }
                }
            }
        }
    }

    /// What the script keeps up to date: whether the page is live, and how old it is.
    fn state(&self) -> Markup {
        let at = moment::element(self.now_unix_ms, self.now_unix_ms);
        let Some(events) = self.address.events().filter(|_| self.is_real) else {
            return html! {
                p.status { span.at { "as of " (at) " UTC" } }
            };
        };
        html! {
            p.status #live data-events=(events) data-state="off" {
                span.dot aria-hidden="true" {}
                span #live-state role="status" { "Not live" }
                span.at { "as of " span #live-at { (at) } " UTC" }
            }
        }
    }

    /// Where this page is.
    fn trail(&self) -> Markup {
        let address = &self.address;
        let Some(namespace) = address.namespace.as_deref() else {
            return PreEscaped(String::new());
        };
        let at_namespace = matches!(address.view, View::Overview(_));
        html! {
            nav.trail aria-label="Breadcrumb" {
                ol {
                    li { a href=(address.link(&overview(None))) { "All namespaces" } }
                    @if !at_namespace {
                        li { a href=(address.link(&overview(Some(namespace)))) { (Shown(namespace)) } }
                    }
                    @if let View::Explanation { hpa, .. } = &address.view {
                        li { a href=(address.link(&hpa_page(namespace, hpa))) { "HPA " (Shown(hpa)) } }
                    }
                }
            }
        }
    }
}

pub(crate) fn overview(namespace: Option<&str>) -> Address {
    Address::new(namespace, View::Overview(Listing::default()))
}

pub(crate) fn hpa_page(namespace: &str, hpa: &str) -> Address {
    let view = View::Hpa {
        name: hpa.to_owned(),
        range: crate::address::Range::default(),
        before: None,
    };
    Address::new(Some(namespace), view)
}
