//! What one pod has to say to a query.

use std::time::Duration;

use crate::query::{Metric, MetricQuery, Milli, NoValue};
use crate::series::{CodeClass, Direction, SeriesKey};
use crate::status::PodState;
use crate::store::counter::Counter;
use crate::store::instance::Newest;
use crate::store::pod_record::PodRecord;
use crate::store::tally::Tally;
use crate::window::{AGES, Counts, Profile};
use common_time::Monotonic;

/// The filter counts under this cluster what is beyond its limit of series.
const CLUSTER_OVERFLOW: &str = "other";

/// One pod's values in several windows that all end at `until`.
#[derive(Debug)]
pub(super) struct PodWindows {
    pub(super) until: Monotonic,
    /// How the report came that told of `until`.
    pub(super) newest: Newest,
    pub(super) held: bool,
    /// In the order of the windows asked for.
    windows: Vec<PodWindow>,
}

/// One pod's value in one window.
#[derive(Clone, Copy, Debug)]
struct PodWindow {
    covered: Duration,
    /// Increase of what was asked for: events, or nanoseconds times requests.
    increase: f64,
    /// Events by which the window is chosen.
    events: f64,
}

/// What a pod has to say in the chosen window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Value {
    pub(super) number: Milli,
    /// Events by which the window was chosen.
    pub(super) events: Milli,
    /// The length the window truly covers.
    pub(super) covered: Duration,
}

#[derive(Clone, Copy, Debug)]
enum Counted {
    Requests,
    UpstreamAttempts,
    Responses(CodeClass),
    Completions,
    /// Responses of the classes that are errors.
    Errors,
    InflightNs,
}

/// Reads `query` of `pod` in windows of each of `lengths`, and adds its past to `profile` if that
/// is wanted.
pub(super) fn read(
    pod: &PodRecord,
    now: Monotonic,
    query: &MetricQuery,
    lengths: &[Duration],
    profile: Option<&mut Profile>,
) -> Result<PodWindows, NoValue> {
    let state = pod.state(now);
    if pod.current().next().is_none() {
        let connected = pod.instances.iter().any(|i| i.stream.is_some());
        return Err(if connected {
            NoValue::New
        } else {
            NoValue::NeverReported
        });
    }
    match state {
        PodState::Gone => return Err(NoValue::Gone),
        _ if pod.has_rivals(now) => return Err(NoValue::HotRestart),
        PodState::New => return Err(NoValue::New),
        PodState::Live | PodState::Held => {}
    }
    if pod.vms.1 < pod.vms.0 {
        return Err(NoValue::VmLost);
    }
    if pod.current().any(|instance| instance.incomplete) {
        return Err(NoValue::Refused);
    }
    let counted = counted(query)?;
    if !is_counted(pod, query, counted) {
        return Err(NoValue::NotCounted);
    }
    let (until, newest) = pod.newest(now).ok_or(NoValue::New)?;
    let windows = lengths
        .iter()
        .map(|length| window(pod, query, counted, until, *length))
        .collect::<Option<_>>()
        .ok_or(NoValue::New)?;
    if let Some(profile) = profile {
        let known_from = pod.known_from().ok_or(NoValue::New)?;
        let counts = counts(pod, query, counted.events(), until);
        profile.add(until.since(known_from).as_secs_f64(), &counts);
    }
    Ok(PodWindows {
        until,
        newest,
        held: state == PodState::Held,
        windows,
    })
}

/// Reads `query` of `pod` in the window of `length` that ends at `until`, if all of it is known.
pub(super) fn read_at(
    pod: &PodRecord,
    until: Monotonic,
    length: Duration,
    query: &MetricQuery,
) -> Option<Milli> {
    let counted = counted(query).ok()?;
    if !is_counted(pod, query, counted) {
        return None;
    }
    let window = window(pod, query, counted, until, length)?;
    let windows = PodWindows {
        until,
        newest: Newest {
            interval: length,
            arrived: until,
        },
        held: false,
        windows: vec![window],
    };
    let whole = window.covered >= length;
    whole
        .then(|| windows.value(0, query.metric))?
        .map(|value| value.number)
}

// === impl PodWindows ===

impl PodWindows {
    /// Events in each window, by which one is chosen.
    pub(super) fn events(&self) -> impl Iterator<Item = f64> {
        self.windows.iter().map(|window| window.events)
    }

    /// The value in the window at `index`; `None` for a ratio of nothing.
    pub(super) fn value(&self, index: usize, metric: Metric) -> Option<Value> {
        let window = self.windows[index];
        let per_second = window.increase / window.covered.as_secs_f64();
        let value = match metric {
            Metric::RequestsPerSecond
            | Metric::UpstreamRequestsPerSecond
            | Metric::ResponsesPerSecond => per_second,
            Metric::InflightRequests => per_second / 1e9,
            Metric::ErrorRatio if window.events > 0.0 => {
                (window.increase / window.events).clamp(0.0, 1.0)
            }
            Metric::ErrorRatio => return None,
        };
        Some(Value {
            number: milli(value),
            events: milli(window.events),
            covered: window.covered,
        })
    }
}

// === impl Counted ===

impl Counted {
    /// The one counter of this kind; for kinds that are sums, `None`.
    fn of(self, tally: &Tally) -> Option<&Counter> {
        match self {
            Self::Requests => tally.requests.as_ref(),
            Self::UpstreamAttempts => tally.upstream_attempts.as_ref(),
            Self::InflightNs => tally.inflight_ns.as_ref(),
            Self::Responses(_) | Self::Completions | Self::Errors => None,
        }
    }

    /// True for classes of responses that this kind counts.
    fn takes(self, class: CodeClass) -> bool {
        match self {
            Self::Responses(wanted) => wanted == class,
            Self::Completions => true,
            Self::Errors => matches!(class, CodeClass::ServerError | CodeClass::None),
            Self::Requests | Self::UpstreamAttempts | Self::InflightNs => false,
        }
    }

    /// True if the sidecar counts this in the series: a class without responses is counted where
    /// any class is, and where nothing could have been answered yet.
    fn is_in(self, tally: &Tally) -> bool {
        match self {
            Self::Responses(_) | Self::Completions | Self::Errors => {
                tally.responses().next().is_some()
                    || tally.requests.as_ref().is_some_and(|r| r.total() == 0)
            }
            other => other.of(tally).is_some(),
        }
    }

    /// The events by which a window of this kind is chosen.
    fn events(self) -> Self {
        match self {
            Self::InflightNs => Self::Requests,
            Self::Errors => Self::Completions,
            other => other,
        }
    }

    /// The counters of this kind in the series.
    fn counters(self, tally: &Tally) -> impl Iterator<Item = &Counter> {
        let responses = tally.responses();
        let taken = responses.filter(move |(class, _)| self.takes(*class));
        taken.map(|(_, counter)| counter).chain(self.of(tally))
    }

    /// True if this is what requests were answered.
    fn is_response(self) -> bool {
        matches!(self, Self::Responses(_) | Self::Completions | Self::Errors)
    }

    /// By how much this rose in the series from `start` to `until`.
    fn increase(self, tally: &Tally, start: Monotonic, until: Monotonic) -> f64 {
        self.counters(tally)
            .map(|counter| counter.history.increase(start, until))
            .sum()
    }
}

fn counted(query: &MetricQuery) -> Result<Counted, NoValue> {
    match (query.metric, query.code_class) {
        (Metric::RequestsPerSecond, None) => Ok(Counted::Requests),
        (Metric::RequestsPerSecond | Metric::ResponsesPerSecond, Some(class)) => {
            Ok(Counted::Responses(class))
        }
        (Metric::UpstreamRequestsPerSecond, None) => Ok(Counted::UpstreamAttempts),
        (Metric::InflightRequests, None) => Ok(Counted::InflightNs),
        (Metric::ResponsesPerSecond, None) => Ok(Counted::Completions),
        (Metric::ErrorRatio, None) => Ok(Counted::Errors),
        // Neither attempts nor requests in flight are told apart by how they ended, and a ratio is
        // one of all.
        (_, Some(_)) => Err(NoValue::NotCounted),
    }
}

fn matches(query: &MetricQuery, key: &SeriesKey) -> bool {
    is_on_side(query, key)
        && query
            .cluster
            .as_ref()
            .is_none_or(|cluster| *cluster == key.cluster)
}

fn is_on_side(query: &MetricQuery, key: &SeriesKey) -> bool {
    let direction = match query.metric {
        Metric::UpstreamRequestsPerSecond => query.direction,
        _ => query.direction.or(Some(Direction::Inbound)),
    };
    direction.is_none_or(|direction| direction == key.direction)
}

/// True if the pod's sidecar counts what is asked for, so that no increase means 0.
fn is_counted(pod: &PodRecord, query: &MetricQuery, counted: Counted) -> bool {
    let series = || pod.current().flat_map(|instance| &instance.series);
    let mut matching = series().filter(|(key, _)| matches(query, key)).peekable();
    if matching.peek().is_some() {
        return matching.any(|(_, tally)| counted.is_in(tally));
    }
    if query.cluster.is_some() {
        let mut on_side = series()
            .filter(|(key, _)| is_on_side(query, key))
            .peekable();
        let told_apart = |key: &SeriesKey| !matches!(&*key.cluster, "" | CLUSTER_OVERFLOW);
        // Where clusters are not told apart, or some went under in the overflow, there is no
        // telling.
        if on_side.peek().is_some() && !on_side.all(|(key, _)| told_apart(key)) {
            return false;
        }
    }
    series().next().is_none() || series().any(|(_, tally)| counted.is_in(tally))
}

/// What matches the query, of instances that were replaced too. Envoy's metrics service tells the
/// responses of a listener and of the cluster behind it: those are the same requests, and who names
/// no cluster means the listener's.
fn tallies<'a>(
    pod: &'a PodRecord,
    query: &'a MetricQuery,
    counted: Counted,
) -> impl Iterator<Item = &'a Tally> {
    let matching = || {
        let series = pod.instances.iter().flat_map(|i| &i.series);
        let matching = series.filter(|(key, _)| matches(query, key));
        matching.map(|(_, tally)| tally)
    };
    let of_listener = counted.is_response() && matching().any(|tally| tally.requests.is_some());
    matching().filter(move |tally| !of_listener || tally.requests.is_some())
}

/// How much was counted since each of [`AGES`] before `until`.
fn counts(pod: &PodRecord, query: &MetricQuery, counted: Counted, until: Monotonic) -> Counts {
    let mut counts = [0.0; AGES.len()];
    for tally in tallies(pod, query, counted) {
        for counter in counted.counters(tally) {
            counter.history.add_since(until, &AGES, &mut counts);
        }
    }
    counts
}

fn window(
    pod: &PodRecord,
    query: &MetricQuery,
    counted: Counted,
    until: Monotonic,
    length: Duration,
) -> Option<PodWindow> {
    let start = pod.window_start(until, length)?;
    let sum = |counted: Counted| -> f64 {
        tallies(pod, query, counted)
            .map(|tally| counted.increase(tally, start, until))
            .sum()
    };
    let increase = sum(counted);
    let events = match counted {
        Counted::InflightNs | Counted::Errors => sum(counted.events()),
        _ => increase,
    };
    Some(PodWindow {
        covered: until.since(start),
        increase,
        events,
    })
}

/// `value` in thousandths, rounded to the nearest.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates, and increases are finite and never negative"
)]
fn milli(value: f64) -> Milli {
    Milli((value * 1000.0).round() as u64)
}
