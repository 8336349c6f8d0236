//! Flags of an aggregator in a Kubernetes cluster.

use std::path::PathBuf;

use clap::ValueEnum;

/// What is not used with `--standalone`.
#[expect(clippy::doc_markdown, reason = "these are texts of --help")]
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "In a Kubernetes cluster (not with --standalone)")]
pub struct ClusterArgs {
    /// Kubeconfig file. Default: the pod's service account.
    #[arg(long, env = "MESHMETER_KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// Namespace that this aggregator runs in: of its service and of the secret with its CA.
    #[arg(
        long,
        env = "MESHMETER_NAMESPACE",
        value_name = "NAMESPACE",
        default_value = "meshmeter"
    )]
    pub namespace: String,

    /// Service that the APIServices lead to. The API's certificate is valid for
    /// SERVICE.NAMESPACE.svc.
    #[arg(
        long,
        env = "MESHMETER_API_SERVICE",
        value_name = "SERVICE",
        default_value = "meshmeter-api"
    )]
    pub api_service: String,

    /// Secret that holds the CA behind the API's certificate; it is made if it is not there, and
    /// its certificate is written into the APIServices. Delete it to have it replaced: the new one
    /// is published beside the old one, signs after ten minutes, and the old one is dropped a day
    /// later.
    #[arg(
        long,
        env = "MESHMETER_API_CA_SECRET",
        value_name = "SECRET",
        default_value = "meshmeter-api-ca"
    )]
    pub api_ca_secret: String,

    /// File with the API's certificate (PEM, intermediates behind it), read again as it changes.
    /// With it no CA is made and the APIServices are left alone: whoever issues it has to set their
    /// caBundle.
    #[arg(
        long,
        env = "MESHMETER_API_CERT_FILE",
        value_name = "FILE",
        requires = "api_key_file"
    )]
    pub api_cert_file: Option<PathBuf>,

    /// File with the key of the API's certificate (PEM).
    #[arg(
        long,
        env = "MESHMETER_API_KEY_FILE",
        value_name = "FILE",
        requires = "api_cert_file"
    )]
    pub api_key_file: Option<PathBuf>,

    /// How old a connection to the API may get, in seconds (0: any age; at most 86400). Clients
    /// then connect anew, and may reach another replica.
    #[arg(
        long,
        env = "MESHMETER_API_CONNECTION_AGE_SECONDS",
        value_name = "SECONDS",
        default_value_t = 300,
        value_parser = clap::value_parser!(u32).range(0..=86_400)
    )]
    pub api_connection_age_seconds: u32,

    /// How long a new aggregator waits at most, once the pods are listed, for each injected pod
    /// that runs to report, in seconds (0 to 300). Until then, or until all of them do, it is not
    /// ready; /readyz names the missing. Where no further one reported for a sixth of this time,
    /// and 10 seconds at least, it waits no longer.
    #[arg(
        long,
        env = "MESHMETER_READY_WAIT",
        value_name = "SECONDS",
        default_value_t = 60,
        value_parser = clap::value_parser!(u16).range(0..=300)
    )]
    pub ready_wait: u16,

    /// Namespace whose pods are served, instead of those of the whole cluster. May be given up to
    /// 50 times, or once with commas; then roles in these namespaces are enough.
    #[arg(
        long,
        env = "MESHMETER_WATCH_NAMESPACE",
        value_name = "NAMESPACE",
        value_delimiter = ','
    )]
    pub watch_namespace: Vec<String>,

    /// Whether to watch HorizontalPodAutoscalers, so that explanations, timelines and lists know
    /// them. Reads of metrics do not need them; without the permission the watch is tried again
    /// each few seconds, and they are unknown.
    #[arg(
        long,
        env = "MESHMETER_WATCH_AUTOSCALERS",
        value_name = "BOOL",
        default_value_t = true,
        action = clap::ArgAction::Set
    )]
    pub watch_autoscalers: bool,

    /// How long to cache allowed SubjectAccessReviews, in seconds (0 to 3600). An autoscaler asks
    /// every 15 s: with a shorter time each of its reads costs a review.
    #[arg(
        long,
        env = "MESHMETER_AUTHORIZATION_ALLOW_SECONDS",
        value_name = "SECONDS",
        default_value_t = 60,
        value_parser = clap::value_parser!(u16).range(0..=3600)
    )]
    pub authorization_allow_seconds: u16,

    /// How long to cache denied SubjectAccessReviews, in seconds (0 to 3600).
    #[arg(
        long,
        env = "MESHMETER_AUTHORIZATION_DENY_SECONDS",
        value_name = "SECONDS",
        default_value_t = 10,
        value_parser = clap::value_parser!(u16).range(0..=3600)
    )]
    pub authorization_deny_seconds: u16,

    /// How long to cache TokenReview results, in seconds (0 to 3600).
    #[arg(
        long,
        env = "MESHMETER_AUTHENTICATION_TOKEN_SECONDS",
        value_name = "SECONDS",
        default_value_t = 10,
        value_parser = clap::value_parser!(u16).range(0..=3600)
    )]
    pub authentication_token_seconds: u16,

    /// How sidecars prove which pod they are: pod-ip by their address, token by a bound service
    /// account token, mtls by a client certificate with a SPIFFE identity, none not at all
    /// (loopback only).
    #[arg(
        long,
        env = "MESHMETER_INGEST_IDENTITY", value_name = "METHOD",
        value_enum,
        default_value_t = IdentityMode::PodIp
    )]
    pub ingest_identity: IdentityMode,

    /// TLS for sidecars: off, which the identities token and mtls do not allow; files, by
    /// --ingest-cert-file and --ingest-key-file (so if these are given); self-managed, by the CA in
    /// --api-ca-secret, whose certificate is written into --ingest-ca-configmap.
    #[arg(long, env = "MESHMETER_INGEST_TLS", value_name = "MODE", value_enum)]
    pub ingest_tls: Option<IngestTls>,

    /// Whether sidecars have to use TLS, where there is a certificate for them: required;
    /// permissive takes plain streams on the same port too, while sidecars move one by one. Of a
    /// plain stream the address is checked, as with --ingest-identity pod-ip. Default: required.
    #[arg(
        long,
        env = "MESHMETER_INGEST_TLS_MODE",
        value_name = "MODE",
        value_enum
    )]
    pub ingest_tls_mode: Option<IngestTlsMode>,

    /// Headless service by which sidecars reach the aggregators. The self-managed certificate is
    /// valid for it and for *.SERVICE.NAMESPACE.svc.cluster.local.
    #[arg(
        long,
        env = "MESHMETER_INGEST_SERVICE",
        value_name = "SERVICE",
        default_value = "meshmeter-ingest"
    )]
    pub ingest_service: String,

    /// ConfigMap that gets the certificate of the CA behind the self-managed certificate for
    /// sidecars, as ca.crt; it is made if it is not there.
    #[arg(
        long,
        env = "MESHMETER_INGEST_CA_CONFIGMAP",
        value_name = "CONFIGMAP",
        default_value = "meshmeter-ca"
    )]
    pub ingest_ca_configmap: String,

    /// File with the certificate for sidecars (PEM, intermediates behind it), read again as it
    /// changes.
    #[arg(
        long,
        env = "MESHMETER_INGEST_CERT_FILE",
        value_name = "FILE",
        requires = "ingest_key_file"
    )]
    pub ingest_cert_file: Option<PathBuf>,

    /// File with the key of the certificate for sidecars (PEM).
    #[arg(
        long,
        env = "MESHMETER_INGEST_KEY_FILE",
        value_name = "FILE",
        requires = "ingest_cert_file"
    )]
    pub ingest_key_file: Option<PathBuf>,

    /// File with the CAs of sidecars' certificates (PEM), for --ingest-identity mtls; read again as
    /// it changes.
    #[arg(long, env = "MESHMETER_INGEST_CLIENT_CA_FILE", value_name = "FILE")]
    pub ingest_client_ca_file: Option<PathBuf>,

    /// Trust domain of sidecars' SPIFFE identities, for --ingest-identity mtls.
    #[arg(
        long,
        env = "MESHMETER_INGEST_TRUST_DOMAIN",
        value_name = "DOMAIN",
        default_value = "cluster.local"
    )]
    pub ingest_trust_domain: String,

    /// Audience of sidecars' tokens, for --ingest-identity token.
    #[arg(
        long,
        env = "MESHMETER_INGEST_TOKEN_AUDIENCE",
        value_name = "AUDIENCE",
        default_value = "meshmeter"
    )]
    pub ingest_token_audience: String,

    /// How sidecars' tokens are verified, for --ingest-identity token: local by the keys of the
    /// cluster and the watch of pods, which needs the ClusterRole
    /// system:service-account-issuer-discovery, and by a TokenReview only where these cannot tell;
    /// review by a TokenReview each.
    #[arg(
        long,
        env = "MESHMETER_INGEST_TOKEN_VERIFICATION",
        value_name = "METHOD",
        value_enum,
        default_value_t = TokenVerification::Local
    )]
    pub ingest_token_verification: TokenVerification,
}

/// How sidecars' tokens are verified.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum TokenVerification {
    /// By the aggregator, with the keys of the cluster.
    Local,
    /// By kube-apiserver.
    Review,
}

/// Whether, and by which certificate, sidecars connect by TLS.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum IngestTls {
    /// No TLS.
    Off,
    /// Certificate from files.
    Files,
    /// Self-managed certificate.
    SelfManaged,
}

/// Whether sidecars have to connect by TLS.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum IngestTlsMode {
    /// TLS and plain connections are accepted.
    Permissive,
    /// Only TLS connections are accepted.
    Required,
}

/// How sidecars prove which pod they are.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum IdentityMode {
    /// Source address of the connection.
    PodIp,
    /// Service account token bound to the pod.
    Token,
    /// Client certificate with a SPIFFE identity.
    Mtls,
    /// Identity is not checked.
    None,
}
