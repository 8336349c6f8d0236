//! Scenarios recorded from Kubernetes, a table of behaviours, properties against a naive model, and
//! wrong arithmetics that the first two must catch.

mod behaviour;
mod faults;
mod pods;
mod properties;
mod recorded;
mod sentences;
mod spec;
