//! What a query gives: which series count for it, in which window, and what is not counted.

use super::sidecar::{Sidecar, at, fixed, inbound, key, rate, read, requests, store, value};
use crate::pod::PodKey;
use crate::query::{Metric, MetricQuery, NoValue, WindowChoice};
use crate::report::{ResponseCode, SeriesTotals};
use crate::series::{CodeClass, Direction, SeriesKey};
use crate::store::Store;

const WINDOW: std::time::Duration = std::time::Duration::from_secs(2);

/// A pod seen for ten seconds in which each of `series` rose evenly to what it says.
fn pod(store: &Store, name: &str, series: &[(SeriesKey, SeriesTotals)]) {
    let sidecar = Sidecar::new(name, 1);
    let link = sidecar.connect(store, at(0), 1);
    let report = sidecar.report(at(10_000), series.to_vec());
    store.apply(at(10_000), &link, &report).unwrap();
}

fn responses(total: u64, codes: &[(u32, u64)]) -> SeriesTotals {
    let code = |(code, total): &(u32, u64)| (ResponseCode::new(*code).unwrap(), *total);
    SeriesTotals {
        responses: codes.iter().map(code).collect(),
        ..requests(total)
    }
}

/// Requests are inbound unless the query says otherwise; attempts are of both sides.
#[test]
fn default_directions() {
    let store = store();
    let both = |requests, attempts| SeriesTotals {
        requests: Some(requests),
        upstream_attempts: Some(attempts),
        ..SeriesTotals::default()
    };
    pod(
        &store,
        "jazz",
        &[
            (key(Direction::Inbound, ""), both(100, 110)),
            (key(Direction::Outbound, "metal"), both(20, 30)),
        ],
    );
    let read = |metric, direction| {
        let query = MetricQuery {
            direction,
            ..fixed(metric, 60)
        };
        value(read(&store, at(10_000), "jazz", &query)).map(|(value, _)| value)
    };
    let (requests, attempts) = (Metric::RequestsPerSecond, Metric::UpstreamRequestsPerSecond);
    assert_eq!(read(requests, None), Ok(10_000));
    assert_eq!(read(requests, Some(Direction::Outbound)), Ok(2000));
    assert_eq!(read(attempts, None), Ok(14_000));
    assert_eq!(read(attempts, Some(Direction::Inbound)), Ok(11_000));
    assert_eq!(
        read(Metric::InflightRequests, None),
        Err(NoValue::NotCounted)
    );
}

/// Requests in flight are averaged over the window by their integral.
#[test]
fn inflight_is_time_weighted() {
    let store = store();
    let totals = SeriesTotals {
        inflight: Some(9),
        inflight_ns: Some(25_000_000_000),
        ..requests(100)
    };
    pod(&store, "jazz", &[(key(Direction::Inbound, ""), totals)]);
    let query = fixed(Metric::InflightRequests, 60);
    assert_eq!(
        value(read(&store, at(10_000), "jazz", &query)),
        Ok((2500, 10_000))
    );
}

/// A selector for a cluster: its own rate where requests are counted by cluster, 0 for one without
/// requests, and no number where there is no telling.
#[test]
fn clusters() {
    let store = store();
    let (a, b) = (key(Direction::Outbound, "a"), key(Direction::Outbound, "b"));
    pod(
        &store,
        "apart",
        &[(a.clone(), requests(100)), (b, requests(50))],
    );
    let other = key(Direction::Outbound, "other");
    pod(
        &store,
        "spilled",
        &[(a, requests(100)), (other, requests(9))],
    );
    let all = key(Direction::Outbound, "");
    pod(&store, "together", &[(all, requests(100))]);
    let read = |pod: &str, cluster: &str| {
        let query = MetricQuery {
            direction: Some(Direction::Outbound),
            cluster: Some(cluster.into()),
            ..rate(60)
        };
        value(read(&store, at(10_000), pod, &query)).map(|(value, _)| value)
    };
    assert_eq!(read("apart", "a"), Ok(10_000));
    assert_eq!(read("apart", "b"), Ok(5000));
    assert_eq!(read("apart", "c"), Ok(0));
    assert_eq!(read("spilled", "a"), Ok(10_000));
    assert_eq!(read("spilled", "c"), Err(NoValue::NotCounted));
    assert_eq!(read("together", "a"), Err(NoValue::NotCounted));
}

/// Responses by class: a class without responses is 0 where responses are counted, and no number
/// where not.
#[test]
fn code_classes() {
    let store = store();
    let inbound = key(Direction::Inbound, "");
    let codes = responses(100, &[(2, 80), (503, 15), (0, 5)]);
    pod(&store, "counted", &[(inbound.clone(), codes)]);
    pod(&store, "off", &[(inbound.clone(), requests(100))]);
    pod(&store, "idle", &[(inbound, requests(0))]);
    let read = |pod: &str, class, metric| {
        let query = MetricQuery {
            code_class: Some(class),
            ..fixed(metric, 60)
        };
        value(read(&store, at(10_000), pod, &query)).map(|(value, _)| value)
    };
    let requests = Metric::RequestsPerSecond;
    assert_eq!(read("counted", CodeClass::Success, requests), Ok(8000));
    assert_eq!(read("counted", CodeClass::ServerError, requests), Ok(1500));
    assert_eq!(read("counted", CodeClass::None, requests), Ok(500));
    assert_eq!(read("counted", CodeClass::ClientError, requests), Ok(0));
    assert_eq!(
        read("off", CodeClass::Success, requests),
        Err(NoValue::NotCounted)
    );
    assert_eq!(read("idle", CodeClass::Success, requests), Ok(0));
    let attempts = Metric::UpstreamRequestsPerSecond;
    assert_eq!(
        read("counted", CodeClass::Success, attempts),
        Err(NoValue::NotCounted)
    );
}

/// What the sidecar counts on one side only is not made up for the other; a sidecar without any
/// series yet is idle.
#[test]
fn not_counted_is_not_zero() {
    let store = store();
    let attempts = SeriesTotals {
        upstream_attempts: Some(5),
        ..SeriesTotals::default()
    };
    pod(&store, "log", &[(key(Direction::Outbound, "a"), attempts)]);
    pod(&store, "idle", &[]);
    let read = |pod: &str, metric| {
        value(read(&store, at(10_000), pod, &fixed(metric, 60))).map(|(value, _)| value)
    };
    assert_eq!(
        read("log", Metric::RequestsPerSecond),
        Err(NoValue::NotCounted)
    );
    assert_eq!(read("log", Metric::UpstreamRequestsPerSecond), Ok(500));
    assert_eq!(read("idle", Metric::RequestsPerSecond), Ok(0));
}

/// A fixed window is exactly that, up to the longest; the ends of windows are not aligned to
/// anything.
#[test]
fn fixed_windows() {
    let store = store();
    let sidecar = Sidecar::new("jazz", 1);
    let link = sidecar.connect(&store, at(0), 1);
    let mut total = 0;
    for second in 1..=100 {
        total += second;
        sidecar.says(&store, at(second * 1000 + 137), &link, total);
    }
    let now = at(100_500);
    let read = |seconds| value(read(&store, now, "jazz", &rate(seconds)));
    assert_eq!(read(1), Ok((100_000, 1000)));
    assert_eq!(read(2), Ok((99_500, 2000)));
    assert_eq!(read(15), Ok((93_000, 15_000)));
    assert_eq!(read(60), Ok((70_500, 60_000)));
    assert_eq!(read(3600), Ok((70_500, 60_000)));
    assert_eq!(read(0), Ok((100_000, 1000)));
}

/// The adaptive window is chosen for the whole set: a quiet pod is read in the window of its busy
/// neighbours.
#[test]
fn one_window_for_the_set() {
    let store = store();
    for (name, rate) in [("quiet", 1), ("busy", 300)] {
        let sidecar = Sidecar::new(name, 1);
        let link = sidecar.connect(&store, at(0), 1);
        for second in 1..=70 {
            sidecar.says(&store, at(second * 1000), &link, second * rate);
        }
    }
    let query = MetricQuery {
        window: WindowChoice::Adaptive,
        ..rate(1)
    };
    let windows = |names: &[&str]| -> Vec<u64> {
        let pods: Vec<_> = names.iter().map(|n| PodKey::new("prod", n)).collect();
        let answer = store.read(at(70_000), &pods, &query);
        let readings = answer.readings.iter();
        readings.map(|reading| reading.window.as_secs()).collect()
    };
    assert_eq!(windows(&["quiet"]), [60]);
    assert_eq!(windows(&["busy", "quiet"]), [2, 2]);
}

/// Readings and missing pods come in the order they were asked for.
#[test]
fn order_is_kept() {
    let store = store();
    for name in ["b", "a"] {
        pod(&store, name, &[inbound(10)]);
    }
    let pods = ["b", "x", "a", "w"].map(|name| PodKey::new("prod", name));
    let answer = store.read(at(10_000), &pods, &rate(60));
    let found: Vec<_> = answer.readings.iter().map(|r| &*r.pod.name).collect();
    let missing: Vec<_> = answer.missing.iter().map(|(pod, _)| &*pod.name).collect();
    assert_eq!((found, missing), (vec!["b", "a"], vec!["x", "w"]));
}

/// Requests that ended, of every class or of one, and the share of them that failed: 5xx and no
/// response.
#[test]
fn responses_and_their_errors() {
    let store = store();
    let codes = [(200, 60), (404, 20), (503, 15), (0, 5)];
    pod(
        &store,
        "jazz",
        &[(key(Direction::Inbound, ""), responses(100, &codes))],
    );
    pod(
        &store,
        "idle",
        &[(key(Direction::Inbound, ""), requests(0))],
    );
    let read = |name, metric, code_class| {
        let query = MetricQuery {
            code_class,
            ..fixed(metric, 60)
        };
        read(&store, at(10_000), name, &query).map(|reading| (reading.value.0, reading.events.0))
    };
    let responses = Metric::ResponsesPerSecond;
    assert_eq!(read("jazz", responses, None), Ok((10_000, 100_000)));
    let none = Some(CodeClass::None);
    assert_eq!(read("jazz", responses, none), Ok((500, 5_000)));
    assert_eq!(read("idle", responses, None), Ok((0, 0)));
    assert_eq!(read("jazz", Metric::ErrorRatio, None), Ok((200, 100_000)));
    assert_eq!(
        read("idle", Metric::ErrorRatio, None),
        Err(NoValue::NoRequests),
        "a share of nothing is no number"
    );
    assert_eq!(
        read("jazz", Metric::ErrorRatio, none),
        Err(NoValue::NotCounted)
    );
}

/// Those who call a cluster are found by it until they are forgotten; inbound series make no
/// callers.
#[test]
fn callers_by_cluster() {
    let store = store();
    let calls = |cluster| (key(Direction::Outbound, cluster), requests(1));
    pod(&store, "dj", &[calls("jazz"), calls("metal")]);
    pod(
        &store,
        "bard",
        &[calls("jazz"), (key(Direction::Inbound, "own"), requests(1))],
    );
    let (dj, bard) = (PodKey::new("prod", "dj"), PodKey::new("prod", "bard"));
    assert_eq!(store.callers("jazz"), [bard, dj.clone()]);
    assert_eq!(store.callers("metal"), [dj]);
    assert_eq!(store.callers("own"), []);
    let clusters: Vec<_> = store.called_clusters();
    assert_eq!(
        clusters.iter().map(|c| &**c).collect::<Vec<_>>(),
        ["jazz", "metal"]
    );
    let later = at(10_000) + crate::limits::FORGET_AFTER * 2;
    while store.next_expiry().is_some_and(|due| due <= later) {
        store.expire(later);
    }
    assert!(store.called_clusters().is_empty());
}

/// The window before the one served, for comparison; unknown where the pod was not known for so
/// long.
#[test]
fn the_window_before_is_kept() {
    let store = store();
    let sidecar = Sidecar::new("jazz", 1);
    let link = sidecar.connect(&store, at(0), 1);
    for second in 1..=10_u64 {
        // 10 a second for six seconds, then 30.
        let total = 10 * second.min(6) + 30 * second.saturating_sub(6);
        let report = sidecar.report(at(1000 * second), vec![inbound(total)]);
        store.apply(at(1000 * second), &link, &report).unwrap();
    }
    let before = |seconds| {
        let query = fixed(Metric::RequestsPerSecond, seconds);
        let answer = store.read(at(10_000), &[PodKey::new("prod", "jazz")], &query);
        let reading = &answer.readings[0];
        (
            reading.value.0,
            store.read_before(reading, &query).map(|value| value.0),
        )
    };
    assert_eq!(before(4), (30_000, Some(10_000)));
    assert_eq!(before(5), (26_000, Some(10_000)));
    assert_eq!(before(6).1, None, "twelve seconds ago there was no pod");
}

/// A step is seen in a short window, and as long as it is near no later window reaches back over
/// it.
#[test]
fn a_set_that_stepped_grows_its_window_back() {
    let store = store();
    let sidecar = Sidecar::new("jazz", 1);
    let link = sidecar.connect(&store, at(0), 1);
    let mut total = 0;
    let query = MetricQuery {
        window: WindowChoice::Adaptive,
        ..fixed(Metric::RequestsPerSecond, 60)
    };
    let mut windows = Vec::new();
    for second in 1..=110_u64 {
        total += if second <= 70 { 10 } else { 20 };
        let now = at(1000 * second);
        let report = sidecar.report(now, vec![inbound(total)]);
        store.apply(now, &link, &report).unwrap();
        let pods = [PodKey::new("prod", "jazz")];
        let set = store.read(now, &pods, &query);
        if second > 70 {
            windows.push((second - 70, set.readings[0].window.as_secs()));
        }
    }
    let first = windows.iter().position(|(_, window)| *window < 60).unwrap();
    assert!(windows[first].0 <= 7, "{windows:?}");
    let (grows, over) = (&windows[first..], "a window reached back over the step");
    assert!(
        grows.windows(2).all(|pair| pair[0].1 <= pair[1].1),
        "{windows:?}"
    );
    assert!(
        grows
            .iter()
            .all(|(since, window)| *window <= since + 1 || *window == 30),
        "{over}: {windows:?}"
    );
}

/// Whoever reads, however often, changes nothing that others read: replicas that are asked by turns
/// agree.
#[test]
fn a_read_changes_no_other() {
    let query = MetricQuery {
        window: WindowChoice::Adaptive,
        ..rate(1)
    };
    let pods = ["jazz", "folk"].map(|name| PodKey::new("prod", name));
    let run = |seconds: u64, is_asked: bool| {
        let store = store();
        let sidecars = ["jazz", "folk"].map(|name| Sidecar::new(name, 1));
        let links = sidecars.each_ref().map(|of| of.connect(&store, at(0), 1));
        let mut total = 0;
        for second in 1..=seconds {
            // Up, down, up again: windows shrink and grow back.
            total += if (70..80).contains(&second) { 300 } else { 10 };
            let now = at(1000 * second);
            for (sidecar, link) in sidecars.iter().zip(&links) {
                sidecar.says(&store, now, link, total);
            }
            if is_asked {
                for set in [&pods[..], &pods[..1], &pods[1..]] {
                    store.read(now, set, &query);
                }
            }
        }
        store.read(at(1000 * seconds), &pods, &query)
    };
    for seconds in [60, 71, 75, 80, 82, 90, 100, 130] {
        assert_eq!(run(seconds, true), run(seconds, false), "at {seconds} s");
    }
}

/// Envoy's metrics service tells the responses of a listener and those of the clusters behind it.
/// Who asks for the pod's gets the listener's, once; who names a cluster gets its own.
#[test]
fn responses_of_a_cluster_are_not_added_to_those_of_the_listener() {
    let store = store();
    let of_cluster = SeriesTotals {
        requests: None,
        upstream_attempts: Some(100),
        ..responses(0, &[(2, 90), (5, 10)])
    };
    pod(
        &store,
        "jazz",
        &[
            (
                key(Direction::Inbound, ""),
                responses(200, &[(2, 100), (5, 100)]),
            ),
            (key(Direction::Inbound, "cds_ingress_app"), of_cluster),
        ],
    );
    let read = |metric, cluster: Option<&str>| {
        let query = MetricQuery {
            cluster: cluster.map(Into::into),
            ..fixed(metric, 60)
        };
        value(read(&store, at(10_000), "jazz", &query)).map(|(value, _)| value)
    };
    assert_eq!(read(Metric::ResponsesPerSecond, None), Ok(20_000));
    assert_eq!(read(Metric::ErrorRatio, None), Ok(500));
    let cluster = Some("cds_ingress_app");
    assert_eq!(read(Metric::ResponsesPerSecond, cluster), Ok(10_000));
    assert_eq!(read(Metric::ErrorRatio, cluster), Ok(100));
}

/// The last windows one by one: what is not covered is unknown, before the first report and after
/// the last one.
#[test]
fn history_has_gaps_where_nothing_is_known() {
    let store = store();
    let sidecar = Sidecar::new("jazz", 1);
    let link = sidecar.connect(&store, at(0), 1);
    for second in 1..=10 {
        sidecar.says(&store, at(second * 1000), &link, second * second);
    }
    let query = fixed(Metric::RequestsPerSecond, 60);
    let history = |end, count| {
        let values = store.history(&PodKey::new("prod", "jazz"), &query, at(end), WINDOW, count);
        let values = values.into_iter().map(|value| value.map(|milli| milli.0));
        values.collect::<Vec<_>>()
    };
    let increases = |from: u64, to: u64| Some((to * to - from * from) * 500);
    let expected = [None, increases(1, 3), increases(3, 5), increases(5, 7)];
    assert_eq!(history(7_000, 4), expected);
    assert_eq!(history(10_000, 1), [increases(8, 10)]);
    assert_eq!(history(10_001, 1), [None]);
    let unknown = store.history(&PodKey::new("prod", "metal"), &query, at(0), WINDOW, 3);
    assert_eq!(unknown, [None; 3]);
    store.note_build(&PodKey::new("prod", "jazz"), "0.2.0");
    let brief = store
        .brief(at(10_000), &PodKey::new("prod", "jazz"))
        .unwrap();
    assert_eq!((brief.state.as_str(), &*brief.build), ("live", "0.2.0"));
    assert_eq!(store.brief(at(0), &PodKey::new("prod", "metal")), None);
}
