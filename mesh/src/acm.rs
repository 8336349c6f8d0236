//! The flag of the map from ARNs of AWS Certificate Manager to Kubernetes secrets.

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result, anyhow, ensure};
use mesh_control_plane::mesh::AcmMap;

/// Longest map, in bytes: ten thousand ARNs.
const MAP_BYTES_MAX: u64 = 2 * 1024 * 1024;

#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub(crate) struct AcmArgs {
    /// YAML file that maps each ARN of AWS Certificate Manager, of a certificate or a certificate
    /// authority, to the name of a Kubernetes secret in the pod's namespace with tls.crt and
    /// tls.key, or ca.crt. Read at the start. Resources with other ARNs are refused.
    #[arg(long, env = "MESHMETER_ACM_MAP", value_name = "FILE")]
    acm_map: Option<PathBuf>,
}

// === impl AcmArgs ===

impl AcmArgs {
    /// An empty map without the flag.
    pub(crate) fn read(&self) -> Result<AcmMap> {
        let Some(file) = &self.acm_map else {
            return Ok(AcmMap::default());
        };
        let name = || format!("--acm-map {}", file.display());
        let mut text = String::new();
        // One byte more than allowed shows that the file is too large without reading all of it.
        let mut limited = File::open(file).with_context(name)?.take(MAP_BYTES_MAX + 1);
        let bytes = limited.read_to_string(&mut text).with_context(name)? as u64;
        ensure!(
            bytes <= MAP_BYTES_MAX,
            "{}: more than {MAP_BYTES_MAX} bytes",
            name()
        );
        AcmMap::parse(&text)
            .map_err(|why| anyhow!(why))
            .with_context(name)
    }
}
