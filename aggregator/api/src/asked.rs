//! What a request asks for, in the words of the ledger.

use aggregator_ledger::Object;

use crate::form::Parameters;
use crate::path::{self, ExternalPath, MetricPath};

/// A metric that was asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) metric: &'a str,
    pub(crate) object: Object<'a>,
    pub(crate) selector: &'a str,
    pub(crate) metric_selector: &'a str,
}

// === impl Asked ===

impl<'a> Asked<'a> {
    pub(crate) fn of_object(path: &'a MetricPath, parameters: &'a Parameters) -> Self {
        let (resource, name): (_, &str) = match &path.object {
            path::Object::Pods => ("pods", ""),
            path::Object::Pod(name) => ("pods", name),
            path::Object::Namespace => ("namespace", ""),
            path::Object::Service(name) => ("services", name),
            path::Object::Workload(kind, name) => (kind.resource(), name),
        };
        Self {
            namespace: &path.namespace,
            metric: &path.metric,
            object: Object { resource, name },
            selector: parameters.label_selector.trim(),
            metric_selector: parameters.metric_label_selector.trim(),
        }
    }

    pub(crate) fn of_external(path: &'a ExternalPath, parameters: &'a Parameters) -> Self {
        Self {
            namespace: &path.namespace,
            metric: &path.metric,
            object: Object {
                resource: "external",
                name: "",
            },
            selector: parameters.label_selector.trim(),
            metric_selector: parameters.metric_label_selector.trim(),
        }
    }
}
