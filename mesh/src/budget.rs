//! Divides the memory limit of each subcommand among its parts.

use anyhow::{Context as _, Result};
use common_budget::{Limit, Part, Size, divide, division};

#[derive(Clone, Copy, Debug, clap::Args)]
#[group(skip)]
pub(crate) struct MemoryArgs {
    /// Memory that the program may take, such as 64Mi: it is divided among what comes in, and what
    /// does not fit is refused and counted. Default: the limit of its cgroup, which is that of the
    /// container; without one all that the machine has.
    #[arg(long, env = "MESHMETER_MEMORY_LIMIT", value_name = "SIZE")]
    memory_limit: Option<Size>,
}

pub(crate) struct XdsProxy {
    /// For responses of the control plane.
    pub(crate) messages: Size,
    /// For requests of Envoy that are being received.
    pub(crate) requests: Size,
}

pub(crate) struct ControlPlane {
    pub(crate) streams: usize,
    pub(crate) requests: Size,
}

/// Memory of a stream with the resources it was sent (see `STREAMS_MAX`).
const CONTROL_PLANE_STREAM: Size = Size::kib(100);

const XDS_PROXY: [Part; 3] = [
    part("base", 14, 1, 32),
    part("requests", 4, 0, 4),
    part("messages", 12, 9, 256),
];

const CONTROL_PLANE: [Part; 4] = [
    part("base", 32, 1, 96),
    // Of 64 MiB of resources together most are far smaller.
    part("resources", 24, 4, 512),
    part("requests", 8, 1, 32),
    part("streams", 16, 4, 1024),
];

const INJECTOR: [Part; 4] = [
    part("base", 32, 4, 512),
    part("bodies", 8, 1, 16),
    // One body is read at a time.
    part("review", 24, 1, 32),
    // 256 of 64 KiB.
    part("connections", 16, 0, 16),
];

const fn part(name: &'static str, least_mib: u64, weight: u64, most_mib: u64) -> Part {
    Part {
        name,
        least: Size::mib(least_mib),
        weight,
        most: Size::mib(most_mib),
    }
}

// === impl MemoryArgs ===

impl MemoryArgs {
    pub(crate) fn xds_proxy(self) -> Result<XdsProxy> {
        let [_, requests, messages] = self.divide(&XDS_PROXY)?;
        Ok(XdsProxy { messages, requests })
    }

    pub(crate) fn control_plane(self) -> Result<ControlPlane> {
        let [_, _, requests, streams] = self.divide(&CONTROL_PLANE)?;
        let streams = streams.count_of(CONTROL_PLANE_STREAM);
        Ok(ControlPlane {
            streams: streams.min(mesh_control_plane::server::STREAMS_MAX),
            requests,
        })
    }

    /// The webhook's memory for bodies that are being received.
    pub(crate) fn injector(self) -> Result<Size> {
        let [_, bodies, ..] = self.divide(&INJECTOR)?;
        Ok(bodies)
    }

    fn divide<const N: usize>(self, parts: &[Part; N]) -> Result<[Size; N]> {
        let limit = Limit::find(self.memory_limit);
        let sizes = divide(limit.size, parts).context("the memory budget")?;
        tracing::info!(
            limit = %limit.size,
            limit.source = %limit.source,
            parts = division::line(parts, &sizes),
            "memory budget"
        );
        Ok(sizes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(mib: u64) -> MemoryArgs {
        MemoryArgs {
            memory_limit: Some(Size::mib(mib)),
        }
    }

    /// At the shipped limits a listener of 10 MB passes an xDS proxy, and so on.
    #[test]
    fn shipped_limits_are_enough() {
        let messages = args(64).xds_proxy().unwrap().messages;
        let limits = mesh_xds_proxy::Limits::within(messages.get());
        assert!(limits.message_bytes > 11_000_000, "{limits:?}");
        assert!(limits.changed_bytes > 7_000_000, "{limits:?}");
        assert!(args(256).control_plane().unwrap().streams >= 700);
        assert!(args(128).injector().unwrap() >= Size::mib(8));
        let refused = format!("{:#}", args(16).xds_proxy().err().unwrap());
        assert!(refused.contains("--memory-limit"), "{refused}");
    }
}
