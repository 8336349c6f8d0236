//! The built programs under attack by clients without any right, inside a memory cgroup of the
//! shipped limit.
//!
//! ```text
//! flood (attackers) ──> a built program in a cage (memory cgroup) <── sidecar (once a second)
//!                                                                 <── probes (within a second)
//! ```

pub mod cage;
pub mod flood;
pub mod probes;
pub mod sidecar;
pub mod well_behaved;
