//! The ledger of metric reads: what each autoscaler read, when, from which pods.
//!
//! Pure: time comes in as an argument, and a folder for reads that outlive a restart is written by
//! the caller.
