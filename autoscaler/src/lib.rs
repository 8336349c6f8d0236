//! The arithmetic of the Kubernetes horizontal pod autoscaler (`autoscaling/v2`), as the controller
//! of Kubernetes 1.36 does it, without clock or I/O.
//!
//! ```text
//! Hpa (the object's spec) ─┐
//! Observed (pods, answers) ├─> decide ─> Decision: replicas, conditions, each Step that led there
//! Memory (earlier syncs) ──┘
//! ```
//!
//! Tests, explanations and simulations use this one. Values are thousandths, as in Kubernetes. The
//! controller divides in 64-bit floats and rounds up what comes out, so that 1.1 times 110 pods are
//! 122; so does this.

mod arithmetic;
mod behavior;
mod decision;
mod fault;
mod group;
mod hpa;
mod limits;
mod memory;
mod metric;
mod observed;
mod phase;
mod proposal;
mod quantity;
mod ratio;
mod selector;
mod sentence;
mod spec;
mod step;
mod tally;
mod thresholds;

pub use behavior::{Behavior, Policy, PolicyKind, Rules, SelectPolicy};
pub use decision::{Condition, Decision};
pub use hpa::{Hpa, Settings, TargetRef};
pub use memory::Memory;
pub use metric::{Metric, Source, Target};
pub use observed::{Answer, Observed, Pod, Startup, Values};
pub use phase::Phase;
pub use proposal::{Current, Failure, Proposal};
pub use quantity::Quantity;
pub use selector::{Operator, Requirement, Selector};
pub use spec::SpecError;
pub use step::{Direction, Filling, Step};
pub use tally::Tally;
pub use thresholds::{Threshold, Thresholds};

#[cfg(any(test, feature = "testing"))]
pub mod testing;

#[cfg(test)]
mod tests;
