//! Pods with the filter.
//!
//! ```text
//! review (AdmissionReview in, out) -> pod (what is added) -> annotations (App Mesh's own, merged with what is there)
//! ```
//!
//! Pure: no clock, no I/O. What cannot be added to is left as it is, with a warning that whoever applies it reads; a pod is
//! never refused.

pub mod annotations;
pub mod pod;
pub mod review;
