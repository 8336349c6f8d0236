//! Workloads, namespaces and services: sums over their pods.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use aggregator_core::pod::PodKey;
use aggregator_directory::{AutoscalerInfo, ObjectKey, ServicePods};
use aggregator_view::documents::{Group, GroupKind, HpaState, List, Pod};
use common_time::Monotonic;

use super::Views;
use super::pages::{self, Key};
use super::pods::UNKNOWN;
use super::rates::{self, Measured};
use crate::form::view::ViewParameters;
use crate::status::{Reason, Refusal};

/// A group and its pods, to be measured if it is on the page.
struct Candidate {
    key: Key,
    group: GroupKind,
    pods: Vec<PodKey>,
}

// === impl Views ===

impl Views {
    pub(crate) fn workloads(
        &self,
        namespace: Option<&str>,
        parameters: &ViewParameters,
    ) -> Result<List<Group>, Refusal> {
        refuse_selector(parameters)?;
        let mut groups = self.directory.by_workload(namespace);
        // Scaled to zero, but somebody wants it: an HPA knows it.
        for hpa in self.autoscalers(namespace) {
            let ObjectKey { namespace, object } = hpa.target.clone();
            let key = aggregator_directory::WorkloadKey {
                namespace,
                name: object.name,
                kind: object.kind,
                group: object.group,
            };
            groups.entry(key).or_default();
        }
        let candidates = groups.into_iter().map(|(key, pods)| Candidate {
            key: Key {
                namespace: key.namespace.to_string(),
                name: key.name.to_string(),
                kind: key.kind.to_string(),
            },
            group: GroupKind::Workload,
            pods,
        });
        self.groups("WorkloadList", candidates.collect(), parameters)
    }

    /// A workload and its first `limit` pods; `None` if it has no pod and nobody scales it.
    pub(crate) fn workload(
        &self,
        namespace: &str,
        kind: &str,
        name: &str,
        limit: usize,
    ) -> Option<(Group, List<Pod>)> {
        let key = Key {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            kind: kind.to_owned(),
        };
        let pods = self.directory.pods_of_workload(namespace, kind, name);
        let candidates = [Candidate {
            key: key.clone(),
            group: GroupKind::Workload,
            pods: pods.clone(),
        }];
        let hpas = self.hpas_of(&candidates);
        if pods.is_empty() && !hpas.contains_key(&key) {
            return None;
        }
        let now = self.clock.now();
        let [candidate] = candidates;
        let group = self.group(now, candidate, &hpas, true);
        let shown = pods.iter().take(limit);
        let shown = shown.filter_map(|pod| Some(self.pod(now, self.directory.member(pod)?, true)));
        let rest = pods.len().saturating_sub(limit);
        Some((group, pages::list("PodList", shown.collect(), rest, None)))
    }

    /// What an autoscaler wants and has; `None` if it is not known.
    pub(crate) fn hpa_state(&self, namespace: &str, name: &str) -> Option<HpaState> {
        let hpa = self.directory.autoscaler(namespace, name);
        hpa.map(|hpa| state(&hpa))
    }

    pub(crate) fn namespaces(
        &self,
        namespace: Option<&str>,
        parameters: &ViewParameters,
    ) -> Result<List<Group>, Refusal> {
        refuse_selector(parameters)?;
        let candidates = self.directory.by_namespace(namespace).into_iter();
        let candidates = candidates.map(|(name, pods)| Candidate {
            key: Key {
                name: name.to_string(),
                kind: "Namespace".to_owned(),
                ..Key::default()
            },
            group: GroupKind::Namespace,
            pods,
        });
        self.groups("NamespaceList", candidates.collect(), parameters)
    }

    pub(super) fn services(
        &self,
        namespace: Option<&str>,
        parameters: &ViewParameters,
    ) -> Result<List<Group>, Refusal> {
        refuse_selector(parameters)?;
        let mut services = self.directory.service_keys();
        services.retain(|(within, _)| namespace.is_none_or(|only| *only == **within));
        let candidates = services.into_iter().filter_map(|(namespace, name)| {
            // One without a selector has no pods of its own.
            let ServicePods::Pods(pods) = self.directory.pods_of_service(&namespace, &name) else {
                return None;
            };
            Some(Candidate {
                key: Key {
                    namespace: namespace.to_string(),
                    name: name.to_string(),
                    kind: "Service".to_owned(),
                },
                group: GroupKind::Service,
                pods,
            })
        });
        self.groups("ServiceList", candidates.collect(), parameters)
    }

    fn groups(
        &self,
        kind: &str,
        candidates: Vec<Candidate>,
        parameters: &ViewParameters,
    ) -> Result<List<Group>, Refusal> {
        let after = Key::parse(&parameters.token)?;
        let mut rest = candidates.into_iter();
        // Sorted by the same key, so a page begins after the last one, whatever came or went.
        let page = rest
            .by_ref()
            .skip_while(|one| after.as_ref().is_some_and(|after| one.key <= *after));
        let page: Vec<_> = page.take(parameters.limit).collect();
        let remaining = rest.count();
        let last = page.last().map(|candidate| candidate.key.clone());
        let now = self.clock.now();
        let hpas = self.hpas_of(&page);
        let groups = page
            .into_iter()
            .map(|candidate| self.group(now, candidate, &hpas, parameters.history));
        Ok(pages::list(
            kind,
            groups.collect(),
            remaining,
            last.as_ref(),
        ))
    }

    fn group(
        &self,
        now: Monotonic,
        candidate: Candidate,
        hpas: &HashMap<Key, Vec<HpaState>>,
        with_history: bool,
    ) -> Group {
        let Candidate { key, group, pods } = candidate;
        let measured = Measured::of(&self.store, now, &pods);
        let mut states: BTreeMap<String, usize> = BTreeMap::new();
        for pod in &pods {
            let brief = self.store.brief(now, pod);
            let state = brief.map_or(UNKNOWN, |brief| brief.state.as_str());
            *states.entry(state.to_owned()).or_default() += 1;
        }
        let history = if with_history {
            rates::history(&self.store, now, &pods)
        } else {
            Vec::new()
        };
        Group {
            group,
            hpas: hpas.get(&key).cloned().unwrap_or_default(),
            kind: key.kind,
            namespace: key.namespace,
            name: key.name,
            pods: states,
            skew: measured.skew(),
            rates: measured.rates,
            history,
        }
    }

    /// The autoscalers of the groups on a page, by what they scale.
    fn hpas_of(&self, page: &[Candidate]) -> HashMap<Key, Vec<HpaState>> {
        let mut namespaces: Vec<_> = page.iter().map(|one| one.key.namespace.as_str()).collect();
        namespaces.sort_unstable();
        namespaces.dedup();
        let mut states: HashMap<Key, Vec<HpaState>> = HashMap::new();
        for namespace in namespaces {
            for hpa in self.directory.autoscalers_of(namespace) {
                let target = &hpa.target;
                let key = Key {
                    namespace: target.namespace.to_string(),
                    name: target.object.name.to_string(),
                    kind: target.object.kind.to_string(),
                };
                states.entry(key).or_default().push(state(&hpa));
            }
        }
        states
    }

    fn autoscalers(&self, namespace: Option<&str>) -> Vec<Arc<AutoscalerInfo>> {
        match namespace {
            Some(namespace) => self.directory.autoscalers_of(namespace),
            None => self.directory.autoscalers(),
        }
    }
}

fn state(hpa: &AutoscalerInfo) -> HpaState {
    let status = hpa.status.as_ref();
    HpaState {
        name: hpa.name.to_string(),
        min_replicas: hpa.min_replicas,
        max_replicas: hpa.max_replicas,
        current_replicas: status.map(|status| status.current_replicas),
        desired_replicas: status.map(|status| status.desired_replicas),
    }
}

fn refuse_selector(parameters: &ViewParameters) -> Result<(), Refusal> {
    if parameters.label_selector.trim().is_empty() {
        return Ok(());
    }
    let message = "labelSelector: only pods have the labels that are selected; ask for pods";
    Err(Refusal::bad_request(Reason::LabelSelector, message))
}
