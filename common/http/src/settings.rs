//! What a listener allows: how many connections, for how long, speaking what.

use std::time::Duration;

/// What a listener is called, speaks and allows.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Its name in metrics and logs.
    pub listener: &'static str,
    pub protocol: Protocol,
    /// How many connections there may be.
    pub limits: Limits,
    /// How long a peer may take.
    pub deadlines: Deadlines,
    /// Bytes of a request's head that are read at all; at least 8 KiB.
    pub head_bytes_max: usize,
    /// Header lines of a request that are read at all, of HTTP/1.1.
    pub headers_max: usize,
    /// What is told to HTTP/2 peers.
    pub http2: Http2,
}

/// What is spoken on a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, without being told: gRPC.
    Http2,
    /// What was agreed upon in the TLS handshake; HTTP/1.1 if nothing was. To guess it from the
    /// first bytes would mean to wait for them.
    Negotiated,
}

/// How many connections a listener has at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Of peers that are not trusted.
    pub connections: usize,
    /// Beyond that, of peers that showed a certificate which is trusted. They are never closed to
    /// make room for others.
    pub trusted: usize,
    /// Of one address, of those in `connections`.
    pub per_address: usize,
    /// Beyond `connections`, when every one of them has a request under way: for probes. They have
    /// a second to ask.
    pub reserve: usize,
}

/// How long a connection in the reserve may take for its handshake, and then for its first request.
pub(crate) const RESERVE_HEAD_WITHIN: Duration = Duration::from_secs(1);

/// A peer from which we wait for something this long makes room for others when there is none left,
/// though its request is under way.
pub(crate) const STALLED_AFTER: Duration = Duration::from_secs(1);

/// How long a connection may take to end in order, after it was told to make room or was idle for
/// too long.
pub(crate) const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// How long a peer may take.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Deadlines {
    pub handshake: Duration,
    /// For a request's head from its first byte on, and for what HTTP/2 begins with.
    pub head: Duration,
    /// Until the first request begins, from the handshake on.
    pub first_request: Duration,
    pub idle: Duration,
    /// For a request's body as a whole; `None` where bodies are streams without an end.
    pub body: Option<Duration>,
    /// Without taking a byte of what is sent to it.
    pub write: Duration,
    /// For taking an answer as a whole; `None` where answers are streams without an end.
    pub answer: Option<Duration>,
    /// From then on (and up to a tenth later, so that connections which began together do not end
    /// together) it is asked to connect anew.
    pub age: Option<Duration>,
    /// For a connection that is too old, to end its requests.
    pub close: Duration,
}

/// What is told to HTTP/2 peers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Http2 {
    /// Requests at once on one connection.
    pub streams_max: u32,
    /// Bytes of one connection, and of one request of it, on their way to us. The smallest that a
    /// connection can have is the default: what a peer sends beyond that waits with the peer.
    pub window: u32,
    /// How often a connection is asked for a sign of life.
    pub ping_every: Duration,
    /// How long that sign may take.
    pub pong_within: Duration,
}

// === impl Limits ===

impl Limits {
    /// So many connections; half of them for one address, and an eighth more in reserve.
    pub const fn of(connections: usize) -> Self {
        Self {
            connections,
            trusted: 0,
            per_address: connections.div_ceil(2),
            reserve: connections.div_ceil(8),
        }
    }

    /// Descriptors that all of it takes.
    pub const fn total(&self) -> usize {
        self.connections + self.trusted + self.reserve
    }

    /// The same in proportion, so that all of it takes at most `total` descriptors.
    #[must_use]
    pub fn within(self, total: usize) -> Self {
        let wanted = self.total();
        if wanted <= total {
            return self;
        }
        let part = |of: usize| {
            let least = usize::from(of > 0);
            (of * total / wanted).max(least)
        };
        Self {
            connections: part(self.connections),
            trusted: part(self.trusted),
            per_address: part(self.per_address),
            reserve: part(self.reserve),
        }
    }
}

// === impl Deadlines ===

impl Deadlines {
    /// No deadline begins that is over sooner than this: so often is looked after a connection.
    pub(crate) fn shortest(&self) -> Duration {
        let all = [
            Some(self.handshake),
            Some(self.head),
            Some(self.first_request),
            Some(self.idle),
            Some(self.write),
            self.answer,
        ];
        let shortest = all.into_iter().flatten().min();
        shortest.unwrap_or(self.idle)
    }

    /// Those of a connection that came when there was no room.
    pub(crate) fn hurried(mut self) -> Self {
        self.handshake = self.handshake.min(RESERVE_HEAD_WITHIN);
        self.head = self.head.min(RESERVE_HEAD_WITHIN);
        self.first_request = self.first_request.min(RESERVE_HEAD_WITHIN);
        self.idle = self.idle.min(RESERVE_HEAD_WITHIN);
        self
    }
}

impl Default for Deadlines {
    /// Of a listener that answers at once. `idle` is above the 90 s for which Go keeps idle
    /// connections, so that it is not we who close one under a request; a connection may be made
    /// before there is a request for it too.
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(10),
            first_request: Duration::from_secs(100),
            idle: Duration::from_secs(100),
            body: Some(Duration::from_secs(30)),
            write: Duration::from_secs(30),
            answer: Some(Duration::from_mins(1)),
            age: None,
            close: Duration::from_mins(2),
        }
    }
}

// === impl Http2 ===

impl Default for Http2 {
    fn default() -> Self {
        Self {
            streams_max: 128,
            window: 64 * 1024 - 1,
            ping_every: Duration::from_secs(30),
            pong_within: Duration::from_secs(10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What has to fit into few descriptors keeps its proportions, and at least one place of each
    /// kind.
    #[test]
    fn shrinks_in_proportion() {
        let limits = Limits {
            trusted: 100,
            ..Limits::of(800)
        };
        assert_eq!(limits.total(), 1000);
        assert_eq!(limits.within(1000), limits);
        let small = limits.within(10);
        let expected = Limits {
            connections: 8,
            trusted: 1,
            per_address: 4,
            reserve: 1,
        };
        assert_eq!(small, expected);
        assert_eq!(Limits::of(64).within(0).connections, 1);
    }
}
