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
];
