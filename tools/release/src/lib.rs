//! Releases, each step one command that runs here as it runs in a workflow: `cargo xtask release`.
//!
//! [`version`] is the one version and everything that repeats it, [`changelog`] what a release says
//! of itself, and [`check`] whether a commit can be released. [`files`], [`chart`] and [`krew`]
//! make what is released, [`registry`] brings it to where it is pulled from, and [`publish`] signs
//! and announces it.

pub mod changelog;
pub mod chart;
pub mod check;
pub mod command;
pub mod files;
pub mod krew;
pub mod publish;
pub mod registry;
pub mod tree;
pub mod version;
