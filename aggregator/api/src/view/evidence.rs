//! Explanations and timelines of autoscalers, derived from what all replicas know.

use std::sync::Arc;
use std::time::Duration;

use aggregator_directory::AutoscalerInfo;
use aggregator_view::{Evidence, Unexplained};
use autoscaler::{Hpa, Source};
use bytes::Bytes;
use common_time::UnixMillis;

use super::reads::Span;
use super::{Views, json};
use crate::form::view::ViewParameters;
use crate::path::VIEW_GROUP;
use crate::status::{Cause, Details, Kind, Reason, Refusal};

/// How far before what can matter for a decision reads are taken: an explanation looks two minutes
/// back for the sync before the time asked for.
const SYNCS_BEFORE: Duration = Duration::from_mins(3);

/// How long after a read its consequence is looked for.
const AFTER: Duration = Duration::from_mins(1);

/// Autoscalers that a refusal names in place of one that does not exist.
const NAMED_MAX: usize = 10;

/// How far back a timeline reaches by default.
const TIMELINE: Duration = Duration::from_hours(1);

// Reasons in `details.causes`, which programs tell apart.

/// The autoscaler does not exist, or autoscalers are not known.
const UNKNOWN_HPA: &str = "UnknownHPA";
/// The specification cannot be read by the arithmetic.
const UNREADABLE: &str = "UnreadableSpec";
/// The ledger does not reach back to the time asked for, or is empty.
const NOT_RECORDED: &str = "NotRecorded";

// === impl Views ===

impl Views {
    pub(super) async fn explanation(
        self: &Arc<Self>,
        namespace: &str,
        name: &str,
        parameters: &ViewParameters,
    ) -> Result<Bytes, Refusal> {
        let (hpa, ours) = self.known(namespace, name)?;
        let now = self.clock.wall();
        let at = parameters.at.map_or(now, UnixMillis);
        if at > now {
            let message = "at: lies in the future; explanations are of what was";
            return Err(Refusal::bad_request(Reason::Query, message));
        }
        let before = hpa.reach() + SYNCS_BEFORE;
        let span = Span::of(namespace, name, at.before(before), at + AFTER);
        let gathered = self.gather(span).await?;
        let explain = move |_: &Self| {
            let evidence = Evidence {
                hpa: &hpa,
                ours: &ours,
                reads: &gathered.reads,
                changes: &gathered.changes,
                replicas: &gathered.replicas,
            };
            let explanation = aggregator_view::explain(&evidence, at.0);
            json(&explanation.map_err(|why| unexplained(&hpa, &why))?)
        };
        self.build(explain).await
    }

    pub(super) async fn timeline(
        self: &Arc<Self>,
        namespace: &str,
        name: &str,
        parameters: &ViewParameters,
    ) -> Result<Bytes, Refusal> {
        let (hpa, ours) = self.known(namespace, name)?;
        let now = self.clock.wall();
        let from = parameters.from.map_or(now.before(TIMELINE), UnixMillis);
        let to = parameters.to.map_or(now, UnixMillis);
        let gathered = self.gather(Span::of(namespace, name, from, to)).await?;
        let timeline = move |_: &Self| {
            let evidence = Evidence {
                hpa: &hpa,
                ours: &ours,
                reads: &gathered.reads,
                changes: &gathered.changes,
                replicas: &gathered.replicas,
            };
            json(&aggregator_view::timeline(&evidence, from.0))
        };
        self.build(timeline).await
    }

    /// The autoscaler, and for each of its metrics whether it is one of ours.
    fn known(&self, namespace: &str, name: &str) -> Result<(Hpa, Vec<bool>), Refusal> {
        let info = self
            .directory
            .autoscaler(namespace, name)
            .ok_or_else(|| self.unknown(namespace, name))?;
        let hpa = specification(&info)?;
        let ours = hpa.metrics.iter().map(|metric| match metric.source {
            Source::Resource | Source::ContainerResource { .. } => false,
            _ => self.names.parse(&metric.name).is_some(),
        });
        let ours = ours.collect();
        Ok((hpa, ours))
    }

    fn unknown(&self, namespace: &str, name: &str) -> Refusal {
        if let Some(why) = (self.settings.autoscalers_fault)() {
            let message = format!(
                "nothing is known of the HorizontalPodAutoscaler {namespace}/{name}: autoscalers cannot be watched: {why}"
            );
            return refusal(name, UNKNOWN_HPA, message);
        }
        let known = self.directory.autoscalers_of(namespace);
        let names: Vec<&str> = known.iter().map(|info| &*info.name).collect();
        let known = match names.as_slice() {
            [] => format!("namespace {namespace} has none"),
            names if names.len() > NAMED_MAX => format!("{namespace} has {} others", names.len()),
            names => format!("{namespace} has {}", names.join(", ")),
        };
        let message = format!("there is no HorizontalPodAutoscaler {namespace}/{name}; {known}");
        refusal(name, UNKNOWN_HPA, message)
    }
}

// === impl Span ===

impl Span {
    fn of(namespace: &str, hpa: &str, from: UnixMillis, to: UnixMillis) -> Self {
        Self {
            namespace: namespace.to_owned(),
            hpa: Some(hpa.to_owned()),
            from: from.0,
            to: to.0,
        }
    }
}

fn specification(info: &AutoscalerInfo) -> Result<Hpa, Refusal> {
    info.spec.clone().map_err(|why| {
        let message = format!(
            "the HorizontalPodAutoscaler {}/{} cannot be explained: {why}",
            info.namespace, info.name
        );
        refusal(&info.name, UNREADABLE, message)
    })
}

fn unexplained(hpa: &Hpa, why: &Unexplained) -> Refusal {
    let reason = match why {
        Unexplained::BeforeLedger { .. } | Unexplained::NoRead { .. } => NOT_RECORDED,
    };
    refusal(&hpa.name, reason, why.to_string())
}

fn refusal(name: &str, reason: &'static str, message: String) -> Refusal {
    let mut refusal = Refusal::new(Kind::NotFound, Reason::NoValue, message.clone());
    refusal.details = Some(Box::new(Details {
        name: name.to_owned(),
        group: VIEW_GROUP.to_owned(),
        kind: "HorizontalPodAutoscaler".to_owned(),
        causes: vec![Cause { reason, message }],
    }));
    refusal
}
