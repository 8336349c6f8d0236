//! The documents of each page, and the page of them. What is gathered from other replicas, or of
//! all pods, is asked for less often than a page is made.

use std::time::Duration;

use aggregator_page::address::Listing;
use aggregator_page::{
    Address, HpaDocuments, OverviewDocuments, Page, ROWS_MAX, Range, View, WorkloadDocuments,
};
use aggregator_view::documents::{Explanation, Group, Health, List, Pod, Read, Timeline};
use futures_util::future::try_join_all;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;

use super::{Kind, Pages, Reason, Refusal};
use crate::path::ViewPath;
use crate::view::{Views, parameters};

/// What all replicas together know: an autoscaler reads every 15 s.
const READS_AGE_MAX: Duration = Duration::from_secs(2);
/// The state of the system goes through all pods.
const HEALTH_AGE_MAX: Duration = Duration::from_secs(5);
/// How far back a workload's page shows reads, in milliseconds.
const READS_SPAN_MS: u64 = 10 * 60_000;
/// Times in questions are multiples of this, in milliseconds, so that several viewers ask the same.
const ROUND_MS: u64 = 10_000;
/// HPAs of one workload whose targets are drawn; there should be one.
const HPAS_MAX: usize = 4;
/// Namespaces that are compared to find the busiest.
const NAMESPACES_READ_MAX: usize = 500;

// === impl Pages ===

impl Pages {
    /// Makes the page at `address`.
    pub(super) async fn make(&self, address: &Address) -> Result<Page, Refusal> {
        let namespace = address.namespace.as_deref();
        match (&address.view, namespace) {
            (View::Overview(listing), _) => self.overview(address, listing).await,
            (View::Pods(listing), _) => {
                let parameters = parameters(&page_query(listing))?;
                self.render(address, move |views, address, now| {
                    let list = views.pods(address.namespace.as_deref(), &parameters)?;
                    Ok(aggregator_page::pods(address, now, &list))
                })
                .await
            }
            (View::System, _) => {
                let health = self.health().await?;
                self.render(address, move |_, address, now| {
                    Ok(aggregator_page::system(address, now, &health))
                })
                .await
            }
            (View::Workload { kind, name }, Some(namespace)) => {
                self.workload(address, namespace, kind, name).await
            }
            (View::Hpa { name, range, .. }, Some(namespace)) => {
                self.hpa(address, namespace, name, *range).await
            }
            (View::Explanation { hpa, at }, Some(namespace)) => {
                let path = ViewPath::Explanation {
                    namespace: namespace.to_owned(),
                    hpa: hpa.clone(),
                };
                let document: Explanation = self
                    .document(path, &format!("at={at}"), READS_AGE_MAX)
                    .await?;
                self.render(address, move |_, address, now| {
                    Ok(aggregator_page::explanation(address, now, &document))
                })
                .await
            }
            // An address has a namespace where it needs one.
            (_, None) => Err(Refusal::not_found(Reason::Path, "there is no such page")),
        }
    }

    fn now(&self) -> u64 {
        self.views.clock.wall().0
    }

    /// Makes the page at `address` where documents are made: reads of metrics do not wait for HTML.
    async fn render(
        &self,
        address: &Address,
        make: impl FnOnce(&Views, &Address, u64) -> Result<Page, Refusal> + Send + 'static,
    ) -> Result<Page, Refusal> {
        let address = address.clone();
        let build = move |views: &Views| make(views, &address, views.clock.wall().0);
        self.views.build(build).await
    }

    async fn overview(&self, address: &Address, listing: &Listing) -> Result<Page, Refusal> {
        let (namespaces, health) = if address.namespace.is_some() {
            (parameters("history=false")?, None)
        } else {
            let all = format!("limit={NAMESPACES_READ_MAX}&history=false");
            (parameters(&all)?, Some(self.health().await?))
        };
        let workloads = parameters(&page_query(listing))?;
        self.render(address, move |views, address, now| {
            let namespace = address.namespace.as_deref();
            let documents = OverviewDocuments {
                namespaces: &views.namespaces(namespace, &namespaces)?,
                workloads: &views.workloads(namespace, &workloads)?,
                health: health.as_ref(),
            };
            Ok(aggregator_page::overview(address, now, &documents))
        })
        .await
    }

    async fn workload(
        &self,
        address: &Address,
        namespace: &str,
        kind: &str,
        name: &str,
    ) -> Result<Page, Refusal> {
        let [within, of_kind, named] = [namespace, kind, name].map(str::to_owned);
        let build = move |views: &Views| Ok(views.workload(&within, &of_kind, &named, ROWS_MAX));
        let found: Option<(Group, List<Pod>)> = self.views.build(build).await?;
        let (group, pods) = found.ok_or_else(|| {
            let message = format!(
                "there is no {kind} {name} in the namespace {namespace} whose pods are known, and no HPA scales one"
            );
            Refusal::not_found(Reason::NoValue, message)
        })?;
        let hpas = group
            .hpas
            .iter()
            .take(HPAS_MAX)
            .map(|hpa| hpa.name.as_str());
        let from = (self.now().saturating_sub(READS_SPAN_MS)) / ROUND_MS * ROUND_MS;
        let timelines = hpas.clone().map(|hpa| self.timeline(namespace, hpa, from));
        let reads = hpas.clone().map(|hpa| self.reads(namespace, hpa, from));
        let (timelines, reads) = tokio::try_join!(try_join_all(timelines), try_join_all(reads))?;
        let mut all = List::new("ReadList", Vec::new());
        for list in reads {
            all.items.extend(list.items);
            all.replicas = list.replicas;
        }
        let timelines: Vec<Timeline> = timelines.into_iter().flatten().collect();
        self.render(address, move |_, address, now| {
            let documents = WorkloadDocuments {
                workload: &group,
                pods: &pods,
                timelines: &timelines,
                reads: &all,
            };
            Ok(aggregator_page::workload(address, now, &documents))
        })
        .await
    }

    async fn hpa(
        &self,
        address: &Address,
        namespace: &str,
        name: &str,
        range: Range,
    ) -> Result<Page, Refusal> {
        let from = self.now().saturating_sub(range.millis()) / ROUND_MS * ROUND_MS;
        let path = ViewPath::Timeline {
            namespace: namespace.to_owned(),
            hpa: name.to_owned(),
        };
        let query = format!("from={from}");
        let timeline: Timeline = self.document(path, &query, READS_AGE_MAX).await?;
        let state = self.views.hpa_state(namespace, name);
        self.render(address, move |_, address, now| {
            let documents = HpaDocuments {
                timeline: &timeline,
                state: state.as_ref(),
            };
            Ok(aggregator_page::hpa(address, now, &documents))
        })
        .await
    }

    /// The timeline of an HPA; `None` if it cannot be derived, which its own page explains.
    async fn timeline(
        &self,
        namespace: &str,
        hpa: &str,
        from: u64,
    ) -> Result<Option<Timeline>, Refusal> {
        let path = ViewPath::Timeline {
            namespace: namespace.to_owned(),
            hpa: hpa.to_owned(),
        };
        match self
            .document(path, &format!("from={from}"), READS_AGE_MAX)
            .await
        {
            Ok(timeline) => Ok(Some(timeline)),
            Err(refusal) if refusal.kind == Kind::NotFound => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }

    async fn reads(&self, namespace: &str, hpa: &str, from: u64) -> Result<List<Read>, Refusal> {
        let path = ViewPath::Reads {
            namespace: namespace.to_owned(),
        };
        let query = format!("from={from}&hpa={}", encoded(hpa));
        self.document(path, &query, READS_AGE_MAX).await
    }

    async fn health(&self) -> Result<Health, Refusal> {
        self.document(ViewPath::Health, "", HEALTH_AGE_MAX).await
    }

    /// The document at `path`, as it was less than `age_max` ago.
    async fn document<T: DeserializeOwned + Send + 'static>(
        &self,
        path: ViewPath,
        query: &str,
        age_max: Duration,
    ) -> Result<T, Refusal> {
        let name = format!("{path:?}?{query}");
        let now = self.views.clock.now();
        let make = self.views.serve(path, query);
        let json = self.documents.get(&name, now, age_max, make).await?;
        let parse = move |_: &Views| {
            serde_json::from_slice(&json)
                .map_err(|error| Refusal::new(Kind::Internal, Reason::Internal, error.to_string()))
        };
        self.views.build(parse).await
    }
}

fn page_query(listing: &Listing) -> String {
    format!(
        "limit={ROWS_MAX}&continue={}",
        encoded(&listing.continue_token)
    )
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}
