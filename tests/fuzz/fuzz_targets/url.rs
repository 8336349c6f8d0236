//! Any URL as a request to the metrics API: path, query, label selector and metric selector. The
//! answer is a status and says what it holds. Never a panic.
#![no_main]

use std::sync::{Arc, LazyLock};

use aggregator_api::{Api, Observations};
use aggregator_directory::Directory;
use aggregator_ledger::Ledger;
use aggregator_ledger::limits::BYTES_MIN;
use aggregator_core::limits::StoreLimits;
use aggregator_core::pod::{Labels, PodInfo, PodKey};
use aggregator_core::store::Store;
use common_time::{Clock, Monotonic, UnixMillis};
use http::{Request, header::CONTENT_TYPE};
use libfuzzer_sys::fuzz_target;
use prometheus_client::registry::Registry;

static API: LazyLock<Api> = LazyLock::new(|| {
    let directory = Arc::new(Directory::default());
    let labels = Labels::from([("app".to_owned(), "jazz".to_owned())]);
    let pod = PodInfo::new(PodKey::new("prod", "jazz-a"), "".into(), labels);
    directory
        .upsert(pod)
        .expect("an empty directory takes a pod");
    Api::new(
        Arc::new(Store::new(StoreLimits::default())),
        directory,
        Clock::new(Monotonic::default, || UnixMillis(1_800_000_000_000)),
        Arc::new(Vec::new),
        Observations::register(&mut Registry::default()),
        Arc::new(Ledger::new(BYTES_MIN)),
    )
});

fuzz_target!(|url: &str| {
    let Ok(request) = Request::get(url).body(()) else {
        return;
    };
    let answer = API.respond(&request.into_parts().0, false);
    assert!(answer.status().as_u16() < 600);
    assert!(answer.headers().contains_key(CONTENT_TYPE), "{url}");
});
