//! Checks virtual nodes, each by itself.

use std::collections::BTreeSet;

use super::{
    Fault, log_format, name_fault, not_supported, path_fault, span_fault, timeout_fault, tls,
};
use crate::resources::{
    AccessLog, ConnectionPool, HealthCheck, HttpTimeout, Listener, LogFormat, Logging,
    OutlierDetection, Protocol, VirtualNodeSpec,
};

/// Longest path of a log, as in App Mesh's schema.
const PATH_BYTES_MAX: usize = 255;

pub(super) fn fault(node: &VirtualNodeSpec) -> Option<Fault> {
    let mut ports = BTreeSet::new();
    for (index, listener) in node.listeners.iter().enumerate() {
        let port = listener.port_mapping.port;
        let of_port = match port {
            0 => Some("portMapping.port: 0 is no port".to_owned()),
            _ if !ports.insert(port) => Some(format!("portMapping.port: {port} is there twice")),
            _ => None,
        };
        if let Some(why) = of_port.or_else(|| listener_fault(listener)) {
            return Some(not_supported(format!("spec.listeners[{index}].{why}")));
        }
    }
    if let Some(why) = node.logging.as_ref().and_then(logging_fault) {
        return Some(not_supported(format!("spec.logging.{why}")));
    }
    if let Some(why) = policies_fault(node) {
        return Some(not_supported(format!("spec.{why}")));
    }
    let dns = node.service_discovery.as_ref()?.dns()?;
    name_fault("spec.serviceDiscovery.dns.hostname", &dns.hostname)
}

fn listener_fault(listener: &Listener) -> Option<String> {
    let protocol = listener.port_mapping.protocol;
    let health = listener.health_check.as_ref();
    health
        .and_then(|check| health_fault(check, protocol))
        .or_else(|| listener.outlier_detection.as_ref().and_then(outlier_fault))
        .or_else(|| pool_fault(listener.connection_pool, protocol))
        .or_else(|| listener_timeout_fault(listener))
        .or_else(|| tls::listener_fault(listener.tls.as_ref()))
}

fn policies_fault(node: &VirtualNodeSpec) -> Option<String> {
    let default = node.default_tls().and_then(tls::client_fault);
    let default = default.map(|why| format!("backendDefaults.clientPolicy.tls.{why}"));
    let mut backends = node.backends.iter().enumerate();
    default.or_else(|| {
        backends.find_map(|(index, backend)| {
            let why = tls::client_fault(backend.virtual_service.own_tls()?)?;
            Some(format!(
                "backends[{index}].virtualService.clientPolicy.tls.{why}"
            ))
        })
    })
}

/// Settings of another protocol would do nothing.
fn of_protocol(field: &str, of: Protocol, listener: Protocol) -> Option<String> {
    let name = of.as_str();
    (of != listener).then(|| {
        let protocol = listener.as_str();
        format!("{field}.{name}: the listener has the protocol {protocol}")
    })
}

pub(super) fn pool_fault(pool: Option<ConnectionPool>, protocol: Protocol) -> Option<String> {
    let pool = pool?;
    let field = "connectionPool";
    of_protocol(field, pool.protocol(), protocol).or_else(|| {
        let max = match pool {
            ConnectionPool::Http(pool) => pool.max_connections,
            ConnectionPool::Http2(pool) | ConnectionPool::Grpc(pool) => pool.max_requests,
            ConnectionPool::Tcp(pool) => pool.max_connections,
        };
        let name = pool.protocol().as_str();
        (max == 0).then(|| format!("{field}.{name}: 0 lets nothing through"))
    })
}

fn listener_timeout_fault(listener: &Listener) -> Option<String> {
    let timeout = listener.timeout?;
    let protocol = listener.port_mapping.protocol;
    let mut protocols = timeout.protocols();
    protocols
        .find_map(|of| of_protocol("timeout", of, protocol))
        .or_else(|| {
            let idle = timeout.tcp.and_then(|timeout| timeout.idle);
            let tcp = idle.map(|idle| HttpTimeout {
                per_request: None,
                idle: Some(idle),
            });
            let field = format!("timeout.{}", protocol.as_str());
            timeout_fault(&field, timeout.of(protocol).or(tcp))
        })
}

/// Values that Envoy would reject.
pub(super) fn health_fault(check: &HealthCheck, listener: Protocol) -> Option<String> {
    if check.port == Some(0) {
        return Some("healthCheck.port: 0 is no port".to_owned());
    }
    if check.protocol == Protocol::Grpc && !listener.is_http2() {
        let protocol = listener.as_str();
        return Some(format!(
            "healthCheck.protocol: grpc needs a listener of grpc or http2, not {protocol}"
        ));
    }
    let spans = [
        ("healthCheck.intervalMillis", check.interval_millis),
        ("healthCheck.timeoutMillis", check.timeout_millis),
    ];
    let by_http = matches!(check.protocol, Protocol::Http | Protocol::Http2);
    spans
        .into_iter()
        .find_map(|(field, millis)| positive(field, millis))
        .or_else(|| {
            let path = path_fault("healthCheck.path", &check.path);
            path.filter(|_| by_http)
        })
}

fn positive(field: &str, millis: u64) -> Option<String> {
    match millis {
        0 => Some(format!("{field}: 0 is no time")),
        _ => span_fault(field, millis),
    }
}

/// Values that Envoy would reject.
fn outlier_fault(outliers: &OutlierDetection) -> Option<String> {
    let percent = outliers.max_ejection_percent;
    if percent > 100 {
        let field = "outlierDetection.maxEjectionPercent";
        return Some(format!("{field}: {percent} is more than 100"));
    }
    if outliers.max_server_errors == 0 {
        return Some("outlierDetection.maxServerErrors: 0 is no number of errors".to_owned());
    }
    let spans = [
        ("outlierDetection.interval", outliers.interval),
        (
            "outlierDetection.baseEjectionDuration",
            outliers.base_ejection_duration,
        ),
    ];
    let mut spans = spans.into_iter();
    spans.find_map(|(field, span)| positive(field, span.millis()))
}

/// Values that Envoy would reject with all of its listeners.
pub(super) fn logging_fault(logging: &Logging) -> Option<String> {
    let AccessLog::File(file) = logging.access_log.as_ref()?;
    let (path, field) = (&file.path, "accessLog.file");
    let is_path = path.starts_with('/') && path.len() <= PATH_BYTES_MAX;
    if !is_path || path.contains(char::is_control) {
        return Some(format!("{field}.path: {path:?} is not an absolute path"));
    }
    match file.format.as_ref()? {
        LogFormat::Text(text) => log_format::fault(&format!("{field}.format.text"), text),
        LogFormat::Json(fields) => {
            let mut keys = BTreeSet::new();
            fields.iter().find_map(|entry| {
                let field = format!("{field}.format.json");
                if !keys.insert(&entry.key) {
                    return Some(format!("{field}: the key {} is there twice", entry.key));
                }
                log_format::fault(&field, &entry.value)
            })
        }
    }
}
