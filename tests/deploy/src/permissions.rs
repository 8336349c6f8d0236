//! What a service account may do by the roles among manifests, and whether a request is of that.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};
use tests_manifests::Object;

use crate::{list, text};

/// One rule, where it holds.
#[derive(Clone, Debug)]
pub struct Rule {
    /// `None`: in the whole cluster.
    pub namespace: Option<String>,
    /// Name of the role it is of.
    pub role: String,
    pub value: Value,
}

/// A request as RBAC sees it.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Request {
    /// `get`, `list`, `watch`, `create`, `update`, `patch` or `delete`.
    pub verb: String,
    /// API group; empty for the core's.
    pub group: String,
    /// With the subresource, if there is one; the path of what is no resource.
    pub resource: String,
    pub namespace: String,
    pub name: String,
}

/// Kubernetes' own roles that are bound here, as far as they matter: (name, rule).
fn built_in(role: &str) -> Vec<Value> {
    match role {
        "system:auth-delegator" => vec![
            json!({"apiGroups": ["authentication.k8s.io"], "resources": ["tokenreviews"], "verbs": ["create"]}),
            json!({"apiGroups": ["authorization.k8s.io"], "resources": ["subjectaccessreviews"], "verbs": ["create"]}),
        ],
        "extension-apiserver-authentication-reader" => vec![
            json!({"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["extension-apiserver-authentication"],
                "verbs": ["get", "list", "watch"]}),
        ],
        "system:service-account-issuer-discovery" => vec![
            json!({"nonResourceURLs": ["/.well-known/openid-configuration", "/openid/v1/jwks"], "verbs": ["get"]}),
        ],
        _ => Vec::new(),
    }
}

/// Rules of the service account `name` of the namespace meshmeter.
pub fn rules(objects: &[Object], name: &str) -> Result<Vec<Rule>> {
    let mut rules = Vec::new();
    for binding in objects
        .iter()
        .filter(|object| object.kind.ends_with("RoleBinding"))
    {
        let ours = |subject: &Value| {
            subject["kind"] == "ServiceAccount"
                && subject["name"] == name
                && subject["namespace"] == "meshmeter"
        };
        if !list(&binding.value["subjects"]).iter().any(ours) {
            continue;
        }
        let reference = &binding.value["roleRef"];
        let (kind, role) = (text(&reference["kind"]), text(&reference["name"]));
        let found = objects.iter().find(|object| {
            object.kind == kind
                && object.name == role
                && (kind == "ClusterRole" || object.namespace == binding.namespace)
        });
        let of_role = match found {
            Some(found) => list(&found.value["rules"]).to_vec(),
            None => built_in(role),
        };
        let of_role = Some(of_role).filter(|rules| !rules.is_empty());
        for value in
            of_role.with_context(|| format!("{} binds {role}, which is not there", binding.name))?
        {
            rules.push(Rule {
                namespace: binding.namespace.clone(),
                role: role.to_owned(),
                value,
            });
        }
    }
    Ok(rules)
}

// === impl Rule ===

impl Rule {
    /// True if it permits `request`.
    pub fn permits(&self, request: &Request) -> bool {
        let has =
            |field: &str, wanted: &str| list(&self.value[field]).iter().any(|one| one == wanted);
        if request.resource.starts_with('/') {
            return has("verbs", &request.verb) && has("nonResourceURLs", &request.resource);
        }
        let names = list(&self.value["resourceNames"]);
        has("verbs", &request.verb)
            && has("apiGroups", &request.group)
            && has("resources", &request.resource)
            && self
                .namespace
                .as_ref()
                .is_none_or(|only| *only == request.namespace)
            && (names.is_empty() || names.iter().any(|name| *name == request.name.as_str()))
    }
}

// === impl Request ===

impl Request {
    /// Of a method and a path with its query. A collection narrowed by `metadata.name` counts as
    /// that name, as for RBAC.
    pub fn parse(method: &str, path_and_query: &str) -> Option<Self> {
        let (path, query) = path_and_query
            .split_once('?')
            .unwrap_or((path_and_query, ""));
        if !path.starts_with("/api/") && !path.starts_with("/apis/") {
            return (method == "GET").then(|| Self {
                verb: "get".to_owned(),
                group: String::new(),
                resource: path.to_owned(),
                namespace: String::new(),
                name: String::new(),
            });
        }
        let mut parts = path.trim_matches('/').split('/');
        let group = match parts.next()? {
            "api" => "",
            _ => parts.next()?,
        };
        parts.next()?;
        // Namespaces are objects too.
        let (namespace, object) = match parts.collect::<Vec<_>>().as_slice() {
            ["namespaces", namespace, object @ ..] if !object.is_empty() => {
                (*namespace, object.to_vec())
            }
            object => ("", object.to_vec()),
        };
        let mut resource = (*object.first()?).to_owned();
        let mut name = object.get(1).copied().unwrap_or_default().to_owned();
        if let Some(part) = object.get(2) {
            resource = format!("{resource}/{part}");
        }
        let verb = match (method, name.is_empty()) {
            ("GET", true) if query.contains("watch=true") => "watch",
            ("GET", true) => "list",
            ("GET", false) => "get",
            ("POST", _) => "create",
            ("PUT", _) => "update",
            ("PATCH", _) => "patch",
            ("DELETE", _) => "delete",
            _ => return None,
        };
        let narrowed = query.split('&').find_map(|pair| {
            let pair = pair.replace("%3D", "=");
            Some(
                pair.strip_prefix("fieldSelector=metadata.name=")?
                    .to_owned(),
            )
        });
        if name.is_empty() {
            name = narrowed.unwrap_or_default();
        }
        Some(Self {
            verb: verb.to_owned(),
            group: group.to_owned(),
            resource,
            namespace: namespace.to_owned(),
            name,
        })
    }
}
