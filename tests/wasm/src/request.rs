//! One request or upstream attempt, as properties and headers show it to a module.

use crate::plugin::Direction;

/// How far a request has come; properties appear as it goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Progress {
    /// Request headers were decoded and the route is known.
    Begun,
    Complete,
}

/// What a request is like.
#[derive(Clone, Debug)]
pub struct Request {
    pub direction: Direction,
    /// Upstream cluster.
    pub cluster: String,
    /// Status of the response; `None` for a reset or timeout.
    pub status: Option<u16>,
    /// False if no attempt reached a connection.
    pub connected: bool,
}

/// What properties and headers are read from while a callback runs.
#[derive(Debug)]
pub(crate) struct StreamInfo {
    pub(crate) request: Request,
    pub(crate) progress: Progress,
}

// === impl Request ===

impl Request {
    /// A request that a listener of `direction` proxies to the cluster `app`, which answers 200.
    pub fn new(direction: Direction) -> Self {
        Self {
            direction,
            cluster: "app".to_owned(),
            status: Some(200),
            connected: true,
        }
    }

    pub fn inbound() -> Self {
        Self::new(Direction::Inbound)
    }

    #[must_use]
    pub fn to(mut self, cluster: &str) -> Self {
        cluster.clone_into(&mut self.cluster);
        self
    }

    #[must_use]
    pub fn status(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// Without a response: reset or timed out.
    #[must_use]
    pub fn reset(mut self) -> Self {
        self.status = None;
        self
    }

    /// With no attempt that reached a connection: 503 from Envoy itself.
    #[must_use]
    pub fn unconnected(mut self) -> Self {
        self.connected = false;
        self.status = Some(503);
        self
    }
}

// === impl StreamInfo ===

impl StreamInfo {
    /// The property at a dotted path; `None` where Envoy says `NotFound`.
    pub(crate) fn property(&self, path: &str) -> Option<Vec<u8>> {
        let complete = self.progress == Progress::Complete;
        let connected = complete && self.request.connected;
        match path {
            "xds.cluster_name" => Some(self.request.cluster.clone().into_bytes()),
            "xds.listener_direction" => {
                Some((self.request.direction as i64).to_le_bytes().to_vec())
            }
            "xds.route_name" => Some(b"route".to_vec()),
            "response.code" if complete => self
                .request
                .status
                .map(|status| i64::from(status).to_le_bytes().to_vec()),
            "upstream.address" if connected => Some(b"127.0.0.1:8080".to_vec()),
            "upstream.local_address" if connected => Some(b"127.0.0.1:40000".to_vec()),
            _ => None,
        }
    }

    /// The header `:status` of the response, once there is one.
    pub(crate) fn status(&self) -> Option<String> {
        let complete = self.progress == Progress::Complete;
        self.request
            .status
            .filter(|_| complete)
            .map(|status| status.to_string())
    }
}
