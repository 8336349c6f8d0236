use http::HeaderValue;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::exemplar::CounterWithExemplar;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use super::*;

fn registry() -> Registry {
    let mut registry = Registry::with_prefix("m");
    let family = Family::<[(&str, String); 1], Counter>::default();
    let tricky = "a \"b\" } # {c=\"d\"} 1\\\n";
    family.get_or_create(&[("reason", tricky.to_owned())]).inc();
    registry.register("refused", "What was refused", family);
    let exemplar = CounterWithExemplar::<[(&str, String); 1], u64>::default();
    exemplar.inc_by(2, Some([("id", "1".to_owned())]), None);
    registry.register("traced", "With an exemplar", exemplar);
    registry.register("build", "Which", Info::new([("version", "1")]));
    registry.register_with_unit("age", "How old", Unit::Seconds, Gauge::<i64>::default());
    let histogram = Histogram::new([0.5]);
    histogram.observe(0.1);
    registry.register("took", "How long", histogram);
    registry
}

fn accepting(values: &[&str]) -> HeaderMap {
    let values = values
        .iter()
        .map(|value| (ACCEPT, HeaderValue::from_str(value).unwrap()));
    values.collect()
}

const AS_TEXT: &str = "# HELP m_refused_total What was refused.
# TYPE m_refused_total counter
m_refused_total{reason=\"a \\\"b\\\" } # {c=\\\"d\\\"} 1\\\\\\n\"} 1
# HELP m_traced_total With an exemplar.
# TYPE m_traced_total counter
m_traced_total 2
# HELP m_build_info Which.
# TYPE m_build_info gauge
m_build_info{version=\"1\"} 1
# HELP m_age_seconds How old.
# TYPE m_age_seconds gauge
m_age_seconds 0
# HELP m_took How long.
# TYPE m_took histogram
m_took_sum 0.1
m_took_count 1
m_took_bucket{le=\"0.5\"} 1
m_took_bucket{le=\"+Inf\"} 1
";

/// Only what the text format 0.0.4 has: no other types, no units, no exemplars, no end, and each
/// family named as its samples.
#[test]
fn text_is_what_readers_of_text_know() {
    let (page, media_type) = page(&registry(), &HeaderMap::new()).unwrap();
    assert_eq!(page, AS_TEXT);
    assert_eq!(media_type, "text/plain; version=0.0.4; charset=utf-8");
}

/// Who prefers `OpenMetrics` gets what the library writes.
#[test]
fn open_metrics_is_given_to_who_prefers_it() {
    let headers = accepting(&["application/openmetrics-text"]);
    let (page, media_type) = page(&registry(), &headers).unwrap();
    assert!(page.ends_with("# EOF\n"));
    assert!(
        page.contains("# TYPE m_build info\n") && page.contains("# UNIT m_age_seconds seconds\n")
    );
    assert_eq!(
        media_type,
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
}

/// `Accept` of Prometheus, of an older one, of KEDA, curl and browsers, and its corners: (values,
/// is it `OpenMetrics`).
#[test]
fn accept_says_which() {
    for (values, expected) in [
        (&[][..], false),
        (&["*/*"], false),
        (&["text/plain"], false),
        (&["text/plain;version=0.0.4;q=1,*/*;q=0.1"], false),
        (
            &["text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"],
            false,
        ),
        (&["application/json"], false),
        (&[""], false),
        (
            &[
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
            ],
            true,
        ),
        (
            &["application/openmetrics-text; version=\"1.0.0\"; q=0.8, text/plain; q=0.5"],
            true,
        ),
        (&["text/plain; q=0.5", "application/openmetrics-text"], true),
        (
            &["text/plain;q=0.9,application/openmetrics-text;q=0.8"],
            false,
        ),
        (&["application/openmetrics-text,text/plain"], true),
        (&["text/plain,application/openmetrics-text"], false),
        (&["application/openmetrics-text;q=0.5,*/*;q=0.9"], false),
        (&["application/openmetrics-text;q=0"], false),
        (
            &[
                "application/openmetrics-text;version=0.0.1,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            ],
            false,
        ),
        (
            &["application/openmetrics-text;q=nonsense,text/plain;q=0.1"],
            false,
        ),
        (&["APPLICATION/OpenMetrics-Text; Q=1"], true),
    ] {
        assert_eq!(
            prefers_open_metrics(&accepting(values)),
            expected,
            "{values:?}"
        );
    }
}
