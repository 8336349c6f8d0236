//! The built programs under attack by clients without any right, inside a memory cgroup of the
//! shipped limit.
//!
//! ```text
//! flood, heads (attackers) ──> a built program in a cage (memory cgroup)
//!                                 ^ sidecar (once a second), or kube-apiserver with reviews
//!                                 ^ probes (within a second, by the program's own time: stopwatch)
//! ```

pub mod cage;
pub mod caged;
pub mod flood;
pub mod heads;
pub mod probes;
pub mod reviewer;
pub mod sidecar;
pub mod target;
pub mod well_behaved;
