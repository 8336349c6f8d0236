//! The server on loopback. Where time matters it is that of the runtime, which runs ahead when nothing else happens.

mod client;
mod deadlines;
mod head;
mod places;
mod running;
mod security;
