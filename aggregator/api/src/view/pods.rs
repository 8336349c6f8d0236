//! Pods: rates, state, and why one has no value.

use aggregator_core::pod::PodKey;
use aggregator_core::query::NoValue;
use aggregator_directory::{Member, Page};
use aggregator_view::documents::{List, Pod, Workload};
use common_time::Monotonic;

use super::Views;
use super::pages::{self, Key};
use super::rates::{self, Measured};
use crate::form::view::ViewParameters;
use crate::metrics::parse_label_selector;
use crate::no_value_reason;
use crate::status::Refusal;

/// State of a pod that never reported.
pub(super) const UNKNOWN: &str = "unknown";

/// Why a pod that never reported, and that the injector did not touch, has no value.
const NO_SIDECAR: &str = "no_sidecar";

/// Why a pod has no value, as a word and as a sentence.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Why {
    pub(super) reason: &'static str,
    pub(super) message: String,
}

// === impl Views ===

impl Views {
    pub(crate) fn pods(
        &self,
        namespace: Option<&str>,
        parameters: &ViewParameters,
    ) -> Result<List<Pod>, Refusal> {
        let selector = parse_label_selector(&parameters.label_selector)?;
        let after = Key::parse(&parameters.token)?;
        let after = after.as_ref().map(|key| (&*key.namespace, &*key.name));
        let Page { items, remaining } =
            self.directory
                .members(namespace, after, parameters.limit, &|labels| {
                    selector.holds_for(|key| labels.get(key))
                });
        let last = items.last().map(|member| Key {
            namespace: member.key.namespace.to_string(),
            name: member.key.name.to_string(),
            kind: String::new(),
        });
        let now = self.clock.now();
        let pods = items
            .into_iter()
            .map(|member| self.pod(now, member, parameters.history));
        Ok(pages::list(
            "PodList",
            pods.collect(),
            remaining,
            last.as_ref(),
        ))
    }

    pub(super) fn pod(&self, now: Monotonic, member: Member, with_history: bool) -> Pod {
        let Member {
            key,
            labels,
            workload,
            ready,
            injected,
            ..
        } = member;
        let pods = std::slice::from_ref(&key);
        let measured = Measured::of(&self.store, now, pods);
        let why = measured.missing.first();
        let why = why.map(|(_, why)| self.why(now, &key, *why, injected));
        let brief = self.store.brief(now, &key);
        let history = if with_history && brief.is_some() {
            rates::history(&self.store, now, pods)
        } else {
            Vec::new()
        };
        let (reason, message) = why.map_or_else(Default::default, |why| (why.reason, why.message));
        Pod {
            namespace: key.namespace.to_string(),
            name: key.name.to_string(),
            workload: workload.map(|workload| Workload {
                kind: workload.object.kind.to_string(),
                name: workload.object.name.to_string(),
            }),
            labels,
            state: brief
                .as_ref()
                .map_or(UNKNOWN, |brief| brief.state.as_str())
                .to_owned(),
            reason: reason.to_owned(),
            message,
            ready,
            filter_version: brief.map_or_else(String::new, |brief| brief.build.to_string()),
            rates: measured.rates,
            history,
        }
    }

    /// Why a pod has no rate of requests.
    pub(super) fn why(&self, now: Monotonic, pod: &PodKey, why: NoValue, injected: bool) -> Why {
        let why = no_value_reason::refused(&self.store, &self.directory, now, pod, why);
        if why == NoValue::NeverReported && !injected {
            return Why {
                reason: NO_SIDECAR,
                message: format!(
                    "pod {pod} never reported, and the injector did not add the filter to it: give its namespace the \
                     label for injection and restart the pod, or add the filter as its mesh does (docs/MESH.md)"
                ),
            };
        }
        Why {
            reason: why.as_str(),
            message: no_value_reason::one_has_no_value(self.requests_name(), pod, why),
        }
    }

    /// Name of the metric of requests per second.
    fn requests_name(&self) -> &str {
        self.names.all().next().unwrap_or("requests_per_second")
    }
}
