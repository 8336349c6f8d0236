//! meshmeter, djapp and an autoscaler in any cluster, under load, while things go wrong.
//!
//! ```text
//! images -> install -> scenarios: load (dj) -> sidecar -> jazz
//!                       │  watch: metrics API, /debug/pods, last words of applications
//!                       └ rows: sent, answered, counted by applications and by meshmeter (ledger)
//! ```

pub mod api;
pub mod images;
pub mod install;
pub mod ledger;
pub mod names;
pub mod rig;
pub mod row;
pub mod scenarios;
pub mod watch;
