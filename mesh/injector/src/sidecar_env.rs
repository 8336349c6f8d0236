//! Variables of App Mesh's agent, which a stock Envoy has no agent for: which are taken, which
//! change nothing, and which leave a pod as it is.

use crate::annotations::{self, Annotations};
use crate::skipped::Skipped;

/// What the annotations for the sidecar's environment ask of it.
#[derive(Debug, Eq, PartialEq)]
pub(crate) struct SidecarEnv {
    pub(crate) concurrency: String,
    pub(crate) log_level: String,
    /// Path of the SDS server's socket in the sidecar.
    pub(crate) sds_socket: Option<String>,
    /// Further variables, for the container.
    pub(crate) others: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Use {
    Taken,
    NoEffect,
    /// Refused unless it is switched off.
    Refused,
}

const FILE: &str = "a file of the agent, whose form a stock Envoy does not read";
const TRACING: &str =
    "tracing is not set up: bring an own container `envoy` whose bootstrap has it";
const STATSD: &str = "no statistics are sent: scrape port 15092 instead";
const PLACE: &str = "the node ID is made of the pod's VirtualNode, and its control plane is ours";
const AWS: &str = "nothing is asked of AWS";
const AGENT: &str = "of the agent's own process, which is not there";
const BOOTSTRAP: &str = "the bootstrap is ours, and has its own value";
const PART: &str = "of a feature that is refused where it is switched on";

/// Every variable of the agent's documentation.
const VARIABLES: [(&str, Use, &str); 62] = [
    ("APPMESH_DUALSTACK_ENDPOINT", Use::NoEffect, AWS),
    ("APPMESH_FIPS_ENDPOINT", Use::NoEffect, AWS),
    (
        "APPMESH_METRIC_EXTENSION_VERSION",
        Use::NoEffect,
        "meshmeter's filter counts in its place",
    ),
    (
        "APPMESH_PLATFORM_APP_MESH_CONTROLLER_VERSION",
        Use::NoEffect,
        AWS,
    ),
    ("APPMESH_PLATFORM_K8S_POD_UID", Use::NoEffect, AWS),
    ("APPMESH_PLATFORM_K8S_VERSION", Use::NoEffect, AWS),
    ("APPMESH_PREVIEW", Use::NoEffect, AWS),
    ("APPMESH_RESOURCE_ARN", Use::NoEffect, PLACE),
    ("APPMESH_RESOURCE_CLUSTER", Use::NoEffect, PLACE),
    ("APPMESH_RESOURCE_NAME", Use::NoEffect, PLACE),
    (
        "APPMESH_SDS_SOCKET_PATH",
        Use::Taken,
        "path of the socket in the sidecar",
    ),
    ("APPMESH_SET_TRACING_DECISION", Use::NoEffect, PART),
    ("APPMESH_SIGNING_NAME", Use::NoEffect, AWS),
    ("APPMESH_VIRTUAL_NODE_NAME", Use::NoEffect, PLACE),
    ("APPMESH_XDS_ENDPOINT", Use::NoEffect, PLACE),
    ("APPNET_AGENT_ADMIN_MODE", Use::NoEffect, AGENT),
    ("APPNET_AGENT_ADMIN_UDS_PATH", Use::NoEffect, AGENT),
    ("APPNET_AGENT_HTTP_BIND_ADDRESS", Use::NoEffect, AGENT),
    ("APPNET_AGENT_HTTP_PORT", Use::NoEffect, AGENT),
    ("APPNET_AGENT_LOGGING_RESET_TIMEOUT", Use::NoEffect, AGENT),
    ("APPNET_AGENT_MAX_LOG_FILE_SIZE", Use::NoEffect, AGENT),
    ("APPNET_AGENT_MAX_RETENTION_COUNT", Use::NoEffect, AGENT),
    (
        "APPNET_AGENT_POLL_ENVOY_READINESS_INTERVAL_S",
        Use::NoEffect,
        AGENT,
    ),
    (
        "APPNET_AGENT_POLL_ENVOY_READINESS_TIMEOUT_S",
        Use::NoEffect,
        AGENT,
    ),
    (
        "APPNET_ENABLE_RELAY_MODE_FOR_XDS",
        Use::Refused,
        "a relay to Amazon's control plane, which has ended",
    ),
    ("APPNET_ENVOY_LOG_DESTINATION", Use::NoEffect, AGENT),
    ("APPNET_ENVOY_LOG_NAME", Use::NoEffect, AGENT),
    ("APPNET_ENVOY_RESTART_COUNT", Use::NoEffect, AGENT),
    ("AWS_REGION", Use::NoEffect, AWS),
    ("AWS_XRAY_DAEMON_ADDRESS", Use::NoEffect, PART),
    ("DATADOG_TRACER_ADDRESS", Use::NoEffect, PART),
    ("DATADOG_TRACER_PORT", Use::NoEffect, PART),
    ("DD_SERVICE", Use::NoEffect, PART),
    ("ENABLE_ENVOY_DATADOG_TRACING", Use::Refused, TRACING),
    ("ENABLE_ENVOY_DOG_STATSD", Use::Refused, STATSD),
    ("ENABLE_ENVOY_JAEGER_TRACING", Use::Refused, TRACING),
    ("ENABLE_ENVOY_STATS_TAGS", Use::NoEffect, BOOTSTRAP),
    ("ENABLE_ENVOY_XRAY_TRACING", Use::Refused, TRACING),
    ("ENABLE_STATS_SNAPSHOT", Use::NoEffect, AGENT),
    ("ENVOY_ADMIN_ACCESS_ENABLE_IPV6", Use::NoEffect, BOOTSTRAP),
    ("ENVOY_ADMIN_ACCESS_LOG_FILE", Use::NoEffect, BOOTSTRAP),
    ("ENVOY_ADMIN_ACCESS_PORT", Use::NoEffect, BOOTSTRAP),
    ("ENVOY_ADMIN_MODE", Use::NoEffect, BOOTSTRAP),
    (
        "ENVOY_CONCURRENCY",
        Use::Taken,
        "Envoy's `--concurrency`; default 2",
    ),
    ("ENVOY_CONFIG_FILE", Use::Refused, FILE),
    (
        "ENVOY_ENABLE_TCP_POOL_IDLE_TIMEOUT",
        Use::NoEffect,
        BOOTSTRAP,
    ),
    ("ENVOY_INITIAL_FETCH_TIMEOUT", Use::NoEffect, BOOTSTRAP),
    (
        "ENVOY_LOG_LEVEL",
        Use::Taken,
        "Envoy's `--log-level`; default `info`",
    ),
    (
        "ENVOY_NO_EXTENSION_LOOKUP_BY_NAME",
        Use::NoEffect,
        BOOTSTRAP,
    ),
    ("ENVOY_RESOURCES_CONFIG_FILE", Use::Refused, FILE),
    ("ENVOY_SKIP_DEPRECATED_LOGS", Use::NoEffect, AGENT),
    ("ENVOY_STATS_CONFIG_FILE", Use::Refused, FILE),
    ("ENVOY_STATS_FLUSH_INTERVAL", Use::NoEffect, BOOTSTRAP),
    ("ENVOY_STATS_SINKS_CFG_FILE", Use::Refused, FILE),
    ("ENVOY_TRACING_CFG_FILE", Use::Refused, FILE),
    ("HC_DISCONNECTED_TIMEOUT_S", Use::NoEffect, AGENT),
    ("HC_POLL_INTERVAL_MS", Use::NoEffect, AGENT),
    ("JAEGER_TRACER_ADDRESS", Use::NoEffect, PART),
    ("JAEGER_TRACER_PORT", Use::NoEffect, PART),
    ("JAEGER_TRACER_VERSION", Use::NoEffect, PART),
    ("LISTENER_DRAIN_WAIT_TIME_S", Use::NoEffect, AGENT),
    ("MAX_REQUESTS_PER_IO_CYCLE", Use::NoEffect, BOOTSTRAP),
];

// === impl SidecarEnv ===

impl SidecarEnv {
    pub(crate) fn of(annotations: &Annotations) -> Result<Self, Skipped> {
        let mut env = Self {
            concurrency: "2".to_owned(),
            log_level: "info".to_owned(),
            sds_socket: None,
            others: Vec::new(),
        };
        for (name, value) in annotations::env(annotations)? {
            match name.as_str() {
                "ENVOY_CONCURRENCY" => env.concurrency = value,
                "ENVOY_LOG_LEVEL" => env.log_level = value,
                "APPMESH_SDS_SOCKET_PATH" => env.sds_socket = Some(value),
                _ => {
                    if let Some(why) = refusal(&name, &value) {
                        return Err(Skipped::AgentOnly { name, why });
                    }
                    env.others.push((name, value));
                }
            }
        }
        Ok(env)
    }
}

/// Why a variable with this value leaves the pod as it is.
pub(crate) fn refusal(name: &str, value: &str) -> Option<&'static str> {
    let mut variables = VARIABLES.iter();
    let (_, _, why) = variables.find(|(of, state, _)| *of == name && *state == Use::Refused)?;
    let is_off = ["", "0", "false"];
    let is_off = is_off.iter().any(|off| value.eq_ignore_ascii_case(off));
    (!is_off).then_some(why)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const REFERENCE: &str = include_str!("../../../docs/reference/MESH.md");

    fn of(annotation: &str) -> Result<SidecarEnv, Skipped> {
        let annotations = json!({annotations::ENV: annotation});
        let Value::Object(annotations) = annotations else {
            panic!("no map");
        };
        SidecarEnv::of(&annotations)
    }

    #[test]
    fn the_reference_has_the_table() {
        for (name, state, why) in VARIABLES {
            let state = match state {
                Use::Taken => "taken",
                Use::NoEffect => "no effect",
                Use::Refused => "refused",
            };
            let row = format!("| `{name}` | {state} | {why} |\n");
            assert!(REFERENCE.contains(&row), "{row}");
        }
        let names: Vec<_> = VARIABLES.iter().map(|(name, _, _)| *name).collect();
        assert!(names.is_sorted());
    }

    #[test]
    fn each_variable_does_what_the_table_says() {
        let plain = of("").unwrap();
        for (name, state, why) in VARIABLES {
            let env = of(&format!("{name}=1"));
            match state {
                Use::Taken => {
                    let env = env.unwrap();
                    assert!(env.others.is_empty() && env != plain, "{name}");
                }
                Use::NoEffect => {
                    let others = env.unwrap().others;
                    assert_eq!(others, [(name.to_owned(), "1".to_owned())]);
                }
                Use::Refused => {
                    let name = name.to_owned();
                    assert_eq!(env, Err(Skipped::AgentOnly { name, why }));
                }
            }
        }
        // What is off, and what is not the agent's, is for the container.
        let env = of("ENABLE_ENVOY_XRAY_TRACING=0, DD_ENV=prod").unwrap();
        assert_eq!(env.others.len(), 2);
    }
}
