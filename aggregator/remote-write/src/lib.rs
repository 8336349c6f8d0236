//! Writes running totals to Amazon Managed Prometheus (AMP) and other remote-write receivers.
//!
//! ```text
//! store --flush--> series (names, zeros, ends) --> encoder (sorted labels, one sample a series)
//!                                                     └> queue (disk, one fsync a flush)
//!                                                          └> one sender a shard --> receiver
//! ```

pub mod batch;
pub mod encoder;
pub mod endpoint;
pub mod isolation;
pub mod metrics;
pub mod names;
pub mod protocol;
pub mod queue;
pub mod rate_limiter;
pub mod receiver;
pub mod retry;
pub mod sender;
pub mod series;
pub mod skew;
pub mod sub_batch;
pub mod write_request;
pub mod write_response;
