//! Seeds that failed once. They run with every test.

/// Each with what it showed.
pub const REGRESSIONS: &[(u64, &str)] = &[
    (
        1,
        "a replayed report passed for a clock that was set back, and hid a dead VM",
    ),
    (
        17,
        "the first report of a new stream was heaped on the sidecar's last busy moment, not spread over the gap",
    ),
    (
        19,
        "the first report of a new stream was spread over time that was already told",
    ),
    (
        154,
        "with a second aggregator a rise was squeezed into the last tick: the interval began when the other was told",
    ),
    (
        202,
        "totals after a reset of the counters were told on the stream of those before",
    ),
    (
        683,
        "what came after a reset was told under the former name by the VM that took over the streams",
    ),
    (
        941,
        "a hello that arrived 15 s late, after a stall, passed for a clock that was set",
    ),
];
