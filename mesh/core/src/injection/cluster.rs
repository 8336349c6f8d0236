//! An Envoy cluster for the stream to an aggregator: HTTP/2, resolved by DNS unless the host is an
//! IP address, with TLS and a token if configured.

use prost::Message;

use super::dns::{self, ClusterType};
use super::{Any, DataSource, Duration, Named, any};
use crate::envoy_version::EnvoyVersion;

/// Key of a cluster's HTTP options; also their type name.
pub const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
const TLS: &str =
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";
const INJECTOR: &str =
    "type.googleapis.com/envoy.extensions.filters.http.credential_injector.v3.CredentialInjector";
const GENERIC: &str =
    "type.googleapis.com/envoy.extensions.http.injected_credentials.generic.v3.Generic";
const CODEC: &str =
    "type.googleapis.com/envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec";

/// Name of the SDS secret in the token file.
const TOKEN: &str = "token";
/// Name of the SDS secret in the CA file.
pub const CA: &str = "ca";

/// Connect timeout: the address of a deleted pod may never answer, and Envoy has to find a
/// restarted aggregator within two seconds.
const CONNECT_SECONDS: i64 = 1;
/// DNS refresh interval, whatever the records' TTL: a restarted aggregator has another address.
const DNS_SECONDS: i64 = 1;
/// Interval of HTTP/2 PINGs, also on idle connections.
const KEEPALIVE_SECONDS: i64 = 10;
/// Envoy closes the connection if a PING is not answered within this time.
const KEEPALIVE_TIMEOUT_SECONDS: i64 = 5;

const STATIC: i32 = 0;
const STRICT_DNS: i32 = 1;
const V4_PREFERRED: i32 = 3;
const SAN_DNS: i32 = 2;
const SAN_ADDRESS: i32 = 4;

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StreamCluster {
    /// The plugin configuration refers to the cluster by this name.
    pub name: String,
    pub host: String,
    pub port: u16,
    pub tls: Option<Tls>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tls {
    /// CA that verifies the aggregator's certificate.
    pub ca: TrustedCa,
    /// Host name or IP address that the aggregator's certificate must contain.
    pub server_name: String,
    /// Envoy's SDS file with the secret `token`, sent as `authorization` on each stream. Without
    /// `Bearer`: Envoy 1.36 cannot add a prefix, and the aggregator accepts a bare token.
    pub token_file: Option<String>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TrustedCa {
    /// PEM, fixed for the lifetime of the cluster.
    Inline(String),
    /// Envoy's SDS file with the secret `ca`, which Envoy watches. The file has to exist; until it
    /// contains the secret, no certificate is accepted.
    WatchedFile(String),
}

// === impl StreamCluster ===

impl StreamCluster {
    /// As an Envoy of this version knows it, or any Envoy if the version is unknown.
    pub fn encode(&self, envoy: Option<EnvoyVersion>) -> Vec<u8> {
        let seconds = |seconds| Some(Duration { seconds });
        let token = self.tls.as_ref().and_then(|tls| tls.token_file.as_deref());
        let options = HttpProtocolOptions {
            explicit_http_config: Some(ExplicitHttpConfig {
                http2_protocol_options: Some(Http2ProtocolOptions {
                    connection_keepalive: Some(Keepalive {
                        interval: seconds(KEEPALIVE_SECONDS),
                        timeout: seconds(KEEPALIVE_TIMEOUT_SECONDS),
                    }),
                }),
            }),
            http_filters: token.map(with_token).unwrap_or_default(),
        };
        let options = any(&format!("type.googleapis.com/{HTTP_OPTIONS}"), &options);
        let by_name = !is_address(&self.host);
        let is_typed = by_name && envoy >= Some(dns::SINCE);
        let by_fields = by_name && !is_typed;
        let cluster = Cluster {
            name: self.name.clone(),
            r#type: if by_fields { STRICT_DNS } else { STATIC },
            custom_type: seconds(DNS_SECONDS)
                .filter(|_| is_typed)
                .map(dns::cluster_type),
            connect_timeout: seconds(CONNECT_SECONDS),
            dns_refresh_rate: seconds(DNS_SECONDS).filter(|_| by_fields),
            // For a name with A and AAAA records Envoy's default `AUTO` uses IPv6 alone, whether
            // or not the aggregator listens there.
            dns_lookup_family: if by_fields { V4_PREFERRED } else { 0 },
            transport_socket: self.tls.as_ref().map(Tls::transport_socket),
            load_assignment: Some(self.load_assignment()),
            typed_extension_protocol_options: vec![ExtensionOptions {
                key: HTTP_OPTIONS.to_owned(),
                value: Some(options),
            }],
        };
        cluster.encode_to_vec()
    }

    fn load_assignment(&self) -> LoadAssignment {
        let address = SocketAddress {
            address: self.host.clone(),
            port_value: self.port.into(),
        };
        let endpoint = LbEndpoint {
            endpoint: Some(Endpoint {
                address: Some(Address {
                    socket_address: Some(address),
                }),
            }),
        };
        LoadAssignment {
            cluster_name: self.name.clone(),
            endpoints: vec![Locality {
                lb_endpoints: vec![endpoint],
            }],
        }
    }
}

// === impl Tls ===

impl Tls {
    fn transport_socket(&self) -> TransportSocket {
        let address = is_address(&self.server_name);
        let name = SubjectAltNameMatcher {
            san_type: if address { SAN_ADDRESS } else { SAN_DNS },
            matcher: Some(StringMatcher {
                exact: self.server_name.clone(),
            }),
        };
        let names = vec![name];
        let (validation_context, combined_validation_context) = match &self.ca {
            TrustedCa::Inline(pem) => {
                let trusted = DataSource {
                    inline_string: pem.clone(),
                    ..DataSource::default()
                };
                (Some(ValidationContext::new(Some(trusted), names)), None)
            }
            TrustedCa::WatchedFile(file) => {
                // Envoy merges the secret, which holds the CA alone, into the default context.
                let combined = CombinedValidationContext {
                    default_validation_context: Some(ValidationContext::new(None, names)),
                    validation_context_sds_secret_config: Some(secret(CA, file)),
                };
                (None, Some(combined))
            }
        };
        let context = UpstreamTlsContext {
            common_tls_context: Some(CommonTlsContext {
                validation_context,
                combined_validation_context,
                alpn_protocols: vec!["h2".to_owned()],
            }),
            // An address is no server name (RFC 6066, section 3).
            sni: if address {
                String::new()
            } else {
                self.server_name.clone()
            },
        };
        TransportSocket {
            name: "envoy.transport_sockets.tls".to_owned(),
            typed_config: Some(any(TLS, &context)),
        }
    }
}

// === impl ValidationContext ===

impl ValidationContext {
    fn new(
        trusted_ca: Option<DataSource>,
        match_typed_subject_alt_names: Vec<SubjectAltNameMatcher>,
    ) -> Self {
        Self {
            trusted_ca,
            match_typed_subject_alt_names,
        }
    }
}

/// Upstream HTTP filters that add the token in `file` to each request of a cluster.
fn with_token(file: &str) -> Vec<Named> {
    let generic = Generic {
        credential: Some(secret(TOKEN, file)),
        header: "authorization".to_owned(),
    };
    let injector = CredentialInjector {
        overwrite: true,
        credential: Some(ExtensionConfig {
            name: "envoy.http.injected_credentials.generic".to_owned(),
            typed_config: Some(any(GENERIC, &generic)),
        }),
    };
    // Envoy requires the codec to be the last upstream filter once any is listed.
    vec![
        Named {
            name: "envoy.filters.http.credential_injector".to_owned(),
            typed_config: Some(any(INJECTOR, &injector)),
        },
        Named {
            name: "envoy.filters.http.upstream_codec".to_owned(),
            typed_config: Some(any(CODEC, &Empty {})),
        },
    ]
}

/// An SDS secret in a file. Envoy reloads it when another file is renamed over it.
fn secret(name: &str, file: &str) -> SdsSecretConfig {
    let source = PathConfigSource {
        path: file.to_owned(),
    };
    SdsSecretConfig {
        name: name.to_owned(),
        sds_config: Some(ConfigSource {
            path_config_source: Some(source),
        }),
    }
}

fn is_address(host: &str) -> bool {
    host.parse::<std::net::IpAddr>().is_ok()
}

#[derive(Clone, PartialEq, Message)]
struct Cluster {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(int32, tag = "2")]
    r#type: i32,
    #[prost(message, optional, tag = "4")]
    connect_timeout: Option<Duration>,
    #[prost(message, optional, tag = "16")]
    dns_refresh_rate: Option<Duration>,
    #[prost(int32, tag = "17")]
    dns_lookup_family: i32,
    #[prost(message, optional, tag = "24")]
    transport_socket: Option<TransportSocket>,
    #[prost(message, optional, tag = "33")]
    load_assignment: Option<LoadAssignment>,
    #[prost(message, repeated, tag = "36")]
    typed_extension_protocol_options: Vec<ExtensionOptions>,
    /// `cluster_type`.
    #[prost(message, optional, tag = "38")]
    custom_type: Option<ClusterType>,
}

#[derive(Clone, PartialEq, Message)]
struct TransportSocket {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "3")]
    typed_config: Option<Any>,
}

/// A map entry.
#[derive(Clone, PartialEq, Message)]
struct ExtensionOptions {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<Any>,
}

#[derive(Clone, PartialEq, Message)]
struct LoadAssignment {
    #[prost(string, tag = "1")]
    cluster_name: String,
    #[prost(message, repeated, tag = "2")]
    endpoints: Vec<Locality>,
}

#[derive(Clone, PartialEq, Message)]
struct Locality {
    #[prost(message, repeated, tag = "2")]
    lb_endpoints: Vec<LbEndpoint>,
}

#[derive(Clone, PartialEq, Message)]
struct LbEndpoint {
    #[prost(message, optional, tag = "1")]
    endpoint: Option<Endpoint>,
}

#[derive(Clone, PartialEq, Message)]
struct Endpoint {
    #[prost(message, optional, tag = "1")]
    address: Option<Address>,
}

#[derive(Clone, PartialEq, Message)]
struct Address {
    #[prost(message, optional, tag = "1")]
    socket_address: Option<SocketAddress>,
}

#[derive(Clone, PartialEq, Message)]
struct SocketAddress {
    #[prost(string, tag = "2")]
    address: String,
    #[prost(uint32, tag = "3")]
    port_value: u32,
}

#[derive(Clone, PartialEq, Message)]
struct HttpProtocolOptions {
    #[prost(message, optional, tag = "3")]
    explicit_http_config: Option<ExplicitHttpConfig>,
    #[prost(message, repeated, tag = "6")]
    http_filters: Vec<Named>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct ExplicitHttpConfig {
    #[prost(message, optional, tag = "2")]
    http2_protocol_options: Option<Http2ProtocolOptions>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Http2ProtocolOptions {
    #[prost(message, optional, tag = "15")]
    connection_keepalive: Option<Keepalive>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Keepalive {
    #[prost(message, optional, tag = "1")]
    interval: Option<Duration>,
    #[prost(message, optional, tag = "2")]
    timeout: Option<Duration>,
}

#[derive(Clone, PartialEq, Message)]
struct UpstreamTlsContext {
    #[prost(message, optional, tag = "1")]
    common_tls_context: Option<CommonTlsContext>,
    #[prost(string, tag = "2")]
    sni: String,
}

#[derive(Clone, PartialEq, Message)]
struct CommonTlsContext {
    #[prost(message, optional, tag = "3")]
    validation_context: Option<ValidationContext>,
    #[prost(string, repeated, tag = "4")]
    alpn_protocols: Vec<String>,
    #[prost(message, optional, tag = "8")]
    combined_validation_context: Option<CombinedValidationContext>,
}

#[derive(Clone, PartialEq, Message)]
struct CombinedValidationContext {
    #[prost(message, optional, tag = "1")]
    default_validation_context: Option<ValidationContext>,
    #[prost(message, optional, tag = "2")]
    validation_context_sds_secret_config: Option<SdsSecretConfig>,
}

#[derive(Clone, PartialEq, Message)]
struct ValidationContext {
    #[prost(message, optional, tag = "1")]
    trusted_ca: Option<DataSource>,
    #[prost(message, repeated, tag = "15")]
    match_typed_subject_alt_names: Vec<SubjectAltNameMatcher>,
}

#[derive(Clone, PartialEq, Message)]
struct SubjectAltNameMatcher {
    #[prost(int32, tag = "1")]
    san_type: i32,
    #[prost(message, optional, tag = "2")]
    matcher: Option<StringMatcher>,
}

#[derive(Clone, PartialEq, Message)]
struct StringMatcher {
    #[prost(string, tag = "1")]
    exact: String,
}

#[derive(Clone, PartialEq, Message)]
struct CredentialInjector {
    #[prost(bool, tag = "1")]
    overwrite: bool,
    #[prost(message, optional, tag = "3")]
    credential: Option<ExtensionConfig>,
}

#[derive(Clone, PartialEq, Message)]
struct ExtensionConfig {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    typed_config: Option<Any>,
}

#[derive(Clone, PartialEq, Message)]
struct Generic {
    #[prost(message, optional, tag = "1")]
    credential: Option<SdsSecretConfig>,
    #[prost(string, tag = "2")]
    header: String,
}

#[derive(Clone, PartialEq, Message)]
struct SdsSecretConfig {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    sds_config: Option<ConfigSource>,
}

#[derive(Clone, PartialEq, Message)]
struct ConfigSource {
    #[prost(message, optional, tag = "8")]
    path_config_source: Option<PathConfigSource>,
}

#[derive(Clone, PartialEq, Message)]
struct PathConfigSource {
    #[prost(string, tag = "1")]
    path: String,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Empty {}
