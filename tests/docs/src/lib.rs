//! The documents, held against the programs they describe.
//!
//! ```text
//! built programs -> --help, /metrics -> tables -> regions of CONFIGURATION.md, METRICS.md
//! the chart      -> values, schema -> tables -> region of reference/CHART.md
//! documents      -> links, anchors, flags, metrics, fenced examples -> findings
//! ```
//!
//! A flag or a metric that is added to a program is in the references after `cargo xtask
//! reference`, without a change here.

pub mod exposition;
pub mod flags;
pub mod markdown;
pub mod programs;
pub mod regions;
pub mod stats;
pub mod values;
