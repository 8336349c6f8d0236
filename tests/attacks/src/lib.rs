//! The built programs under attack by clients without any right, inside a memory cgroup of the
//! shipped limit.
//!
//! ```text
//! flood (attackers) ──> a built program in a cage (memory cgroup) <── sidecar (well-behaved, once a second)
//!                                                                 <── probes (admin pages, within a second)
//! ```

pub mod cage;
pub mod flood;
pub mod probes;
pub mod sidecar;
pub mod well_behaved;
