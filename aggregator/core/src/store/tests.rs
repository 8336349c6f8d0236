mod clock;
mod limits;
mod model;
mod reading;
mod sidecar;
mod state;
mod totals;
