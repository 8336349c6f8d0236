//! The store against a naive model: a sidecar that restarts and reconnects, over a network that
//! delays, doubles, loses and reorders frames.

use std::time::Duration;

use proptest::prelude::*;

use super::sidecar::{Sidecar, at, inbound, rate, read, store, total};
use crate::history::float;
use crate::query::{Metric, MetricQuery, WINDOWS, WindowChoice};
use crate::report::Report;
use crate::store::Link;
use common_time::Monotonic;

#[derive(Clone, Copy, Debug)]
enum Event {
    /// So many requests come, and some milliseconds pass.
    Requests(u64, u64),
    /// The sidecar reports; the frame is under way.
    Report,
    /// One of the frames that ever were under way arrives, chosen by the number; others do not, or
    /// did before.
    Arrive(usize),
    /// The stream breaks and another is opened.
    Reconnect,
    Restart,
}

/// A frame on its way: on which stream, of which instance.
struct Frame {
    link: usize,
    instance: u64,
    total: u64,
    report: Report,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0u64..500, 1u64..2500).prop_map(|(n, ms)| Event::Requests(n, ms)),
        4 => Just(Event::Report),
        5 => (0usize..1000).prop_map(Event::Arrive),
        1 => Just(Event::Reconnect),
        1 => Just(Event::Restart),
    ]
}

fn adaptive() -> MetricQuery {
    MetricQuery {
        metric: Metric::RequestsPerSecond,
        direction: None,
        cluster: None,
        code_class: None,
        window: WindowChoice::Adaptive,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Whatever happens to the frames: the total is the highest that any frame of the newest
    /// instance reported, and no rate exceeds all reported requests.
    #[test]
    fn totals_equal_the_highest_reported(
        events in prop::collection::vec(event(), 1..80),
        skew in -10_000_000i64..10_000_000,
    ) {
        let store = store();
        let mut now = at(0);
        let mut sidecar = Sidecar::new("jazz", 1).skewed(skew);
        let mut links: Vec<Link> = vec![sidecar.connect(&store, now, 0)];
        let mut frames: Vec<Frame> = Vec::new();
        let (mut count, mut last_report) = (0, now);
        // The newest instance that was heard of, its highest reported total, and of all before
        // it.
        let (mut newest, mut highest, mut before) = (0, None::<u64>, 0);
        for event in events {
            match event {
                Event::Requests(requests, ms) => {
                    count += requests;
                    now = now + Duration::from_millis(ms);
                }
                Event::Report => {
                    let mut report = sidecar.report(now, vec![inbound(count)]);
                    report.seq = frames.len() as u64 + 1;
                    report.interval = now.since(last_report);
                    last_report = now;
                    frames.push(Frame {
                        link: links.len() - 1,
                        instance: sidecar.hello.instance.0,
                        total: count,
                        report,
                    });
                }
                Event::Arrive(number) if !frames.is_empty() => {
                    let frame = &frames[number % frames.len()];
                    let taken = store.apply(now, &links[frame.link], &frame.report).is_ok();
                    // One that is older than another that reports is refused, or takes over when
                    // that is lost.
                    if taken && frame.instance != newest {
                        before += highest.unwrap_or(0);
                        (newest, highest) = (frame.instance, None);
                        let known = frames.iter().filter(|f| f.instance == newest);
                        prop_assert!(known.count() > 0);
                    }
                    if taken {
                        let known = total(&store, now, "jazz");
                        let most = frames.iter().filter(|f| f.instance == newest);
                        let most = most.map(|f| f.total).max();
                        prop_assert!(known >= Some(frame.total) && known <= most);
                        prop_assert!(highest.is_none() || known == highest.max(Some(frame.total)));
                        highest = known;
                    }
                }
                Event::Arrive(_) => {}
                Event::Reconnect => {
                    store.disconnect(now, &links[links.len() - 1]);
                    links.push(sidecar.connect(&store, now, links.len() as u64));
                }
                Event::Restart => {
                    now = now + Duration::from_millis(1);
                    store.disconnect(now, &links[links.len() - 1]);
                    let instance = sidecar.hello.instance.0 + 1;
                    sidecar = Sidecar::new("jazz", instance).skewed(skew).started(now);
                    links.push(sidecar.connect(&store, now, links.len() as u64));
                    (count, last_report) = (0, now);
                }
            }
            if let Ok(reading) = read(&store, now, "jazz", &adaptive()) {
                let requests = float(reading.value.0) / 1000.0 * reading.window.as_secs_f64();
                let reported = float(before + highest.unwrap_or(0));
                prop_assert!(requests <= reported + 0.1, "{requests} of {reported}");
                prop_assert!(reading.timestamp <= now);
            }
        }
    }

    /// Reports that arrive as they are sent: each window holds exactly the requests of its seconds,
    /// also across restarts, whatever the delay of frames and the difference of clocks.
    #[test]
    fn rates_are_exact(
        seconds in prop::collection::vec((0u64..2000, 0u64..300, prop::bool::weighted(0.03)), 3..150),
        skew in -10_000_000i64..10_000_000,
    ) {
        let store = store();
        let mut sidecar = Sidecar::new("jazz", 1).skewed(skew);
        let mut link = sidecar.connect(&store, at(0), 0);
        let (mut count, mut total) = (0, 0);
        // How many requests there were up to each second since the start.
        let mut sums = vec![0];
        for (second, (requests, delay, restart)) in (1u64..).zip(&seconds) {
            let end = at(second * 1000);
            count += requests;
            total += requests;
            sums.push(total);
            let report = sidecar.report(end, vec![inbound(count)]);
            let arrival = end + Duration::from_millis(*delay);
            store.apply(arrival, &link, &report).unwrap();
            if second >= 2 {
                for length in WINDOWS {
                    let reading = read(&store, arrival, "jazz", &rate(length.as_secs())).unwrap();
                    check(&sums, &reading, arrival)?;
                }
            }
            if *restart {
                store.disconnect(arrival, &link);
                let instance = sidecar.hello.instance.0 + 1;
                sidecar = Sidecar::new("jazz", instance).skewed(skew).started(end);
                link = sidecar.connect(&store, arrival, second);
                count = 0;
            }
        }
    }
}

/// The reading holds the requests of exactly its own window, up to rounding and the shift of the
/// clocks by the quickest frame's way, at most 300 ms.
fn check(
    sums: &[u64],
    reading: &crate::query::Reading,
    now: Monotonic,
) -> Result<(), TestCaseError> {
    let until = |time: Monotonic| -> (u64, u64) {
        let ms = time.since(at(0)).as_millis();
        let second = |ms: u128| sums[usize::try_from(ms / 1000).unwrap().min(sums.len() - 1)];
        (second(ms.saturating_sub(1300)), second(ms + 1300))
    };
    prop_assert!(reading.timestamp <= now);
    let start = reading.timestamp.before(reading.window);
    let (start, end) = (until(start), until(reading.timestamp));
    let requests = float(reading.value.0) / 1000.0 * reading.window.as_secs_f64();
    let slack = 0.1;
    prop_assert!(requests + slack >= float(end.0.saturating_sub(start.1)));
    prop_assert!(requests - slack <= float(end.1.saturating_sub(start.0)));
    Ok(())
}
