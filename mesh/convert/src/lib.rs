//! Gateway API resources for App Mesh resources, for service meshes (GAMMA): routes whose parent
//! is the Service that is called, or a Gateway.
//!
//! ```text
//! report, meshes ─┬─> parents (Services that are called) ──> rules ──> routes ──> documents
//!                 ├─> gateways (listeners, hostnames) ──> rules + rewrite ──┘
//!                 ├─> client_tls (calls) ──> BackendTLSPolicies ──> documents
//!                 └─> fields (table) ──> findings <── whatever is different
//! ```
//!
//! What App Mesh's routes do and Gateway API cannot say is a [`Finding`], never left out silently.
//! Pure.

use mesh_control_plane::lint::{Outcome, Report};
use mesh_control_plane::mesh::Meshes;
use serde_json::Value;

mod backend_tls_policy;
mod client_tls;
mod duration;
pub mod fields;
mod finding;
mod gateways;
mod hostnames;
mod matches;
mod parents;
mod precedence;
mod print;
mod retries;
mod rewrite;
mod routes;
mod rules;
mod services;

pub use finding::{Finding, Lack};
pub use print::text;

use client_tls::ClientTlsPolicies;
use routes::Routes;
use services::Services;

/// Version of Gateway API whose schemas the documents are of.
pub const GATEWAY_API: &str = "v1.4";

common_names::named! {
    /// Release channels of Gateway API's CustomResourceDefinitions.
    pub enum Channel {
        /// Without retries and TCPRoute.
        Standard = "standard",
        Experimental = "experimental",
    }
}

#[derive(Clone, Debug)]
pub struct Conversion {
    pub channel: Channel,
    /// Kubernetes objects in the order in which they are applied.
    pub documents: Vec<Value>,
    /// In the order of the resources.
    pub findings: Vec<Finding>,
    /// Services that have to be in the cluster: `prod/jazz: port 9080`.
    pub needed: Vec<String>,
    /// Services among the documents: `prod/jazz`.
    pub printed: Vec<String>,
}

/// What the resources do not say.
#[derive(Clone, Debug)]
pub struct Options {
    pub channel: Channel,
    /// `gatewayClassName` of Gateways; `None` for a placeholder, which is named.
    pub gateway_class: Option<String>,
}

/// Converts all that would be served, and says what becomes of the rest.
pub fn convert(report: &Report, meshes: &Meshes, options: &Options) -> Conversion {
    let channel = options.channel;
    let mut findings = refused(report);
    findings.extend(fields::without_counterpart(report, channel));
    let mut services = Services::of(meshes);
    let mut routes = Routes::default();
    let mut policies = ClientTlsPolicies::default();
    for mesh in meshes.iter() {
        let parents = parents::of(mesh, &mut services, &mut findings);
        for parent in parents {
            let rules = rules::of(mesh, &parent, channel, &mut services, &mut findings);
            routes.add(&parent, &rules, channel, &mut findings);
        }
        gateways::add(mesh, options, &mut services, &mut routes, &mut findings);
        policies.add(mesh, &services, &mut findings);
    }
    let policies = policies.into_documents(&services, &mut findings);
    findings.sort();
    findings.dedup();
    let mut documents = services.documents();
    documents.extend(policies);
    documents.extend(routes.into_documents());
    Conversion {
        channel,
        documents,
        findings,
        needed: services.needed(),
        printed: services.printed(),
    }
}

/// Resources and files that the control plane does not take, in whole or in part.
fn refused(report: &Report) -> Vec<Finding> {
    let mut findings = Vec::new();
    for resource in &report.resources {
        let what = finding::name(&resource.kind, &resource.namespace, &resource.name);
        let whole = match resource.outcome {
            Outcome::Served => continue,
            Outcome::ServedInPart => "",
            Outcome::Refused => "the resource is left out: ",
        };
        findings.extend(resource.refused.iter().map(|why| {
            let why = format!("{whole}{why}");
            Finding::new(Lack::NotConverted, &what, "", &why)
        }));
    }
    let files = report.unreadable.iter();
    findings.extend(files.map(|(file, why)| {
        let why = format!("cannot be read: {why}");
        Finding::new(Lack::NotConverted, file, "", &why)
    }));
    findings
}

// === impl Conversion ===

impl Conversion {
    /// Whether each request goes where it went before, as far as Gateway API says.
    pub fn is_faithful(&self) -> bool {
        let mut findings = self.findings.iter();
        findings.all(|finding| finding.lack == Lack::NoCounterpart)
    }
}
