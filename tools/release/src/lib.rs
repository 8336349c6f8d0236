//! Releases, each step one command that runs here as it runs in a workflow: `cargo xtask release`.
//!
//! [`version`] is the one version and everything that repeats it, [`changelog`] what a release says
//! of itself.

pub mod changelog;
pub mod tree;
pub mod version;
