//! Containers of an injected pod whose traffic bypasses the sidecar.

use std::fmt;

use serde_json::Value;

use crate::names::{PROXYINIT, SIDECAR, USER};
use crate::pod::{INJECTED, is_ours};

const PRINTED_MAX: usize = 5;

/// Containers that run as the sidecar's user, whose outbound traffic iptables does not redirect.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Bypass {
    containers: Vec<String>,
}

// === impl Bypass ===

impl Bypass {
    /// Label of metrics and reason of Events.
    pub const REASON: &'static str = "bypass";

    /// `None` also for a pod that is injected already.
    pub fn of(pod: &Value) -> Option<Self> {
        if pod["metadata"]["annotations"][INJECTED].is_string() {
            return None;
        }
        let spec = &pod["spec"];
        let of_pod = &spec["securityContext"]["runAsUser"];
        let lists = ["containers", "initContainers"];
        let all = lists.map(|list| spec[list].as_array().into_iter().flatten());
        let [containers, native] = all;
        // Ordinary init containers end before traffic is redirected.
        let native = native.filter(|container| container["restartPolicy"] == "Always");
        let same_user = containers.chain(native).filter(|container| {
            let own = &container["securityContext"]["runAsUser"];
            let user = if own.is_null() { of_pod } else { own };
            *user == USER
        });
        let names = same_user.filter_map(|container| container["name"].as_str());
        let names = names.filter(|name| ![SIDECAR, PROXYINIT].contains(name) && !is_ours(name));
        let containers: Vec<String> = names.map(str::to_owned).collect();
        (!containers.is_empty()).then_some(Self { containers })
    }
}

impl fmt::Display for Bypass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.containers.iter().take(PRINTED_MAX);
        let shown: Vec<_> = shown.map(String::as_str).collect();
        let more = self.containers.len() - shown.len();
        write!(
            f,
            "runs as user {USER}, the sidecar's: {}",
            shown.join(", ")
        )?;
        if more > 0 {
            write!(f, " and {more} more")?;
        }
        f.write_str(
            "; what it sends bypasses the sidecar and is not counted: give it another runAsUser",
        )
    }
}
