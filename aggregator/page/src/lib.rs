//! The web page for operators. Pure: documents of [`aggregator_view`] go in, HTML comes out.
//!
//! ```text
//! URL -> Address -> (the server gets the documents of that view) -> Page -> HTML, whole
//!                                                                     └─> Updates -> events
//! ```
//!
//! A [`Page`] is a frame and fragments, each an element with an id. The same fragments make the
//! whole page and, where they or their table cells changed, its live updates. No text of a document
//! reaches the HTML but through `Shown` and maud's escaping; nothing depends on styles or scripts
//! in the HTML, which the [content security policy](assets::HEADERS) forbids.

pub mod address;
pub mod assets;
mod cells;
mod chart;
mod explanation;
mod figures;
mod hpa;
mod moment;
mod overview;
mod page;
mod pods;
mod problem;
mod shown;
mod sparkline;
mod system;
mod table;
mod updates;
mod workload;

pub use address::{Address, AddressError, Range, Sort, View};
pub use explanation::explanation;
pub use hpa::{HpaDocuments, hpa};
pub use overview::{NAMESPACES_MAX, OverviewDocuments, overview};
pub use page::{Fragment, Page};
pub use pods::pods;
pub use problem::{Depth, problem};
pub use system::system;
pub use updates::{RECONNECT, Updates};
pub use workload::{WorkloadDocuments, workload};

/// Rows of a table on one page.
pub const ROWS_MAX: usize = 100;
