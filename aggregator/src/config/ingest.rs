//! Checks the flags for sidecars in a cluster.

use std::net::SocketAddr;
use std::path::PathBuf;

use aggregator_api::names::{pod_name_fault, service_name_fault};
use anyhow::{Context as _, Result, bail};
use common_tls::files::Files;

use crate::args::{IngestTls, IngestTlsMode, TokenVerification};

/// TLS and identity of sidecars.
#[derive(Clone, Debug)]
pub struct IngestConfig {
    pub tls: SidecarTls,
    /// True if streams without TLS are accepted, too.
    pub is_permissive: bool,
    pub identity: SidecarIdentity,
}

/// Source of the certificate for sidecars.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SidecarTls {
    Off,
    Files(Files),
    /// Signed by the CA of the API's certificate.
    SelfManaged(SelfManaged),
}

/// Names for a self-managed certificate and its CA bundle.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SelfManaged {
    /// The service that sidecars use.
    pub service: String,
    /// The `ConfigMap` with the CA's certificate.
    pub config_map: String,
}

/// How sidecars are authenticated.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SidecarIdentity {
    None,
    PodIp,
    Token {
        audience: String,
        verification: TokenVerification,
    },
    Mtls {
        /// File with the CAs.
        cas: PathBuf,
        trust_domain: String,
    },
}

pub(super) fn mtls(cas: Option<PathBuf>, trust_domain: String) -> Result<SidecarIdentity> {
    Ok(SidecarIdentity::Mtls {
        cas: cas.context("--ingest-client-ca-file is needed for --ingest-identity mtls")?,
        trust_domain,
    })
}

// === impl SidecarTls ===

impl SidecarTls {
    pub(super) fn check(
        mode: Option<IngestTls>,
        files: Option<Files>,
        own: SelfManaged,
    ) -> Result<Self> {
        // Files imply `files`; with another mode they would be silently unused.
        match (mode, files) {
            (None | Some(IngestTls::Off), None) => Ok(Self::Off),
            (None | Some(IngestTls::Files), Some(files)) => Ok(Self::Files(files)),
            (Some(IngestTls::Files), None) => {
                bail!("--ingest-tls files needs --ingest-cert-file and --ingest-key-file")
            }
            (Some(IngestTls::Off), Some(_)) => {
                bail!("--ingest-tls off and --ingest-cert-file exclude one another")
            }
            (Some(IngestTls::SelfManaged), Some(_)) => {
                bail!("--ingest-tls self-managed and --ingest-cert-file exclude one another")
            }
            (Some(IngestTls::SelfManaged), None) => own.check().map(Self::SelfManaged),
        }
    }
}

// === impl SelfManaged ===

impl SelfManaged {
    fn check(self) -> Result<Self> {
        let Self {
            service,
            config_map,
        } = &self;
        for (flag, name, fault) in [
            ("--ingest-service", service, service_name_fault(service)),
            (
                "--ingest-ca-configmap",
                config_map,
                pod_name_fault(config_map),
            ),
        ] {
            if let Some(rule) = fault {
                bail!("{flag} {name:?} is not valid: {rule}");
            }
        }
        Ok(self)
    }
}

// === impl IngestConfig ===

impl IngestConfig {
    /// Refuses tokens and client certificates without TLS, and no identity beyond loopback.
    pub(super) fn check(&self, listen: SocketAddr, mode: Option<IngestTlsMode>) -> Result<()> {
        let plain = self.tls == SidecarTls::Off;
        if let Some(mode) = mode.filter(|_| plain) {
            let mode = match mode {
                IngestTlsMode::Permissive => "permissive",
                IngestTlsMode::Required => "required",
            };
            bail!(
                "--ingest-tls-mode {mode} and --ingest-tls off exclude one another: give --ingest-tls self-managed, or \
                 --ingest-cert-file and --ingest-key-file"
            );
        }
        if self.is_permissive && self.identity == SidecarIdentity::None {
            bail!(
                "--ingest-tls-mode permissive and --ingest-identity none exclude one another: of a plain stream the \
                 address is checked"
            );
        }
        let identity = match self.identity {
            SidecarIdentity::None if !listen.ip().is_loopback() => bail!(
                "--ingest-identity none: any pod could speak for any other, so --ingest-listen must be a loopback \
                 address such as 127.0.0.1, not {listen}"
            ),
            SidecarIdentity::Token { .. } => "token",
            SidecarIdentity::Mtls { .. } => "mtls",
            SidecarIdentity::None | SidecarIdentity::PodIp => return Ok(()),
        };
        if plain {
            bail!(
                "--ingest-identity {identity} needs TLS: give --ingest-tls self-managed, or --ingest-cert-file and \
                 --ingest-key-file"
            );
        }
        Ok(())
    }
}
