//! Records on disk that outlive a crash: append-only files, called segments, in a folder that one
//! process at a time may use.
//!
//! A record is a [`Header`] with a checksum and a body with another one. A torn record at the end
//! of a segment and damage within it are skipped; what is intact before and behind is found.
//!
//! Every method may block on the disk.

mod folder;
mod header;
mod segment;

pub use folder::{Folder, Names};
pub use header::{HEADER_BYTES, Header};
pub use segment::{Scan, ScanResult, Segment};
