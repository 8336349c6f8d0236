//! The documents of the API group `view.meshmeter.io`: what the command line and the page show.
//!
//! Pure: no clock, no I/O. The server fills the documents from the store, the directory and the
//! ledger of reads; the command line and the page only show them, so that all three say the same.

mod computed;
pub mod documents;
mod evidence;
mod explain;
mod replay;
mod sync;
mod text;
mod timeline;

pub use computed::{computed_for_pods, computed_for_total, metric_of};
pub use evidence::Evidence;
pub use explain::{Unexplained, explain};
pub use timeline::timeline;

/// The API group.
pub const GROUP: &str = "view.meshmeter.io";

/// Its only version.
pub const VERSION: &str = "v1";
