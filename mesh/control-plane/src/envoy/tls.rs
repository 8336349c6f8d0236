//! TLS of filter chains and of clusters.

use std::net::IpAddr;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::TransportSocketMatch;
use envoy_types::pb::envoy::config::core::v3::api_config_source::ApiType;
use envoy_types::pb::envoy::config::core::v3::config_source::ConfigSourceSpecifier;
use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::config::core::v3::grpc_service::{EnvoyGrpc, TargetSpecifier};
use envoy_types::pb::envoy::config::core::v3::health_check::TlsOptions;
use envoy_types::pb::envoy::config::core::v3::transport_socket::ConfigType;
use envoy_types::pb::envoy::config::core::v3::{
    ApiConfigSource, ApiVersion, ConfigSource, DataSource, GrpcService, TransportSocket,
};
use envoy_types::pb::envoy::config::listener::v3::FilterChain;
use envoy_types::pb::envoy::extensions::transport_sockets::raw_buffer::v3::RawBuffer;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::common_tls_context::{
    CombinedCertificateValidationContext, ValidationContextType,
};
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::subject_alt_name_matcher::SanType;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{
    CertificateValidationContext, CommonTlsContext, DownstreamTlsContext, SdsSecretConfig,
    SubjectAltNameMatcher, TlsCertificate, UpstreamTlsContext,
};
use envoy_types::pb::envoy::r#type::matcher::v3::StringMatcher;
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{BoolValue, Struct, Value};
use prost::Name;

use super::any;
use crate::resources::{
    Certificate, ClientTls, Listener, ListenerTls, Protocol, SdsSecret, ServiceDiscovery, TlsMode,
    Trust, Validation, VirtualNodeSpec,
};

/// The cluster of the SDS server, in Envoy's bootstrap: named as by App Mesh's agent.
const SDS_CLUSTER: &str = "static_cluster_sds_unix_socket";

/// As the TLS inspector names it.
const TRANSPORT_TLS: &str = "tls";

const ALPN_HTTP: &str = "http/1.1";
const ALPN_HTTP2: &str = "h2";

/// Criterion of the health checks that go to another port, with its own transport.
const OTHER_PORT: &str = "meshmeter.health_check";

/// The filter chain `chain` with the TLS of its listener: two of them if that takes plain text,
/// too.
pub(super) fn chains(
    chain: FilterChain,
    tls: Option<&ListenerTls>,
    protocol: Protocol,
) -> Vec<FilterChain> {
    let Some(tls) = tls.filter(|tls| tls.mode != TlsMode::Disabled) else {
        return vec![chain];
    };
    let mut encrypted = FilterChain {
        transport_socket: Some(downstream(tls, protocol)),
        ..chain.clone()
    };
    if tls.mode == TlsMode::Strict {
        return vec![encrypted];
    }
    let mut matched = encrypted.filter_chain_match.take().unwrap_or_default();
    TRANSPORT_TLS.clone_into(&mut matched.transport_protocol);
    encrypted.filter_chain_match = Some(matched);
    vec![encrypted, chain]
}

/// Whether the TLS inspector has to look at a connection to find this chain.
pub(super) fn is_for_tls_alone(chain: &FilterChain) -> bool {
    let matched = chain.filter_chain_match.as_ref();
    matched.is_some_and(|matched| matched.transport_protocol == TRANSPORT_TLS)
}

fn downstream(tls: &ListenerTls, protocol: Protocol) -> TransportSocket {
    let alpn: &[&str] = match protocol {
        Protocol::Tcp => &[],
        // Envoy takes both from clients, whatever the application speaks.
        Protocol::Http | Protocol::Http2 | Protocol::Grpc => &[ALPN_HTTP2, ALPN_HTTP],
    };
    let validation = tls.validation.as_ref();
    let validation = validation.map(|validation| validated(validation, validation.names()));
    let context = DownstreamTlsContext {
        require_client_certificate: validation.is_some().then_some(BoolValue { value: true }),
        common_tls_context: Some(common(Some(&tls.certificate), validation, alpn)),
        ..DownstreamTlsContext::default()
    };
    socket("envoy.transport_sockets.tls", &context)
}

/// Gives the cluster for `listener` of `node` the TLS of its callers, and its health checks that of
/// the port where they go.
pub(super) fn set(
    cluster: &mut Cluster,
    policy: Option<&ClientTls>,
    node: &VirtualNodeSpec,
    listener: &Listener,
) {
    let own = upstream(policy, node, listener);
    let checked = listener.health_check.as_ref();
    let checked_port = checked.and_then(|check| check.port);
    let port = listener.port_mapping.port;
    let checked_tls = match checked_port.filter(|checked| *checked != port) {
        None => own.clone(),
        // What is no listener of the node is the application itself.
        Some(port) => {
            let listener = node.listener(port);
            listener.and_then(|listener| upstream(policy, node, listener))
        }
    };
    for check in &mut cluster.health_checks {
        let of = checked.map(|check| check.protocol);
        if let Some(of) = of.filter(|of| checked_tls.is_some() && *of != Protocol::Tcp) {
            let alpn_protocols = vec![alpn(of).to_owned()];
            check.tls_options = Some(TlsOptions { alpn_protocols });
        }
        if checked_tls != own {
            check.transport_socket_match_criteria = Some(other_port());
        }
    }
    if checked_tls != own && !cluster.health_checks.is_empty() {
        let plain = || socket("envoy.transport_sockets.raw_buffer", &RawBuffer {});
        cluster.transport_socket_matches = vec![TransportSocketMatch {
            name: OTHER_PORT.to_owned(),
            r#match: Some(other_port()),
            transport_socket: Some(checked_tls.unwrap_or_else(plain)),
        }];
    }
    cluster.transport_socket = own;
}

fn other_port() -> Struct {
    let is_there = Value {
        kind: Some(Kind::BoolValue(true)),
    };
    Struct {
        fields: [(OTHER_PORT.to_owned(), is_there)].into(),
    }
}

/// TLS to a listener: by an enforced policy, else if the listener takes nothing else. Then its
/// certificate is not checked, since no authority is known.
fn upstream(
    policy: Option<&ClientTls>,
    node: &VirtualNodeSpec,
    listener: &Listener,
) -> Option<TransportSocket> {
    let port = listener.port_mapping.port;
    let enforced = policy.filter(|policy| {
        policy.enforce && (policy.ports.is_empty() || policy.ports.contains(&port))
    });
    let is_strict = listener.tls.as_ref().map(|tls| tls.mode) == Some(TlsMode::Strict);
    if enforced.is_none() && !is_strict {
        return None;
    }
    let host = node.service_discovery.as_ref().map(ServiceDiscovery::name);
    let validation = enforced.map(|policy| {
        let names = policy.validation.names();
        let names = if names.is_empty() {
            host.as_slice()
        } else {
            names
        };
        validated(&policy.validation, names)
    });
    let alpn = match listener.port_mapping.protocol {
        Protocol::Tcp => None,
        protocol => Some(alpn(protocol)),
    };
    let certificate = policy.and_then(|policy| policy.certificate.as_ref());
    let context = UpstreamTlsContext {
        common_tls_context: Some(common(certificate, validation, alpn.as_slice())),
        sni: host.unwrap_or_default(),
        ..UpstreamTlsContext::default()
    };
    Some(socket("envoy.transport_sockets.tls", &context))
}

fn alpn(protocol: Protocol) -> &'static str {
    if protocol.is_http2() {
        ALPN_HTTP2
    } else {
        ALPN_HTTP
    }
}

fn common(
    certificate: Option<&Certificate>,
    validation: Option<ValidationContextType>,
    alpn: &[&str],
) -> CommonTlsContext {
    let mut context = CommonTlsContext {
        alpn_protocols: alpn.iter().map(|name| (*name).to_owned()).collect(),
        validation_context_type: validation,
        ..CommonTlsContext::default()
    };
    match certificate {
        Some(Certificate::File(file)) => context.tls_certificates.push(TlsCertificate {
            certificate_chain: Some(path(&file.certificate_chain)),
            private_key: Some(path(&file.private_key)),
            ..TlsCertificate::default()
        }),
        Some(Certificate::Sds(secret)) => {
            let secret = of_sds(secret);
            context.tls_certificate_sds_secret_configs.push(secret);
        }
        // `mesh::check` has refused what has no file.
        Some(Certificate::Acm(_)) | None => {}
    }
    context
}

/// A peer's certificate is of a trusted authority and has one of these names, if there are any.
fn validated(validation: &Validation, names: &[String]) -> ValidationContextType {
    let mut context = CertificateValidationContext {
        match_typed_subject_alt_names: names.iter().map(|name| name_match(name)).collect(),
        ..CertificateValidationContext::default()
    };
    match &validation.trust {
        Trust::Sds(secret) => {
            ValidationContextType::CombinedValidationContext(CombinedCertificateValidationContext {
                default_validation_context: Some(context),
                validation_context_sds_secret_config: Some(of_sds(secret)),
                ..CombinedCertificateValidationContext::default()
            })
        }
        Trust::File(file) => {
            context.trusted_ca = Some(path(&file.certificate_chain));
            ValidationContextType::ValidationContext(context)
        }
        // `mesh::check` has refused what has no file. Without an authority Envoy would trust
        // everybody, and rejects names.
        Trust::Acm(_) => ValidationContextType::ValidationContext(context),
    }
}

/// The kind of name is that of its form: a URI as SPIFFE IDs are, an address, or a host name.
fn name_match(name: &str) -> SubjectAltNameMatcher {
    let kind = if name.contains("://") {
        SanType::Uri
    } else if name.parse::<IpAddr>().is_ok() {
        SanType::IpAddress
    } else {
        SanType::Dns
    };
    SubjectAltNameMatcher {
        san_type: kind.into(),
        matcher: Some(StringMatcher {
            match_pattern: Some(MatchPattern::Exact(name.to_owned())),
            ..StringMatcher::default()
        }),
        ..SubjectAltNameMatcher::default()
    }
}

fn path(path: &str) -> DataSource {
    DataSource {
        specifier: Some(Specifier::Filename(path.to_owned())),
        ..DataSource::default()
    }
}

fn of_sds(secret: &SdsSecret) -> SdsSecretConfig {
    let grpc = EnvoyGrpc {
        cluster_name: SDS_CLUSTER.to_owned(),
        ..EnvoyGrpc::default()
    };
    let source = ApiConfigSource {
        api_type: ApiType::Grpc.into(),
        transport_api_version: ApiVersion::V3.into(),
        grpc_services: vec![GrpcService {
            target_specifier: Some(TargetSpecifier::EnvoyGrpc(grpc)),
            ..GrpcService::default()
        }],
        ..ApiConfigSource::default()
    };
    SdsSecretConfig {
        name: secret.secret_name.clone(),
        sds_config: Some(ConfigSource {
            resource_api_version: ApiVersion::V3.into(),
            config_source_specifier: Some(ConfigSourceSpecifier::ApiConfigSource(source)),
            ..ConfigSource::default()
        }),
    }
}

fn socket<M: Name>(name: &str, config: &M) -> TransportSocket {
    TransportSocket {
        name: name.to_owned(),
        config_type: Some(ConfigType::TypedConfig(any(config))),
    }
}
