//! gRPC in: reads what sidecars stream, checks it once, and applies it to the store.

pub mod limits;
mod server;

pub use limits::Limits;
pub use server::{ServeError, Server};
