//! A load that is known, as two aggregators, `a` and `b`, expose and write it, and what others
//! expose beside them.

use serde_json::{Value, json};

/// Scrapes that there are, a quarter of a minute apart.
const SCRAPES: u32 = 60;
const SECONDS_PER_SCRAPE: f64 = 15.0;

/// Counters, and by how much they rise in a second.
///
/// Two pods of `jazz` get 80 requests a second each, and send 190 to others. Nobody may see 540 on
/// the service's panel. Of `metal` two replicas write sums, of which one lags behind: the larger is
/// shown, not both together.
const COUNTERS: &str = r#"
appmesh_requests_total{namespace="prod",service="jazz",kubernetes_pod_name="jazz-1",traffic_direction="inbound"} 80
appmesh_requests_total{namespace="prod",service="jazz",kubernetes_pod_name="jazz-2",traffic_direction="inbound"} 80
appmesh_requests_total{namespace="prod",service="jazz",kubernetes_pod_name="jazz-1",traffic_direction="outbound"} 190
appmesh_requests_total{namespace="prod",service="jazz",kubernetes_pod_name="jazz-2",traffic_direction="outbound"} 190
appmesh_requests_total{namespace="prod",service="rock",kubernetes_pod_name="rock-1",traffic_direction="inbound"} 7
appmesh_requests_total{namespace="stage",service="jazz",kubernetes_pod_name="jazz-1",traffic_direction="inbound"} 3
appmesh_responses_total{namespace="prod",service="jazz",kubernetes_pod_name="jazz-1",traffic_direction="inbound",envoy_response_code_class="2"} 60
appmesh_responses_total{namespace="prod",service="jazz",kubernetes_pod_name="jazz-1",traffic_direction="inbound",envoy_response_code_class="5"} 20
appmesh_responses_total{namespace="prod",service="jazz",kubernetes_pod_name="jazz-2",traffic_direction="inbound",envoy_response_code_class="2"} 60
appmesh_responses_total{namespace="prod",service="jazz",kubernetes_pod_name="jazz-2",traffic_direction="inbound",envoy_response_code_class="5"} 20
appmesh_responses_total{namespace="prod",service="jazz",kubernetes_pod_name="jazz-1",traffic_direction="outbound",envoy_response_code_class="2"} 190
appmesh_responses_total{namespace="prod",service="jazz",kubernetes_pod_name="jazz-2",traffic_direction="outbound",envoy_response_code_class="5"} 190
appmesh_requests_total{namespace="prod",service="metal",replica="a",traffic_direction="inbound"} 40
appmesh_requests_total{namespace="prod",service="metal",replica="b",traffic_direction="inbound"} 37
appmesh_responses_total{namespace="prod",service="metal",replica="a",traffic_direction="inbound",envoy_response_code_class="2"} 30
appmesh_responses_total{namespace="prod",service="metal",replica="b",traffic_direction="inbound",envoy_response_code_class="2"} 28
appmesh_responses_total{namespace="prod",service="metal",replica="a",traffic_direction="inbound",envoy_response_code_class="5"} 9
appmesh_responses_total{namespace="prod",service="metal",replica="b",traffic_direction="inbound",envoy_response_code_class="5"} 10
# Ages in `prod` are below a second, in `stage` between one and two.
meshmeter_signal_age_seconds_bucket{namespace="prod",le="1",instance="a"} 4
meshmeter_signal_age_seconds_bucket{namespace="prod",le="2",instance="a"} 4
meshmeter_signal_age_seconds_bucket{namespace="prod",le="+Inf",instance="a"} 4
meshmeter_signal_age_seconds_bucket{namespace="stage",le="1",instance="b"} 0
meshmeter_signal_age_seconds_bucket{namespace="stage",le="2",instance="b"} 4
meshmeter_signal_age_seconds_bucket{namespace="stage",le="+Inf",instance="b"} 4
meshmeter_signal_age_part_seconds_bucket{namespace="prod",part="flush",le="1",instance="a"} 4
meshmeter_signal_age_part_seconds_bucket{namespace="prod",part="flush",le="+Inf",instance="a"} 4
meshmeter_api_requests_total{resource="pods",code="2xx",instance="a"} 4
meshmeter_api_requests_total{resource="pods",code="2xx",instance="b"} 6
meshmeter_api_requests_total{resource="pods",code="5xx",instance="b"} 1
meshmeter_api_requests_total{resource="discovery",code="2xx",instance="a"} 3
meshmeter_api_missing_pods_total{reason="new",instance="a"} 2
meshmeter_api_refused_total{reason="doubt",instance="a"} 1
meshmeter_hpa_reads_total{namespace="prod",hpa="jazz",metric="rate",result="answered",instance="a"} 3
meshmeter_hpa_reads_total{namespace="prod",hpa="jazz",metric="rate",result="refused",instance="a"} 1
meshmeter_hpa_reads_total{namespace="prod",hpa="jazz",metric="rate",result="refused",instance="b"} 1
meshmeter_ledger_dropped_total{reason="details",instance="a"} 2
meshmeter_ingest_reports_total{instance="a"} 10
meshmeter_ingest_reports_total{instance="b"} 9
meshmeter_ingest_streams_opened_total{instance="a"} 1
meshmeter_ingest_received_bytes_total{instance="a"} 1000
meshmeter_ingest_refused_total{reason="silent",instance="a"} 1
meshmeter_store_refused_total{reason="pods",instance="a"} 2
meshmeter_directory_refused_total{reason="pods",instance="b"} 3
meshmeter_watch_failures_total{watch="pods",instance="a"} 1
meshmeter_remote_write_samples_total{result="stored",instance="a"} 20
meshmeter_remote_write_samples_dropped_total{reason="too_old",instance="a"} 1
meshmeter_remote_write_requests_total{code="200",instance="a"} 2
meshmeter_remote_write_request_seconds_bucket{le="1",instance="a"} 2
meshmeter_remote_write_request_seconds_bucket{le="+Inf",instance="a"} 2
container_cpu_usage_seconds_total{namespace="meshmeter",pod="meshmeter-0",container="aggregator"} 0.5
container_cpu_usage_seconds_total{namespace="meshmeter",pod="meshmeter-0"} 0.6
container_cpu_usage_seconds_total{namespace="prod",pod="jazz-1",container="aggregator"} 3
apiserver_admission_webhook_fail_open_count{name="pods.meshmeter.io",type="admit"} 1
apiserver_admission_webhook_fail_open_count{name="others",type="admit"} 5
meshmeter_mesh_xds_proxy_changes_rejected_total{namespace="prod",pod="jazz-1"} 1
meshmeter_mesh_xds_proxy_upstream_failures_total{namespace="prod",pod="jazz-1"} 2
"#;

const GAUGES: &str = r#"
appmesh_requests_per_second{namespace="prod",service="jazz",kubernetes_pod_name="jazz-1"} 80
appmesh_requests_per_second{namespace="prod",service="jazz",kubernetes_pod_name="jazz-2"} 80
appmesh_requests_per_second{namespace="prod",service="rock",kubernetes_pod_name="rock-1"} 7
appmesh_requests_in_flight{namespace="prod",service="jazz",kubernetes_pod_name="jazz-1",traffic_direction="inbound"} 4
appmesh_requests_in_flight{namespace="prod",service="jazz",kubernetes_pod_name="jazz-1",traffic_direction="outbound"} 9
appmesh_requests_per_second{namespace="prod",service="metal",replica="a"} 40
appmesh_requests_per_second{namespace="prod",service="metal",replica="b"} 37
appmesh_requests_in_flight{namespace="prod",service="metal",replica="a",traffic_direction="inbound"} 2
appmesh_requests_in_flight{namespace="prod",service="metal",replica="b",traffic_direction="inbound"} 3
kube_horizontalpodautoscaler_status_current_replicas{namespace="prod",horizontalpodautoscaler="jazz"} 2
kube_horizontalpodautoscaler_status_desired_replicas{namespace="prod",horizontalpodautoscaler="jazz"} 3
kube_horizontalpodautoscaler_status_desired_replicas{namespace="stage",horizontalpodautoscaler="jazz"} 1
meshmeter_build_info{version="1",instance="a"} 1
meshmeter_build_info{version="1",instance="b"} 1
meshmeter_pods{state="live",instance="a"} 5
meshmeter_pods{state="live",instance="b"} 4
meshmeter_pods{state="held",instance="a"} 0
meshmeter_pods{state="held",instance="b"} 1
meshmeter_pods{state="gone",instance="a"} 2
meshmeter_pods_known{instance="a"} 7
meshmeter_pods_known{instance="b"} 7
meshmeter_ingest_sidecars{build="new",instance="a"} 5
meshmeter_ingest_sidecars{build="new",instance="b"} 4
meshmeter_ingest_sidecars{build="old",instance="a"} 1
meshmeter_ingest_sidecars{build="past",instance="a"} 0
meshmeter_ingest_streams{instance="a"} 6
meshmeter_ingest_streams{instance="b"} 5
meshmeter_series{instance="a"} 50
meshmeter_hpa_read_value_ratio{namespace="prod",hpa="jazz",metric="rate",instance="a"} 1.5
meshmeter_hpa_read_value_ratio{namespace="stage",hpa="jazz",metric="rate",instance="a"} 9
meshmeter_hpa_read_age_seconds{namespace="prod",hpa="jazz",metric="rate",instance="a"} 0.5
meshmeter_hpa_read_age_seconds{namespace="prod",hpa="jazz",metric="rate",instance="b"} 0.75
meshmeter_hpa_read_pods_left_out{namespace="prod",hpa="jazz",metric="rate",instance="b"} 2
meshmeter_ledger_bytes{instance="a"} 1000
meshmeter_ledger_limit_bytes{instance="a"} 5000
meshmeter_watch_age_seconds{watch="pods",scope="all namespaces",instance="a"} 4
meshmeter_watch_age_seconds{watch="pods",scope="all namespaces",instance="b"} 3
meshmeter_remote_write_lag_seconds{instance="a"} 15
meshmeter_remote_write_queue_bytes{instance="a"} 4096
container_memory_working_set_bytes{namespace="meshmeter",pod="meshmeter-0",container="aggregator"} 1e6
container_memory_working_set_bytes{namespace="meshmeter",pod="meshmeter-0"} 2e6
"#;

/// When a certificate ends, a day after the first scrape.
const CERTIFICATE: &str = r#"meshmeter_api_certificate_expiry_timestamp_seconds{instance="a"}"#;

/// The series as promtool takes them.
pub(crate) fn series() -> Vec<Value> {
    let line = |series: &str, start: f64, rise: f64| json!({"series": series, "values": format!("{start}+{rise}x{SCRAPES}")});
    let counters =
        rows(COUNTERS).map(|(series, rate)| line(series, 0.0, rate * SECONDS_PER_SCRAPE));
    let gauges = rows(GAUGES).map(|(series, value)| line(series, value, 0.0));
    let certificate = line(CERTIFICATE, 86_400.0, 0.0);
    counters.chain(gauges).chain([certificate]).collect()
}

fn rows(table: &'static str) -> impl Iterator<Item = (&'static str, f64)> {
    let rows = table
        .lines()
        .filter(|row| !row.is_empty() && !row.starts_with('#'));
    rows.map(|row| {
        let (series, value) = row.rsplit_once(' ').expect("a series and its value");
        (series, value.parse().expect("a number"))
    })
}
