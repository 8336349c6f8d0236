//! The client of the control plane, built from flags.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;
use common_aws::chain;
use common_aws::signer::Signer;
use common_tls::bundle;
use mesh_xds_proxy::upstream::{Address, Signing, Upstream};

use crate::clock;

/// Service that streams of App Mesh are signed for.
const APP_MESH: &str = "appmesh";

/// Flags.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ControlPlaneArgs {
    /// The control plane: `https://HOST[:PORT]`, `http://HOST:PORT` or `unix:///PATH`.
    #[arg(long, env = "MESHMETER_UPSTREAM", value_name = "URL")]
    pub(super) upstream: Address,

    /// How requests to the control plane are authenticated [default: sigv4 for the host names of
    /// AWS App Mesh, else none].
    #[arg(
        long,
        env = "MESHMETER_UPSTREAM_AUTH",
        value_name = "METHOD",
        value_enum
    )]
    upstream_auth: Option<Auth>,

    /// Region to sign for. Default: the region in a host name of AWS App Mesh.
    #[arg(long, env = "MESHMETER_UPSTREAM_REGION", value_name = "REGION")]
    upstream_region: Option<String>,

    /// Service to sign for [default: appmesh].
    #[arg(long, env = "MESHMETER_UPSTREAM_SIGNING_NAME", value_name = "SERVICE")]
    upstream_signing_name: Option<String>,

    /// CA bundle (PEM) for verifying the control plane, instead of the system's.
    #[arg(long, env = "MESHMETER_UPSTREAM_CA_FILE", value_name = "FILE")]
    upstream_ca_file: Option<PathBuf>,
}

/// How requests to the control plane are authenticated.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Auth {
    /// No authentication.
    None,
    /// AWS Signature Version 4, with the credentials that the SDK's chain finds.
    Sigv4,
}

// === impl ControlPlaneArgs ===

impl ControlPlaneArgs {
    /// Builds the client; fails for flags that contradict each other.
    pub(super) async fn upstream(&self) -> Result<Upstream> {
        let tls = matches!(self.upstream, Address::Tls(_));
        ensure!(
            tls || self.upstream_ca_file.is_none(),
            "--upstream-ca-file needs --upstream https://HOST"
        );
        let ca = self.upstream_ca_file.as_ref().map(|file| {
            fs::read_to_string(file)
                .with_context(|| format!("--upstream-ca-file {}", file.display()))
        });
        let ca = ca.transpose()?;
        if let Some(pem) = &ca {
            bundle::check(pem, "--upstream-ca-file")?;
        }
        let signing = match self.signing()? {
            None => None,
            Some((region, service)) => Some(Signing {
                signer: Signer::new(&region, &service).with_content_sha256(),
                // Boxed: the SDK's future is large, and would enlarge this one for its lifetime.
                credentials: Box::pin(chain::credentials(&region, None)).await,
                clock: clock::both(),
            }),
        };
        Upstream::new(&self.upstream, ca.as_deref(), signing).context("--upstream")
    }

    /// Region and service to sign for.
    fn signing(&self) -> Result<Option<(String, String)>> {
        let host_region = self.upstream.app_mesh_region();
        let tls = matches!(self.upstream, Address::Tls(_));
        let auth = match self.upstream_auth {
            Some(auth) => auth,
            None if host_region.is_some() => Auth::Sigv4,
            None => Auth::None,
        };
        if auth == Auth::None {
            ensure!(
                self.upstream_region.is_none(),
                "--upstream-region needs --upstream-auth sigv4"
            );
            ensure!(
                self.upstream_signing_name.is_none(),
                "--upstream-signing-name needs --upstream-auth sigv4"
            );
            return Ok(None);
        }
        ensure!(tls, "--upstream-auth sigv4 needs --upstream https://HOST");
        let region = match (host_region, &self.upstream_region) {
            (Some(host_region), Some(given)) if host_region != given => {
                bail!("--upstream-region {given:?}: the host of --upstream is in {host_region:?}")
            }
            (Some(region), _) => region.to_owned(),
            (None, Some(region)) => region.clone(),
            (None, None) => bail!("--upstream-auth sigv4 needs --upstream-region"),
        };
        let service = self.upstream_signing_name.as_deref().unwrap_or(APP_MESH);
        Ok(Some((region, service.to_owned())))
    }
}
