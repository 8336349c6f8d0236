//! What an autoscaler would have done with a series of requests: the arithmetic of `autoscaler`,
//! fed with the signal that a way of measuring makes of the series. Pure: neither clock nor I/O.
//!
//! ```text
//! Series (requests a second over time) ── Signal (when it is seen) ── Hpa ──> Outcome
//!                                                └── pods that become ready after a time ──┘
//! ```
//!
//! What it leaves out: pods share the load evenly, requests that find no room are not sent again,
//! and a pod that goes takes its requests with it.

mod outcome;
mod run;
mod series;
mod shape;
mod signal;

pub use outcome::{Outcome, Scaling};
pub use run::{Scenario, ScenarioError, simulate};
pub use series::{Series, SeriesError};
pub use shape::Shape;
pub use signal::Signal;
