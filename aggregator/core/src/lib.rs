//! The store of reported totals, without clock or I/O: reports go in, rates come out, time is an
//! argument.
//!
//! ```text
//! report::{Hello, Report} -> store::Store -> query::QueryResult
//! ```

mod history;
pub mod lag;
pub mod limits;
pub mod pod;
pub mod query;
pub mod report;
pub mod series;
mod sidecar_clock;
pub mod status;
pub mod store;
mod window;
