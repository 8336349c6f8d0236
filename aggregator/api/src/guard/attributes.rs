//! Attributes of a request for a `SubjectAccessReview`. Derived from the path as kube-apiserver
//! does (`RequestInfo`), except for a namespace: all its spellings are `get` of `metrics/M`.

use crate::path::{
    EXTERNAL_GROUP, EXTERNAL_VERSION, ExternalPath, GROUP, MetricPath, Object, Route, VIEW_GROUP,
    VIEW_VERSION,
};
use crate::review::{Attributes, ResourceAttributes, User};
use crate::status::{Details, Kind, Reason, Refusal};

/// `None` for routes without authorisation.
pub(super) fn of(route: &Route) -> Option<Attributes> {
    let attributes = match route {
        Route::Metric(path) => of_metric(path),
        // In this group a metric is a resource, and a path without an object's name is a list.
        Route::External(ExternalPath { namespace, metric }) => ResourceAttributes {
            verb: "list".to_owned(),
            group: EXTERNAL_GROUP.to_owned(),
            version: EXTERNAL_VERSION.to_owned(),
            resource: metric.clone(),
            namespace: namespace.clone(),
            ..ResourceAttributes::default()
        },
        Route::View(_) | Route::Page(_) => {
            let info = match route {
                Route::Page(path) => path.info(),
                Route::View(path) => path.info(),
                _ => return None,
            };
            ResourceAttributes {
                verb: info.verb.to_owned(),
                group: VIEW_GROUP.to_owned(),
                version: VIEW_VERSION.to_owned(),
                resource: info.resource.to_owned(),
                subresource: info.subresource.to_owned(),
                name: info.name.to_owned(),
                namespace: info.namespace.to_owned(),
            }
        }
        Route::Root
        | Route::LegacyGroups
        | Route::Groups
        | Route::Group
        | Route::Resources(_)
        | Route::ViewGroup
        | Route::ViewResources
        | Route::ExternalGroup
        | Route::ExternalResources
        | Route::OpenApi
        | Route::OpenApiOf(_)
        | Route::Version
        | Route::Health(_) => return None,
    };
    Some(Attributes::Resource(attributes))
}

fn of_metric(path: &MetricPath) -> ResourceAttributes {
    let metric = path.metric.as_str();
    let (resource, name, subresource) = match &path.object {
        Object::Pods => ("pods", "*", metric),
        Object::Pod(name) => ("pods", name.as_str(), metric),
        Object::Service(name) => ("services", name.as_str(), metric),
        Object::Workload(kind, name) => (kind.resource(), name.as_str(), metric),
        Object::Namespace => ("metrics", metric, ""),
    };
    ResourceAttributes {
        verb: "get".to_owned(),
        group: GROUP.to_owned(),
        version: path.version.as_str().to_owned(),
        resource: resource.to_owned(),
        subresource: subresource.to_owned(),
        name: name.to_owned(),
        namespace: path.namespace.clone(),
    }
}

/// The refusal of `user`, in the words of kube-apiserver.
pub(super) fn forbidden(user: &User, attributes: &Attributes, reason: &str) -> Refusal {
    let (message, details) = match attributes {
        Attributes::Resource(resource) => of_resource(user, resource),
        Attributes::NonResource { path, verb } => {
            let message = format!(
                "forbidden: User \"{}\" cannot {verb} path \"{path}\"",
                user.name
            );
            (message, None)
        }
    };
    let message = match reason {
        "" => message,
        reason => format!("{message}: {reason}"),
    };
    let mut refusal = Refusal::new(Kind::Forbidden, Reason::Authorization, message);
    refusal.details = details.map(Box::new);
    refusal
}

fn of_resource(user: &User, attributes: &ResourceAttributes) -> (String, Option<Details>) {
    let ResourceAttributes {
        verb,
        group,
        resource,
        subresource,
        name,
        namespace,
        ..
    } = attributes;
    let whole = match subresource.as_str() {
        "" => resource.clone(),
        subresource => format!("{resource}/{subresource}"),
    };
    let object = match name.as_str() {
        "" => String::new(),
        name => format!(" \"{name}\""),
    };
    let place = match namespace.as_str() {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace \"{namespace}\""),
    };
    let mut message = format!(
        "{resource}.{group}{object} is forbidden: User \"{}\" cannot {verb} resource \"{whole}\" in API group \
         \"{group}\" {place}",
        user.name
    );
    let has_namespaces = matches!(
        resource.as_str(),
        "pods" | "workloads" | "services" | "namespaces"
    );
    if group == VIEW_GROUP && namespace.is_empty() && has_namespaces {
        message.push_str("; name a namespace that you may see");
    }
    let details = Details {
        name: name.clone(),
        group: group.clone(),
        kind: resource.clone(),
        causes: Vec::new(),
    };
    (message, Some(details))
}

#[cfg(test)]
mod tests {
    use super::*;

    const V2: &str = "/apis/custom.metrics.k8s.io/v1beta2/namespaces/prod";

    fn attributes(path: &str) -> Option<[String; 6]> {
        match of(&Route::parse(path).unwrap())? {
            Attributes::Resource(it) => Some([
                it.verb,
                it.group,
                it.resource,
                it.subresource,
                it.name,
                it.namespace,
            ]),
            Attributes::NonResource { .. } => None,
        }
    }

    /// Every kind of path, as `RequestInfo` of kube-apiserver sees it.
    #[test]
    fn are_those_of_kubernetes() {
        let external = "/apis/external.metrics.k8s.io/v1beta1/namespaces/prod/m";
        for (path, expected) in [
            (
                format!("{V2}/pods/%2A/m"),
                ["get", GROUP, "pods", "m", "*", "prod"],
            ),
            (
                format!("{V2}/pods/a/m"),
                ["get", GROUP, "pods", "m", "a", "prod"],
            ),
            (
                format!("{V2}/services/a/m"),
                ["get", GROUP, "services", "m", "a", "prod"],
            ),
            (
                format!("{V2}/deployments.apps/a/m"),
                ["get", GROUP, "deployments.apps", "m", "a", "prod"],
            ),
            (
                format!("{V2}/metrics/m"),
                ["get", GROUP, "metrics", "", "m", "prod"],
            ),
            (
                format!("{V2}/m"),
                ["get", GROUP, "metrics", "", "m", "prod"],
            ),
            (
                format!("{V2}/namespaces/prod/m"),
                ["get", GROUP, "metrics", "", "m", "prod"],
            ),
            (
                external.to_owned(),
                ["list", EXTERNAL_GROUP, "m", "", "", "prod"],
            ),
        ] {
            assert_eq!(attributes(&path).unwrap(), expected, "{path}");
        }
        for path in [
            "/",
            "/apis",
            "/version",
            "/healthz",
            "/readyz/settled",
            "/openapi/v3",
        ] {
            assert_eq!(attributes(path), None, "{path}");
        }
    }

    /// What people see: lists of the whole cluster and of a namespace, one object by its name.
    #[test]
    fn of_views_are_those_of_kubernetes() {
        for (path, expected) in [
            ("pods", ["list", VIEW_GROUP, "pods", "", "", ""]),
            ("namespaces", ["list", VIEW_GROUP, "namespaces", "", "", ""]),
            ("health", ["list", VIEW_GROUP, "health", "", "", ""]),
            (
                "namespaces/prod",
                ["get", VIEW_GROUP, "namespaces", "", "prod", "prod"],
            ),
            (
                "namespaces/prod/workloads",
                ["list", VIEW_GROUP, "workloads", "", "", "prod"],
            ),
            (
                "namespaces/prod/reads",
                ["list", VIEW_GROUP, "reads", "", "", "prod"],
            ),
            ("page", ["list", VIEW_GROUP, "page", "", "", ""]),
            ("page/system", ["get", VIEW_GROUP, "page", "", "system", ""]),
            (
                "namespaces/prod/page/events",
                ["get", VIEW_GROUP, "page", "", "events", "prod"],
            ),
            (
                "namespaces/prod/explanations/jazz",
                ["get", VIEW_GROUP, "explanations", "", "jazz", "prod"],
            ),
            (
                "namespaces/prod/timelines/jazz",
                ["get", VIEW_GROUP, "timelines", "", "jazz", "prod"],
            ),
        ] {
            let path = format!("/apis/{VIEW_GROUP}/{VIEW_VERSION}/{path}");
            assert_eq!(attributes(&path).unwrap(), expected, "{path}");
        }
    }
}
