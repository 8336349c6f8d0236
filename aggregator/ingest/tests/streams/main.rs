//! Streams of sidecars against the real server over loopback: what they send is in the store, and
//! what is wrong ends its own stream only.

#![expect(clippy::unwrap_used, reason = "all of this is test code")]

mod lifecycle;
mod refusals;
mod storm;
mod support;
mod wire;
