//! Which pod the sidecar belongs to: the plugin configuration, then the environment, then Envoy's
//! node.
//!
//! Each part is taken from the first source that has it:
//!
//! | part | configuration | environment | node metadata |
//! |---|---|---|---|
//! | namespace | `identity.namespace` | `POD_NAMESPACE` | `NAMESPACE` |
//! | pod | `identity.pod` | `POD_NAME` | `NAME` |
//! | uid | `identity.uid` | `POD_UID` | `POD_UID` |
//! | node | `identity.node` | `NODE_NAME` | `NODE_NAME` |
//! | labels | `identity.labels` | | |
//!
//! `NAME` and `NAMESPACE` are what Istio puts there. Without a namespace and a pod nothing can be
//! streamed.

use std::collections::BTreeMap;

use crate::config::ConfiguredIdentity;
use crate::host::Host;

/// Longest value from the environment or the node, in bytes: that of a Kubernetes name.
const TEXT_BYTES_MAX: usize = 253;

/// The pod of the sidecar. Unknown parts are empty.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Identity {
    pub namespace: String,
    pub pod: String,
    pub uid: String,
    pub node: String,
    /// Pod labels from the configuration.
    pub labels: BTreeMap<String, String>,
}

/// Sources of a part besides the configuration.
struct Source {
    env: &'static str,
    metadata: &'static [u8],
}

const NAMESPACE: Source = Source {
    env: "POD_NAMESPACE",
    metadata: b"xds\0node\0metadata\0NAMESPACE",
};
const POD: Source = Source {
    env: "POD_NAME",
    metadata: b"xds\0node\0metadata\0NAME",
};
const UID: Source = Source {
    env: "POD_UID",
    metadata: b"xds\0node\0metadata\0POD_UID",
};
const NODE: Source = Source {
    env: "NODE_NAME",
    metadata: b"xds\0node\0metadata\0NODE_NAME",
};

/// Resolves the identity. The error names the missing part and its sources.
pub fn resolve(host: &impl Host, configured: &ConfiguredIdentity) -> Result<Identity, String> {
    let identity = Identity {
        namespace: find(host, &configured.namespace, &NAMESPACE),
        pod: find(host, &configured.pod, &POD),
        uid: find(host, &configured.uid, &UID),
        node: find(host, &configured.node, &NODE),
        labels: configured.labels.clone(),
    };
    for (part, value, env, metadata) in [
        (
            "namespace",
            &identity.namespace,
            "POD_NAMESPACE",
            "NAMESPACE",
        ),
        ("pod", &identity.pod, "POD_NAME", "NAME"),
    ] {
        if value.is_empty() {
            return Err(format!(
                "identity: the {part} is unknown: neither `identity.{part}` of the plugin configuration, \
                 nor the environment variable {env}, nor {metadata} in Envoy's node metadata; \
                 counting, but streaming nowhere"
            ));
        }
    }
    Ok(identity)
}

fn find(host: &impl Host, configured: &str, source: &Source) -> String {
    if !configured.is_empty() {
        return configured.to_owned();
    }
    if let Some(value) = host.env(source.env)
        && (1..=TEXT_BYTES_MAX).contains(&value.len())
    {
        return value;
    }
    let mut buffer = [0; TEXT_BYTES_MAX];
    host.property(source.metadata, &mut buffer)
        .ok()
        .and_then(|len| buffer.get(..len))
        .and_then(|bytes| str::from_utf8(bytes).ok())
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FakeProcess;

    fn configured(pod: &str) -> ConfiguredIdentity {
        ConfiguredIdentity {
            pod: pod.to_owned(),
            ..ConfiguredIdentity::default()
        }
    }

    /// Each part comes from the first source that has it.
    #[test]
    fn sources_are_asked_in_order() {
        let process = FakeProcess::new(1);
        process.set_env("POD_NAME", "from-env");
        process.set_env("POD_NAMESPACE", "prod");
        process.set_node_metadata("NAMESPACE", "from-node");
        process.set_node_metadata("NODE_NAME", "node-1");
        let host = process.host();

        let identity = resolve(&host, &configured("from-config")).unwrap();
        assert_eq!(identity.pod, "from-config");
        assert_eq!(identity.namespace, "prod");
        assert_eq!(identity.node, "node-1");
        assert_eq!(identity.uid, "");

        let identity = resolve(&host, &configured("")).unwrap();
        assert_eq!(identity.pod, "from-env");
    }

    /// The error names the missing part and every source.
    #[test]
    fn a_missing_part_is_named() {
        let process = FakeProcess::new(1);
        process.set_env("POD_NAMESPACE", "prod");
        let sentence = resolve(&process.host(), &configured("")).unwrap_err();
        assert!(sentence.contains("the pod is unknown"), "{sentence}");
        assert!(sentence.contains("`identity.pod`"), "{sentence}");
        assert!(sentence.contains("POD_NAME"), "{sentence}");
    }

    /// A value that no pod can have is ignored.
    #[test]
    fn an_overlong_value_is_passed_over() {
        let process = FakeProcess::new(1);
        process.set_env("POD_NAME", &"x".repeat(254));
        process.set_env("POD_NAMESPACE", "prod");
        process.set_node_metadata("NAME", "dj-1");
        let identity = resolve(&process.host(), &configured("")).unwrap();
        assert_eq!(identity.pod, "dj-1");
    }
}
