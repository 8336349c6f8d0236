//! Schedules are even and bounded; what a load says it wrote is what arrived.

use std::net::Ipv4Addr;

use super::*;
use crate::djapp::{App, Behaviour};

fn phase(rate: f64, millis: u64) -> Phase {
    Phase {
        rate,
        duration: Duration::from_millis(millis),
    }
}

/// Requests of a phase are evenly spaced from its start, and a phase without load only takes time.
#[test]
fn schedules_evenly() {
    let phases = [phase(2.0, 1_000), phase(0.0, 1_000), phase(4.0, 500)];
    let due: Vec<u128> = Schedule::new(&phases)
        .unwrap()
        .map(|due| due.as_millis())
        .collect();
    assert_eq!(due, [0, 500, 2_000, 2_250]);
}

/// Rates and durations beyond the limits are refused by name.
#[test]
fn refuses_unbounded_load() {
    for rate in [-1.0, f64::NAN, f64::INFINITY, RATE_MAX + 1.0] {
        let error = Schedule::new(&[phase(rate, 1)]).unwrap_err();
        assert!(error.to_string().starts_with("rate: "), "{error}");
    }
    let error = Schedule::new(&[phase(1.0, 400_000), phase(1.0, 400_000)]).unwrap_err();
    assert!(error.to_string().starts_with("duration: "), "{error}");
}

/// Every request of the schedule is written once, and every answer is counted under its status.
#[tokio::test]
async fn counts_what_it_wrote() {
    let behaviour = Behaviour::dj()
        .failing(20)
        .with_latency(Duration::from_millis(5));
    let app = App::start((Ipv4Addr::LOCALHOST, 0).into(), behaviour)
        .await
        .unwrap();
    let tally = Arc::new(Tally::default());
    let load = Load::new(app.address(), vec![phase(400.0, 500)]);
    load.run(tally.clone(), CancellationToken::new())
        .await
        .unwrap();
    assert_eq!((tally.written(), app.served()), (200, 200));
    assert_eq!(tally.answers(), BTreeMap::from([(200, 190), (503, 10)]));
    assert_eq!(
        (tally.broken(), tally.refused(), tally.skipped()),
        (0, 0, 0)
    );
}

/// A request that found no connection was not written.
#[tokio::test]
async fn does_not_count_what_was_refused() {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let tally = Arc::new(Tally::default());
    let load = Load::new(socket.local_addr().unwrap(), vec![phase(100.0, 50)]);
    load.run(tally.clone(), CancellationToken::new())
        .await
        .unwrap();
    assert_eq!((tally.written(), tally.refused()), (0, 5));
}
