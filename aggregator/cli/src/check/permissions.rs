//! Rights: those of whoever asks, and those of the programs.

use futures_util::StreamExt as _;
use futures_util::stream;

use aggregator_view::GROUP as VIEW;

use super::objects::{Attributes, PathAttributes, Review, ReviewSpec, Reviewed};
use super::registration::Registered;
use super::{INSTALL_NAMESPACE, Probe, Report, webhooks};
use crate::ConnectionError;

const GROUP: &str = "Permissions";
const REVIEWS: &str = "/apis/authorization.k8s.io/v1";
/// Reviews under way at once.
const REVIEWS_MAX: usize = 8;

/// A right: verb, group, resource, name; the namespace is added. A path instead of a resource is
/// that of no object.
type Right = (&'static str, &'static str, &'static str, &'static str);

/// What the commands ask for.
const COMMANDS: [Right; 8] = [
    ("list", VIEW, "pods", ""),
    ("list", VIEW, "workloads", ""),
    ("list", VIEW, "services", ""),
    ("list", VIEW, "reads", ""),
    ("get", VIEW, "explanations", ""),
    ("get", VIEW, "timelines", ""),
    ("list", "autoscaling", "horizontalpodautoscalers", ""),
    ("list", VIEW, "health", ""),
];
/// What the installation makes.
const INSTALLER: [Right; 7] = [
    ("create", "apps", "statefulsets", ""),
    ("create", "", "services", ""),
    ("create", "", "serviceaccounts", ""),
    ("create", "rbac.authorization.k8s.io", "clusterroles", ""),
    (
        "create",
        "rbac.authorization.k8s.io",
        "clusterrolebindings",
        "",
    ),
    ("create", "apiregistration.k8s.io", "apiservices", ""),
    (
        "create",
        "admissionregistration.k8s.io",
        "mutatingwebhookconfigurations",
        "",
    ),
];
/// What the chart permits the aggregator everywhere, or in each namespace that it watches.
const AGGREGATOR: [Right; 10] = [
    ("list", "", "pods", ""),
    ("watch", "", "pods", ""),
    ("list", "", "services", ""),
    ("watch", "", "services", ""),
    ("list", "apps", "deployments", ""),
    ("watch", "apps", "deployments", ""),
    ("list", "apps", "replicasets", ""),
    ("watch", "apps", "replicasets", ""),
    ("list", "apps", "statefulsets", ""),
    ("watch", "apps", "statefulsets", ""),
];
/// What it is permitted besides, unless the chart's watchAutoscalers is off.
const AUTOSCALERS: [Right; 2] = [
    ("list", "autoscaling", "horizontalpodautoscalers", ""),
    ("watch", "autoscaling", "horizontalpodautoscalers", ""),
];
/// What it is permitted in the whole cluster, whatever it watches.
const REVIEWER: [Right; 4] = [
    ("create", "authentication.k8s.io", "tokenreviews", ""),
    ("create", "authorization.k8s.io", "subjectaccessreviews", ""),
    // What replicas ask each other.
    ("list", VIEW, "reads", ""),
    ("list", VIEW, "health", ""),
];
/// What it needs to verify tokens of sidecars by itself. Kubernetes permits it to all accounts.
const ISSUER: [Right; 2] = [
    ("get", "", "/.well-known/openid-configuration", ""),
    ("get", "", "/openid/v1/jwks", ""),
];
const INJECTOR: [Right; 2] = [
    (
        "get",
        "admissionregistration.k8s.io",
        "mutatingwebhookconfigurations",
        webhooks::NAME,
    ),
    (
        "patch",
        "admissionregistration.k8s.io",
        "mutatingwebhookconfigurations",
        webhooks::NAME,
    ),
];

/// What somebody lacks, or why that is not known.
type Lacking = Result<Vec<String>, ConnectionError>;

/// Checks who asks, and the programs' service accounts.
pub(super) async fn check(probe: &Probe<'_>, registered: &Registered, report: &mut Report) {
    let mut report = report.group(GROUP);
    let namespace = probe.connection.given_namespace().unwrap_or_default();
    match lacking(probe, None, namespace, &COMMANDS).await {
        Ok(lacks) if lacks.is_empty() => report.ok("asker", "you may do what the commands ask for"),
        Ok(lacks) => report.warn(
            "asker",
            format!("you may not: {}", lacks.join("; ")),
            "the chart's ClusterRole meshmeter:view goes with Kubernetes' role view: have that bound to you, or ask for one namespace by -n",
        ),
        Err(error) => report.unknown("asker", format!("your rights: {error}"), ""),
    }
    if registered.is_absent && probe.install_namespace.is_none() {
        return report.skip(
            "aggregator",
            "the programs' rights: they are not installed (above)",
        );
    }
    let home = probe.install_namespace.or(registered.namespace.as_deref());
    let home = home.unwrap_or(INSTALL_NAMESPACE);
    program(probe, home, "meshmeter", "aggregator", &mut report).await;
    autoscalers(probe, home, &mut report).await;
    issuer(probe, home, &mut report).await;
    if webhooks::is_installed(probe).await {
        program(probe, home, "meshmeter-injector", "injector", &mut report).await;
    }
}

/// Checks who will install it.
pub(super) async fn check_installer(probe: &Probe<'_>, report: &mut Report) {
    let mut report = report.group(GROUP);
    let home = probe.install_namespace.unwrap_or(INSTALL_NAMESPACE);
    match lacking(probe, None, home, &INSTALLER).await {
        Ok(lacks) if lacks.is_empty() => {
            report.ok(
                "installer",
                format!("you may install into namespace {home}"),
            );
        }
        Ok(lacks) => report.fail(
            "installer",
            format!("you may not: {}", lacks.join("; ")),
            "have the chart installed by somebody who may, such as one with the role cluster-admin",
        ),
        Err(error) => report.unknown("installer", format!("your rights: {error}"), ""),
    }
}

async fn program(
    probe: &Probe<'_>,
    home: &str,
    account: &str,
    what: &'static str,
    report: &mut super::report::Group<'_>,
) {
    let user = format!("system:serviceaccount:{home}:{account}");
    let lacks = match what {
        "injector" => lacking(probe, Some(&user), "", &INJECTOR).await,
        _ => of_aggregator(probe, &user).await,
    };
    match lacks {
        Ok(lacks) if lacks.is_empty() => {
            report.ok(what, format!("the {what} ({user}) may do what it has to"));
        }
        Ok(lacks) => report.fail(
            what,
            format!("the {what} ({user}) may not: {}", lacks.join("; ")),
            "upgrade the chart, which brings its roles and bindings; --install-namespace says where it is if this is another one",
        ),
        Err(error) if error.status() == Some(403) => report.skip(
            what,
            format!("the {what}'s rights: you may not create subjectaccessreviews"),
        ),
        Err(error) => report.unknown(what, format!("the {what}'s rights: {error}"), ""),
    }
}

/// What only `explain` and its like need. Where nobody may review it, that was said.
async fn autoscalers(probe: &Probe<'_>, home: &str, report: &mut super::report::Group<'_>) {
    let user = format!("system:serviceaccount:{home}:meshmeter");
    let namespace = probe.connection.given_namespace().unwrap_or_default();
    let lacks = lacking(probe, Some(&user), namespace, &AUTOSCALERS).await;
    if let Ok(lacks) = lacks
        && !lacks.is_empty()
    {
        report.warn(
            "aggregator",
            format!(
                "the aggregator knows no HPA: it may not {}",
                lacks.join("; ")
            ),
            "set aggregator.watchAutoscalers of the chart, or do without explain and timeline",
        );
    }
}

/// What it does without by asking kube-apiserver. Where nobody may review it, that was said.
async fn issuer(probe: &Probe<'_>, home: &str, report: &mut super::report::Group<'_>) {
    let user = format!("system:serviceaccount:{home}:meshmeter");
    let lacks = lacking(probe, Some(&user), "", &ISSUER).await;
    if let Ok(lacks) = lacks
        && !lacks.is_empty()
    {
        report.warn(
            "aggregator",
            format!(
                "with ingest.identity token kube-apiserver reviews every sidecar's token: the aggregator may not {}",
                lacks.join("; ")
            ),
            "upgrade the chart with ingest.identity token, which binds the ClusterRole system:service-account-issuer-discovery",
        );
    }
}

/// Rights in the whole cluster, or only in the namespace asked about, as with watchNamespaces.
async fn of_aggregator(probe: &Probe<'_>, user: &str) -> Lacking {
    let mut lacks = lacking(probe, Some(user), "", &AGGREGATOR).await?;
    if !lacks.is_empty()
        && let Some(namespace) = probe.connection.given_namespace()
    {
        lacks = lacking(probe, Some(user), namespace, &AGGREGATOR).await?;
    }
    lacks.extend(lacking(probe, Some(user), "", &REVIEWER).await?);
    Ok(lacks)
}

/// The rights that `user`, or whoever asks, lacks.
async fn lacking(
    probe: &Probe<'_>,
    user: Option<&str>,
    namespace: &str,
    rights: &[Right],
) -> Lacking {
    let reviews = rights
        .iter()
        .map(|right| review(probe, user, namespace, *right));
    let mut reviews = stream::iter(reviews).buffered(REVIEWS_MAX);
    let mut lacks: Vec<(String, String)> = Vec::new();
    while let Some(lack) = reviews.next().await {
        let Some((verb, what)) = lack? else {
            continue;
        };
        // Verbs of one resource in one sentence.
        match lacks.last_mut() {
            Some((verbs, last)) if *last == what => {
                verbs.push_str(" and ");
                verbs.push_str(&verb);
            }
            _ => lacks.push((verb, what)),
        }
    }
    let lacks = lacks
        .into_iter()
        .map(|(verbs, what)| format!("{verbs} {what}"));
    Ok(lacks.collect())
}

async fn review(
    probe: &Probe<'_>,
    user: Option<&str>,
    namespace: &str,
    (verb, group, resource, name): Right,
) -> Result<Option<(String, String)>, ConnectionError> {
    let is_whole = is_of_cluster(group, resource);
    let namespace = if is_whole { "" } else { namespace };
    let attributes = Attributes {
        namespace,
        verb,
        group,
        resource,
        name,
    };
    let is_path = resource.starts_with('/');
    let path_attributes = is_path.then_some(PathAttributes {
        path: resource,
        verb,
    });
    let (kind, plural) = match user {
        None => ("SelfSubjectAccessReview", "selfsubjectaccessreviews"),
        Some(_) => ("SubjectAccessReview", "subjectaccessreviews"),
    };
    let review = Review {
        kind,
        api_version: "authorization.k8s.io/v1",
        spec: ReviewSpec {
            user,
            groups: groups(user),
            resource_attributes: path_attributes.is_none().then_some(attributes),
            non_resource_attributes: path_attributes,
        },
    };
    let path = format!("{REVIEWS}/{plural}");
    let reviewed: Reviewed = probe.connection.post(&path, &review).await?;
    let allowed = reviewed.status.allowed;
    Ok((!allowed).then(|| (verb.to_owned(), shown(&attributes))))
}

fn is_of_cluster(group: &str, resource: &str) -> bool {
    let of_cluster = [
        "health",
        "namespaces",
        "clusterroles",
        "clusterrolebindings",
        "apiservices",
        "mutatingwebhookconfigurations",
        "tokenreviews",
        "subjectaccessreviews",
    ];
    of_cluster.contains(&resource) && !(group.is_empty() && resource == "health")
}

/// The groups that a service account is of.
fn groups(user: Option<&str>) -> Vec<String> {
    let account = user.and_then(|user| user.strip_prefix("system:serviceaccount:"));
    let namespace = account.and_then(|account| account.split(':').next());
    let of_all = ["system:serviceaccounts", "system:authenticated"];
    namespace.map_or_else(Vec::new, |namespace| {
        let own = format!("system:serviceaccounts:{namespace}");
        of_all.map(str::to_owned).into_iter().chain([own]).collect()
    })
}

fn shown(right: &Attributes<'_>) -> String {
    if right.resource.starts_with('/') {
        return right.resource.to_owned();
    }
    let of = match right.group {
        "" => String::new(),
        group => format!(".{group}"),
    };
    let within = match right.namespace {
        "" => "in the whole cluster".to_owned(),
        namespace => format!("in namespace {namespace}"),
    };
    format!("{}{of} {within}", right.resource)
}
