//! Reads a query of one pod.

use std::time::Duration;

use crate::history::DEPTH;
use crate::query::{Metric, MetricQuery, Milli, NoValue};
use crate::series::{CodeClass, Direction, SeriesKey};
use crate::status::PodState;
use crate::store::counter::Counter;
use crate::store::instance::NewestReport;
use crate::store::pod_record::PodRecord;
use crate::store::tally::Tally;
use crate::window::{AGES, Counts, Profile};
use common_time::Monotonic;

/// The cluster under which the filter counts requests beyond its limit of series.
const CLUSTER_OVERFLOW: &str = "other";

/// One pod's values in several windows that all end at `until`.
#[derive(Debug)]
pub(super) struct PodWindows {
    pub(super) until: Monotonic,
    /// The report that ends at `until`.
    pub(super) newest: NewestReport,
    pub(super) held: bool,
    /// In the order of the requested lengths.
    windows: Vec<PodWindow>,
}

/// One pod's value in one window.
#[derive(Clone, Copy, Debug)]
struct PodWindow {
    covered: Duration,
    /// Increase of the queried counter: events, or nanoseconds times requests.
    increase: f64,
    /// Events by which the window is chosen.
    events: f64,
}

/// One pod's value in the chosen window.
#[derive(Clone, Copy, Debug)]
pub(super) struct Value {
    pub(super) number: Milli,
    /// Events by which the window was chosen.
    pub(super) events: Milli,
    /// Time the window covers.
    pub(super) covered: Duration,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum CounterKind {
    Requests,
    UpstreamAttempts,
    Responses(CodeClass),
    Completions,
    /// Responses of the classes that are errors.
    Errors,
    InflightNs,
}

/// Reads `query` of `pod` in windows of each of `lengths`, and adds the pod's history to `profile`.
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
        // Before `New`: with two processes the covered time restarts, and "new" would hide why.
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
    let kind = counter_kind(query)?;
    if !is_counted(pod, query, kind) {
        return Err(NoValue::NotCounted);
    }
    let (until, newest) = pod.newest(now).ok_or(NoValue::New)?;
    let windows = lengths
        .iter()
        .map(|length| window(pod, query, kind, until, *length))
        .collect::<Option<_>>()
        .ok_or(NoValue::New)?;
    if let Some(profile) = profile {
        let known_from = pod.known_from().ok_or(NoValue::New)?;
        let counts = counts(pod, query, kind.events(), until);
        profile.add(until.since(known_from).as_secs_f64(), &counts);
    }
    Ok(PodWindows {
        until,
        newest,
        held: state == PodState::Held,
        windows,
    })
}

/// Reads `query` of `pod` in the window of `length` that ends at `until`, if reports cover it all.
pub(super) fn read_at(
    pod: &PodRecord,
    until: Monotonic,
    length: Duration,
    query: &MetricQuery,
) -> Option<Milli> {
    let kind = counter_kind(query).ok()?;
    if !is_counted(pod, query, kind) {
        return None;
    }
    let window = window(pod, query, kind, until, length)?;
    let whole = window.covered >= length;
    whole
        .then(|| window.value(query.metric))?
        .map(|value| value.number)
}

/// Reads `query` of `pod` in `count` adjoining windows of `length`, the last of which ends at
/// `end`, the oldest first; `None` where reports do not cover one. One pass over each history,
/// however many windows there are: the pod is locked meanwhile.
pub(super) fn read_adjoining(
    pod: &PodRecord,
    end: Monotonic,
    length: Duration,
    count: u32,
    query: &MetricQuery,
) -> Vec<Option<Milli>> {
    let mut values = vec![None; count as usize];
    let (Ok(kind), Some(reported)) = (counter_kind(query), pod.reported_until()) else {
        return values;
    };
    if !is_counted(pod, query, kind) {
        return values;
    }
    let ages = (0..=count).rev();
    let bounds: Vec<_> = ages.map(|age| end.before(length * age)).collect();
    let rises = |kind: CounterKind| {
        let mut rises = vec![0.0; count as usize];
        for counter in tallies(pod, query, kind).flat_map(|tally| kind.counters(tally)) {
            counter.history.add_rises(&bounds, &mut rises);
        }
        rises
    };
    let increases = rises(kind);
    let events = (kind.events() != kind).then(|| rises(kind.events()));
    for (index, (value, bounds)) in values.iter_mut().zip(bounds.windows(2)).enumerate() {
        let (from, until) = (bounds[0], bounds[1]);
        if reported < until || from < reported.before(DEPTH) {
            continue;
        }
        let window = if pod.window_start(until, length) == Some(from) {
            Some(PodWindow {
                covered: until.since(from),
                increase: increases[index],
                events: events.as_ref().unwrap_or(&increases)[index],
            })
        } else {
            window(pod, query, kind, until, length)
        };
        let whole = window.filter(|window| window.covered >= length);
        let read = whole.and_then(|window| window.value(query.metric));
        *value = read.map(|read| read.number);
    }
    values
}

// === impl PodWindows ===

impl PodWindows {
    /// Events in each window, by which the window is chosen.
    pub(super) fn events(&self) -> impl Iterator<Item = f64> {
        self.windows.iter().map(|window| window.events)
    }

    /// The value in the window at `index`; `None` for a ratio without requests.
    pub(super) fn value(&self, index: usize, metric: Metric) -> Option<Value> {
        self.windows[index].value(metric)
    }
}

// === impl PodWindow ===

impl PodWindow {
    /// `None` for a ratio without requests.
    fn value(self, metric: Metric) -> Option<Value> {
        let per_second = self.increase / self.covered.as_secs_f64();
        let value = match metric {
            Metric::RequestsPerSecond
            | Metric::UpstreamRequestsPerSecond
            | Metric::ResponsesPerSecond => per_second,
            // Nanoseconds times requests, per second: the average over time.
            Metric::InflightRequests => per_second / 1e9,
            Metric::ErrorRatio if self.events > 0.0 => {
                (self.increase / self.events).clamp(0.0, 1.0)
            }
            Metric::ErrorRatio => return None,
        };
        Some(Value {
            number: milli(value),
            events: milli(self.events),
            covered: self.covered,
        })
    }
}

// === impl Counted ===

impl CounterKind {
    /// The counter of this kind; `None` for kinds that are sums of classes.
    fn of(self, tally: &Tally) -> Option<&Counter> {
        match self {
            Self::Requests => tally.requests.as_ref(),
            Self::UpstreamAttempts => tally.upstream_attempts.as_ref(),
            Self::InflightNs => tally.inflight_ns.as_ref(),
            Self::Responses(_) | Self::Completions | Self::Errors => None,
        }
    }

    /// True for classes of responses that this kind includes.
    fn includes(self, class: CodeClass) -> bool {
        match self {
            Self::Responses(wanted) => wanted == class,
            Self::Completions => true,
            Self::Errors => matches!(class, CodeClass::ServerError | CodeClass::None),
            Self::Requests | Self::UpstreamAttempts | Self::InflightNs => false,
        }
    }

    /// True if the sidecar counts this kind in the series.
    fn is_counted_in(self, tally: &Tally) -> bool {
        match self {
            // A class appears with its first response, so any class, or no request at all, shows
            // that responses are counted.
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
        let taken = responses.filter(move |(class, _)| self.includes(*class));
        taken.map(|(_, counter)| counter).chain(self.of(tally))
    }

    /// True for kinds that count responses.
    fn is_response(self) -> bool {
        matches!(self, Self::Responses(_) | Self::Completions | Self::Errors)
    }

    /// Increase in the series from `start` to `until`.
    fn increase(self, tally: &Tally, start: Monotonic, until: Monotonic) -> f64 {
        self.counters(tally)
            .map(|counter| counter.history.increase(start, until))
            .sum()
    }
}

fn counter_kind(query: &MetricQuery) -> Result<CounterKind, NoValue> {
    match (query.metric, query.code_class) {
        (Metric::RequestsPerSecond, None) => Ok(CounterKind::Requests),
        (Metric::RequestsPerSecond | Metric::ResponsesPerSecond, Some(class)) => {
            Ok(CounterKind::Responses(class))
        }
        (Metric::UpstreamRequestsPerSecond, None) => Ok(CounterKind::UpstreamAttempts),
        (Metric::InflightRequests, None) => Ok(CounterKind::InflightNs),
        (Metric::ResponsesPerSecond, None) => Ok(CounterKind::Completions),
        (Metric::ErrorRatio, None) => Ok(CounterKind::Errors),
        // Attempts and requests in flight are not counted by class, and a ratio covers all classes.
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

/// True if the pod's sidecar counts `kind`, so that no increase means 0.
fn is_counted(pod: &PodRecord, query: &MetricQuery, kind: CounterKind) -> bool {
    let series = || pod.current().flat_map(|instance| &instance.series);
    let mut matching = series().filter(|(key, _)| matches(query, key)).peekable();
    if matching.peek().is_some() {
        return matching.any(|(_, tally)| kind.is_counted_in(tally));
    }
    if query.cluster.is_some() {
        let mut on_side = series()
            .filter(|(key, _)| is_on_side(query, key))
            .peekable();
        let has_own_series = |key: &SeriesKey| !matches!(&*key.cluster, "" | CLUSTER_OVERFLOW);
        // A cluster without a series had no requests, unless they may be in a series for all
        // clusters or in the overflow.
        if on_side.peek().is_some() && !on_side.all(|(key, _)| has_own_series(key)) {
            return false;
        }
    }
    series().next().is_none() || series().any(|(_, tally)| kind.is_counted_in(tally))
}

/// Tallies that match the query, those of replaced instances included.
fn tallies<'a>(
    pod: &'a PodRecord,
    query: &'a MetricQuery,
    kind: CounterKind,
) -> impl Iterator<Item = &'a Tally> {
    let matching = || {
        let series = pod.instances.iter().flat_map(|i| &i.series);
        let matching = series.filter(|(key, _)| matches(query, key));
        matching.map(|(_, tally)| tally)
    };
    // Envoy's metrics service reports the responses of a listener and of the cluster behind it: the
    // same requests, to be counted once. Only a listener's series has `requests`.
    let of_listener = kind.is_response() && matching().any(|tally| tally.requests.is_some());
    matching().filter(move |tally| !of_listener || tally.requests.is_some())
}

/// Increases since each of [`AGES`] before `until`.
fn counts(pod: &PodRecord, query: &MetricQuery, kind: CounterKind, until: Monotonic) -> Counts {
    let mut counts = [0.0; AGES.len()];
    for tally in tallies(pod, query, kind) {
        for counter in kind.counters(tally) {
            counter.history.add_since(until, &AGES, &mut counts);
        }
    }
    counts
}

fn window(
    pod: &PodRecord,
    query: &MetricQuery,
    kind: CounterKind,
    until: Monotonic,
    length: Duration,
) -> Option<PodWindow> {
    let start = pod.window_start(until, length)?;
    let sum = |kind: CounterKind| -> f64 {
        tallies(pod, query, kind)
            .map(|tally| kind.increase(tally, start, until))
            .sum()
    };
    let increase = sum(kind);
    let events = if kind.events() == kind {
        increase
    } else {
        sum(kind.events())
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
