//! Streams of sidecars against the real server over loopback: what they send is in the store, and what is wrong
//! ends its own stream only.

mod lifecycle;
mod refusals;
mod support;
mod wire;
