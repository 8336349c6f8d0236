//! Container images written without a container engine, and without an image beneath them.
//!
//! [`layer`] makes a layer of files, [`image`] a manifest of a layer, [`layout`] an OCI layout of
//! images, as a folder or as an archive that docker loads too. Those are pure: the same input gives
//! the same bytes. [`compile`] builds what [`contents`] puts into our three images, [`started`]
//! starts it, and [`twice`] does all of that two times, elsewhere, and compares.

pub mod compile;
pub mod contents;
pub mod digest;
pub mod image;
pub mod layer;
pub mod layout;
pub mod paths;
pub mod program;
pub mod roots;
pub mod sbom;
pub mod started;
pub mod twice;
