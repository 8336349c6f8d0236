mod clock;
mod hot_restart;
mod limits;
mod model;
mod reading;
mod sidecar;
mod state;
mod totals;
