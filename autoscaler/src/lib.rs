//! The arithmetic of the Kubernetes horizontal pod autoscaler (`autoscaling/v2`), as Kubernetes 1.36
//! does it.
//!
//! Pure: what the metrics APIs answered, pods and replicas go in; the wanted replicas come out, with
//! every step that led to them. Tests, explanations and simulations use this one.
