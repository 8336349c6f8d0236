//! The settings of a listener: protocol, limits and deadlines.

use std::time::Duration;

/// The name, protocol and limits of a listener.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Its name in metrics and logs.
    pub listener: &'static str,
    pub protocol: Protocol,
    pub limits: Limits,
    pub deadlines: Deadlines,
    /// Bytes of a request's head at most; at least 8 KiB.
    pub head_bytes_max: usize,
    /// Header lines of an HTTP/1.1 request at most.
    pub headers_max: usize,
    pub http2: Http2,
}

/// The protocol of a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Protocol {
    Http1,
    /// HTTP/2 with prior knowledge, as in gRPC.
    Http2,
    /// As negotiated by ALPN; HTTP/1.1 without it. Detecting it from the preface would mean waiting
    /// for its bytes.
    Negotiated,
}

/// How many connections a listener may have at once.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Of untrusted peers.
    pub connections: usize,
    /// In addition, of peers that showed a trusted certificate. They are evicted only for each
    /// other.
    pub trusted: usize,
    /// Of one address, out of `connections`.
    pub per_address: usize,
    /// In addition, when each of `connections` has a request in flight: for probes, which must send
    /// their request within `RESERVE_HEAD_WITHIN`.
    pub reserve: usize,
}

/// Deadline of a connection in the reserve for its handshake, and then for its first request.
pub(crate) const RESERVE_HEAD_WITHIN: Duration = Duration::from_secs(1);

/// A connection that has waited this long for its peer may be evicted, although a request is in
/// flight.
pub(crate) const STALLED_AFTER: Duration = Duration::from_secs(1);

/// Deadline for the graceful end of a connection that was evicted or idle for too long.
pub(crate) const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// How long a peer may take.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Deadlines {
    pub handshake: Duration,
    /// For a request's head, from its first byte, and for the HTTP/2 preface.
    pub head: Duration,
    /// From the handshake to the first request.
    pub first_request: Duration,
    pub idle: Duration,
    /// For a whole request body; `None` for endless streams.
    pub body: Option<Duration>,
    /// For taking the next bytes that are sent.
    pub write: Duration,
    /// For taking a whole response; `None` for endless streams.
    pub answer: Option<Duration>,
    /// After this age (and up to a tenth later, so that connections opened together do not end
    /// together) the peer is asked to reconnect.
    pub age: Option<Duration>,
    /// For the requests in flight of a connection that is too old.
    pub close: Duration,
}

/// The settings of HTTP/2 connections.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Http2 {
    /// Concurrent streams of a connection.
    pub streams_max: u32,
    /// Flow-control window of a connection and of each stream, in bytes. The default is the
    /// smallest that HTTP/2 allows for a connection; the peer buffers what exceeds it.
    pub window: u32,
    /// Interval of PING frames.
    pub ping_every: Duration,
    /// Deadline for their acknowledgement.
    pub pong_within: Duration,
}

// === impl Limits ===

impl Limits {
    /// `connections`, half of them for one address, and an eighth more in reserve.
    pub const fn of(connections: usize) -> Self {
        Self {
            connections,
            trusted: 0,
            per_address: connections.div_ceil(2),
            reserve: connections.div_ceil(8),
        }
    }

    /// Descriptors of all these connections.
    pub const fn total(&self) -> usize {
        self.connections + self.trusted + self.reserve
    }

    /// Scaled down in proportion to at most `total` descriptors.
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
    /// The shortest deadline, and so the interval at which a connection is checked. Of one that is
    /// `settled` those of a beginning are over.
    pub(crate) fn shortest(&self, settled: bool) -> Duration {
        let beginning = [self.handshake, self.head, self.first_request];
        let beginning = beginning.into_iter().filter(|_| !settled);
        let others = [Some(self.idle), Some(self.write), self.answer];
        let shortest = beginning.chain(others.into_iter().flatten()).min();
        shortest.unwrap_or(self.idle)
    }

    /// The deadlines of a connection in the reserve.
    pub(crate) fn hurried(mut self) -> Self {
        self.handshake = self.handshake.min(RESERVE_HEAD_WITHIN);
        self.head = self.head.min(RESERVE_HEAD_WITHIN);
        self.first_request = self.first_request.min(RESERVE_HEAD_WITHIN);
        self.idle = self.idle.min(RESERVE_HEAD_WITHIN);
        self
    }
}

impl Default for Deadlines {
    /// For a listener that responds at once. `idle` is above the 90 s for which Go keeps idle
    /// connections, so that we do not close one while a request is on its way; `first_request` too,
    /// for clients may connect before they have a request.
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
