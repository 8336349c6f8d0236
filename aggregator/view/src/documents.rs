//! What the API group serves, as JSON. Times are milliseconds since 1970, rates are per second.
//!
//! | Path below `/apis/view.meshmeter.io/v1` | Document |
//! |---|---|
//! | `/pods`, `/namespaces/NS/pods` | [`List`] of [`Pod`] |
//! | `/workloads`, `/services`, also in a namespace; `/namespaces` | [`List`] of [`Group`] |
//! | `/namespaces/NS/reads` | [`List`] of [`Read`] |
//! | `/namespaces/NS/explanations/HPA` | [`Explanation`] |
//! | `/namespaces/NS/timelines/HPA` | [`Timeline`] |
//! | `/health` | [`Health`] |

mod explanation;
mod health;
mod list;
mod read;
mod timeline;
mod traffic;

pub use explanation::{Explanation, MetricExplanation, Step};
pub use health::{Certificate, Health, RemoteWrite, Replica, SidecarVersion, Uncounted};
pub use list::{List, ListMeta, ReplicaAnswer};
pub use read::{Change, PodRead, Read, ReadSource};
pub use timeline::{Entry, EntryKind, Reaction, Timeline};
pub use traffic::{Group, GroupKind, HpaState, Pod, Rates, Workload};
