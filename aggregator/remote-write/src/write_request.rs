//! Messages of Remote-Write 1.0 (`prometheus/prompb`), reduced to the fields we write.
//!
//! The sender's hot path writes the same bytes directly ([`crate::encoder`]); these messages serve
//! to split a batch or to translate it to 2.0.

pub mod v2;

use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    pub timeseries: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, Message)]
pub struct TimeSeries {
    /// Sorted by name, the metric's name as `__name__`.
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<Label>,
    /// Ascending by time.
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<Sample>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Label {
    /// `[a-zA-Z_][a-zA-Z0-9_]*`
    #[prost(string, tag = "1")]
    pub name: String,
    /// Never empty.
    #[prost(string, tag = "2")]
    pub value: String,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub struct Sample {
    /// [`STALE`] ends a series.
    #[prost(double, tag = "1")]
    pub value: f64,
    /// Unix time in milliseconds.
    #[prost(int64, tag = "2")]
    pub timestamp: i64,
}

/// Bits of the staleness marker (Remote-Write 1.0, "Stale Markers"): a NaN that no arithmetic
/// produces.
pub const STALE_BITS: u64 = 0x7ff0_0000_0000_0002;

/// The staleness marker: the series has no further samples.
pub const STALE: f64 = f64::from_bits(STALE_BITS);
