//! Paths of the API group `view.meshmeter.io`.

use super::{PathError, check_name};
use crate::names::{namespace_fault, pod_name_fault};

/// The API group of what people see.
pub(crate) const VIEW_GROUP: &str = aggregator_view::GROUP;

/// Its only version.
pub(crate) const VIEW_VERSION: &str = aggregator_view::VERSION;

/// What is asked for, below the version.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum ViewPath {
    /// `/pods` and the like, of all namespaces or of one.
    List {
        resource: ListResource,
        namespace: Option<String>,
    },
    /// `/namespaces/NS/reads`
    Reads { namespace: String },
    /// `/namespaces/NS/explanations/HPA`
    Explanation { namespace: String, hpa: String },
    /// `/namespaces/NS/timelines/HPA`
    Timeline { namespace: String, hpa: String },
    /// `/health`
    Health,
}

/// `/page`, `/page/NAME`, the same in a namespace: what a browser asks for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct PagePath {
    pub(crate) namespace: Option<String>,
    /// Empty for the page itself.
    pub(crate) name: String,
}

common_names::named! {
    /// Resources that are lists of traffic.
    pub(crate) enum ListResource {
        Pods = "pods",
        Workloads = "workloads",
        Namespaces = "namespaces",
        Services = "services",
    }
}

/// Attributes of a request as `RequestInfo` of kube-apiserver has them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Info<'a> {
    pub(crate) verb: &'static str,
    pub(crate) resource: &'static str,
    pub(crate) subresource: &'a str,
    pub(crate) name: &'a str,
    /// "" for all.
    pub(crate) namespace: &'a str,
}

// === impl PagePath ===

impl PagePath {
    /// Parses what follows `/apis/view.meshmeter.io/v1/`; `None` if it is no path of a page.
    pub(super) fn parse(rest: &[&str]) -> Result<Option<Self>, PathError> {
        let (namespace, name) = match *rest {
            ["page"] => (None, ""),
            ["page", name] => (None, name),
            ["namespaces", namespace, "page"] => (Some(namespace), ""),
            ["namespaces", namespace, "page", name] => (Some(namespace), name),
            _ => return Ok(None),
        };
        if let Some(namespace) = namespace {
            check_name("namespace", namespace, namespace_fault(namespace))?;
        }
        Ok(Some(Self {
            namespace: namespace.map(str::to_owned),
            name: name.to_owned(),
        }))
    }

    pub(crate) fn info(&self) -> Info<'_> {
        Info {
            verb: if self.name.is_empty() { "list" } else { "get" },
            resource: "page",
            subresource: "",
            name: &self.name,
            namespace: self.namespace.as_deref().unwrap_or_default(),
        }
    }
}

// === impl ViewPath ===

impl ViewPath {
    /// Parses what follows `/apis/view.meshmeter.io/v1/`; `None` if there is no such path.
    pub(super) fn parse(rest: &[&str]) -> Result<Option<Self>, PathError> {
        let path = match *rest {
            ["health"] => Self::Health,
            ["namespaces", namespace, ref rest @ ..] => {
                check_name("namespace", namespace, namespace_fault(namespace))?;
                return Self::within(namespace.to_owned(), rest);
            }
            [resource] => match ListResource::parse(resource) {
                Some(resource) => Self::List {
                    resource,
                    namespace: None,
                },
                None => return Ok(None),
            },
            _ => return Ok(None),
        };
        Ok(Some(path))
    }

    fn within(namespace: String, rest: &[&str]) -> Result<Option<Self>, PathError> {
        let path = match *rest {
            [] => Self::List {
                resource: ListResource::Namespaces,
                namespace: Some(namespace),
            },
            ["reads"] => Self::Reads { namespace },
            [resource @ ("explanations" | "timelines"), name] => {
                check_name("name of an autoscaler", name, pod_name_fault(name))?;
                let hpa = name.to_owned();
                if resource == "explanations" {
                    Self::Explanation { namespace, hpa }
                } else {
                    Self::Timeline { namespace, hpa }
                }
            }
            [resource] => match ListResource::parse(resource) {
                Some(resource) if resource != ListResource::Namespaces => Self::List {
                    resource,
                    namespace: Some(namespace),
                },
                _ => return Ok(None),
            },
            _ => return Ok(None),
        };
        Ok(Some(path))
    }

    /// Name of the resource.
    pub(crate) fn resource(&self) -> &'static str {
        self.info().resource
    }

    pub(crate) fn info(&self) -> Info<'_> {
        let list = |resource, namespace| Info {
            verb: "list",
            resource,
            subresource: "",
            name: "",
            namespace,
        };
        match self {
            // The namespace itself: an object by its name, which lies in itself.
            Self::List {
                resource: ListResource::Namespaces,
                namespace: Some(namespace),
            } => Info {
                verb: "get",
                name: namespace,
                ..list("namespaces", namespace)
            },
            Self::List {
                resource,
                namespace,
            } => list(resource.as_str(), namespace.as_deref().unwrap_or_default()),
            Self::Reads { namespace } => list("reads", namespace),
            Self::Explanation { namespace, hpa } => Info {
                verb: "get",
                name: hpa,
                ..list("explanations", namespace)
            },
            Self::Timeline { namespace, hpa } => Info {
                verb: "get",
                name: hpa,
                ..list("timelines", namespace)
            },
            Self::Health => list("health", ""),
        }
    }
}
