//! A Deployment with real Envoys, an aggregator, and an autoscaler over both.
//!
//! ```text
//! plane     a control plane: model (always) or real (KUBEBUILDER_ASSETS, as envtest has it)
//! rest      what a test reads and writes there, the same for both
//! fleet     an Envoy for each pod that the control plane wants, since nobody else runs pods here
//! load      requests to all of them
//! scalings  what the aggregator derives of each scaling
//! ```
//!
//! Scenarios know neither which plane there is nor how it works.

pub mod fleet;
pub mod load;
pub mod model;
pub mod objects;
pub mod plane;
pub mod real;
pub mod rest;
pub mod scalings;

pub use fleet::Fleet;
pub use plane::Plane;
pub use rest::Rest;
pub use scalings::Scalings;
