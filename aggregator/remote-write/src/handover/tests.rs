use std::sync::Arc;

use common_time::{Clock, Monotonic, UnixMillis};
use http::StatusCode;
use tokio::time::Instant;

use super::*;

const KEY: &str = "Bearer secret";

#[expect(
    clippy::disallowed_methods,
    reason = "tokio's time is the simulated clock here"
)]
fn simulated_clock() -> Clock {
    let begun = Instant::now();
    Clock::new(
        move || Monotonic(u64::try_from(begun.elapsed().as_millis()).unwrap()),
        UnixMillis::default,
    )
}

fn standbys(clock: &Clock) -> Arc<Standbys> {
    Arc::new(Standbys::new("secret".to_owned(), clock.clone()))
}

/// Asks as the standby `name` that has the copy of `has`.
async fn ask(standbys: &Standbys, name: &str, has: i64) -> (StatusCode, Vec<u8>) {
    let query = format!("standby={name}&has={has}");
    let response = standbys.answer(&query, Some(KEY)).await;
    (response.status(), response.into_body().to_vec())
}

/// A standby gets what it has not, at once or as soon as it is there; if nothing comes, it is told so.
#[tokio::test(start_paused = true)]
async fn a_standby_gets_each_checkpoint() {
    let standbys = standbys(&simulated_clock());
    assert_eq!(ask(&standbys, "b", 0).await.0, StatusCode::NO_CONTENT);
    standbys.publish(10, b"ten".to_vec());
    assert_eq!(
        ask(&standbys, "b", 0).await,
        (StatusCode::OK, b"ten".to_vec())
    );
    let other = Arc::clone(&standbys);
    let asked = tokio::spawn(async move { ask(&other, "b", 10).await });
    tokio::task::yield_now().await;
    standbys.publish(20, b"twenty".to_vec());
    assert_eq!(asked.await.unwrap(), (StatusCode::OK, b"twenty".to_vec()));
    standbys.retract();
    assert_eq!(ask(&standbys, "b", 20).await.0, StatusCode::NO_CONTENT);
}

/// A flush waits for those who stand by, but for no one else, and not for long.
#[tokio::test(start_paused = true)]
async fn a_flush_waits_for_its_copies() {
    let clock = simulated_clock();
    let standbys = standbys(&clock);
    standbys.publish(10, b"ten".to_vec());
    assert_eq!(standbys.copied(10).await, 0, "nobody stands by");
    assert_eq!(clock.now().0, 0);
    ask(&standbys, "b", 0).await;
    ask(&standbys, "c", 0).await;
    assert_eq!(standbys.copied(10).await, 0, "nobody says that it has it");
    assert_eq!(clock.now().0, 1000);
    let asking = ["b", "c"].map(|name| {
        let other = Arc::clone(&standbys);
        tokio::spawn(async move { ask(&other, name, 10).await })
    });
    assert_eq!(standbys.copied(10).await, 2);
    assert_eq!(clock.now().0, 1000);
    // One that is cut off while it waits is gone.
    for asked in asking {
        asked.abort();
        assert!(asked.await.is_err());
    }
    standbys.publish(20, b"twenty".to_vec());
    assert_eq!(standbys.copied(20).await, 0);
    assert_eq!(clock.now().0, 1000);
}

/// Who has not the key, or says nothing of use, is told what is missing; and there is room for some only.
#[tokio::test(start_paused = true)]
async fn a_stranger_gets_nothing() {
    let standbys = standbys(&simulated_clock());
    standbys.publish(10, b"ten".to_vec());
    for authorization in [
        None,
        Some("Bearer secre"),
        Some("Bearer secrex"),
        Some("secret"),
    ] {
        let response = standbys.answer("standby=b", authorization).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    }
    for query in ["", "standby=", "standby=b&has=x"] {
        let response = standbys.answer(query, Some(KEY)).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{query}");
    }
    for name in 0..16 {
        assert_eq!(ask(&standbys, &name.to_string(), 0).await.0, StatusCode::OK);
    }
    assert_eq!(
        ask(&standbys, "16", 0).await.0,
        StatusCode::TOO_MANY_REQUESTS
    );
    tokio::time::sleep(std::time::Duration::from_secs(11)).await;
    assert_eq!(ask(&standbys, "16", 0).await.0, StatusCode::OK);
}
