//! Reads outlive a restart where there is a folder for them.

use aggregator::config::ReadsConfig;
use tempfile::TempDir;

use crate::app::App;

const REQUESTS: &str = "appmesh_requests_per_second";

async fn start(folder: &TempDir) -> App {
    App::start_with(|config| {
        config.reads = ReadsConfig {
            autoscalers: 1,
            folder: Some(folder.path().join("reads")),
            folder_bytes: 4 << 20,
        };
    })
    .await
}

/// A read, here a refused one, is there after a restart, with its sentence, and counted.
#[tokio::test(flavor = "multi_thread")]
async fn reads_outlive_a_restart() {
    let folder = TempDir::new().unwrap();
    for restarts in 0..3 {
        let app = start(&folder).await;
        assert_eq!(
            app.counter("meshmeter_ledger_disk_restored_total").await,
            restarts
        );
        app.metric(REQUESTS, "labelSelector=app%3Djazz").await;
        let reads = app.get("/apis/view.meshmeter.io/v1/namespaces/prod/reads");
        let reads = reads.await.json();
        let reads = reads["items"].as_array().unwrap();
        assert_eq!(reads.len() as u64, restarts + 1);
        for read in reads {
            let message = read["message"].as_str().unwrap();
            assert!(message.contains("pods matching app=jazz"), "{read}");
        }
        let bytes = app.counter("meshmeter_ledger_bytes").await;
        let limit = app.counter("meshmeter_ledger_limit_bytes").await;
        assert!(0 < bytes && bytes <= limit, "{bytes} of {limit}");
        app.stop().await;
    }
}
