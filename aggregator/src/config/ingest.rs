//! How sidecars connect to an aggregator in a cluster: flags -> checked.

use std::net::SocketAddr;
use std::path::PathBuf;

use aggregator_api::names::{pod_name_fault, service_name_fault};
use anyhow::{Context as _, Result, bail};
use common_tls::files::Files;

use crate::args::{IngestTls, IngestTlsMode};

/// How sidecars connect, and prove who they are.
#[derive(Clone, Debug)]
pub struct IngestConfig {
    /// Whose certificate they are shown.
    pub tls: SidecarTls,
    /// True if they may do without TLS too.
    pub is_permissive: bool,
    /// How they prove who they are.
    pub identity: SidecarIdentity,
}

/// Whose certificate sidecars are shown.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SidecarTls {
    Off,
    Files(Files),
    /// One by the CA of the API's.
    SelfManaged(SelfManaged),
}

/// For whom a certificate is made, and who hears which CA to trust.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SelfManaged {
    /// The service that sidecars use.
    pub service: String,
    /// The `ConfigMap` with the CA's certificate.
    pub config_map: String,
}

/// How sidecars prove who they are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SidecarIdentity {
    None,
    PodIp,
    /// By a token for this audience.
    Token {
        audience: String,
    },
    Mtls {
        /// The file of their CAs.
        cas: PathBuf,
        /// The trust domain of their identities.
        trust_domain: String,
    },
}

/// By certificates of these CAs.
pub(super) fn mtls(cas: Option<PathBuf>, trust_domain: String) -> Result<SidecarIdentity> {
    Ok(SidecarIdentity::Mtls {
        cas: cas.context("--ingest-client-ca-file is needed for --ingest-identity mtls")?,
        trust_domain,
    })
}

// === impl SidecarTls ===

impl SidecarTls {
    /// Files say by themselves what they are for; they are not given for nothing.
    pub(super) fn check(
        told: Option<IngestTls>,
        files: Option<Files>,
        own: SelfManaged,
    ) -> Result<Self> {
        match (told, files) {
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
    /// What is shown must not be read, or replayed, on its way; and who shows nothing must be on
    /// this machine.
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
