//! Renders manifests and bootstraps that add the filter to Envoys of other meshes.
//!
//! ```text
//! options -> checks (an error names the option that the target does not support)
//!         -> envoy (filter, logger, cluster) -> istio | consul | kuma | … -> output (YAML)
//! ```
//!
//! Pure: options in, text out. User values pass through the serialiser only, never into a comment.

mod app_mesh;
mod bootstrap;
mod checks;
mod consul;
mod envoy;
mod envoy_filter;
mod envoy_gateway;
mod istio;
mod kuma;
pub mod options;
mod output;
mod sidecar;

pub use checks::Refused;
use istio::Api;
use options::{Options, Target};

/// YAML for `target`, with comments on what to check.
pub fn render(target: Target, options: &Options) -> Result<String, Refused> {
    checks::all(target, options)?;
    let plan = envoy::Plan::new(target, options)?;
    let output = match target {
        Target::Istio => istio::render(&plan, Api::TrafficExtension),
        Target::IstioWasmPlugin => istio::render(&plan, Api::WasmPlugin),
        Target::IstioEnvoyFilter => envoy_filter::render(&plan),
        Target::EnvoyGateway => envoy_gateway::render(&plan),
        Target::Consul => consul::render(&plan),
        Target::Kuma => kuma::render(&plan)?,
        Target::AppMesh => app_mesh::render(options)?,
        Target::Static => bootstrap::render(&plan),
    };
    output.text()
}
