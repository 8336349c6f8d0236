//! Running totals to Amazon Managed Prometheus (AMP) and other remote-write receivers.
//!
//! ```text
//! store --flush--> encoder (sorted labels, one sample a series) --> queue (disk, one fsync a flush)
//!                                                                     └ one sender a shard --> receiver
//! ```

pub mod answer;
pub mod block;
pub mod encoder;
pub mod pace;
pub mod queue;
pub mod retry;
pub mod write_request;
