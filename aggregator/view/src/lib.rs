//! The documents of the API group `view.meshmeter.io`: what the command line and the page show.
//!
//! Pure: no clock, no I/O. The server fills the documents from the store, the directory and the
//! ledger of reads; the command line and the page only show them, so that all three say the same.

pub mod documents;

/// The API group.
pub const GROUP: &str = "view.meshmeter.io";

/// Its only version.
pub const VERSION: &str = "v1";
