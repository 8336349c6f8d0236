use aggregator_core::report::{ResponseCode, SeriesTotals};
use aggregator_core::series::{Direction, SeriesKey};

use super::{Totals, field};
use crate::native_sink::message::{
    Identifier, Kind, LabelPair, Metric, MetricFamily, Node, Number, Struct, Value,
};
use crate::native_sink::node::Sidecar;

fn node(fields: &[(&str, &str)]) -> Identifier {
    let text = |(name, value): &(&str, &str)| {
        let kind = Some(Kind::Text((*value).to_owned()));
        ((*name).to_owned(), Value { kind })
    };
    let own = Struct {
        fields: fields.iter().map(text).collect(),
    };
    let own = Value {
        kind: Some(Kind::Struct(own)),
    };
    let metadata = Struct {
        fields: [("meshmeter".to_owned(), own)].into(),
    };
    let node = Node {
        id: "n".to_owned(),
        metadata: Some(metadata),
    };
    Identifier { node: Some(node) }
}

fn sidecar(fields: &[(&str, &str)]) -> Result<Sidecar, String> {
    Sidecar::of(node(fields).node.as_ref()).map_err(|error| error.to_string())
}

fn family(name: &str, labels: &[(&str, &str)], value: f64) -> MetricFamily {
    let label = |(name, value): &(&str, &str)| LabelPair {
        name: (*name).to_owned(),
        value: (*value).to_owned(),
    };
    MetricFamily {
        name: name.to_owned(),
        metric: vec![Metric {
            label: labels.iter().map(label).collect(),
            counter: Some(Number { value }),
            gauge: None,
            timestamp_ms: 1_700_000_000_000,
        }],
    }
}

const POD: &[(&str, &str)] = &[("namespace", "prod"), ("pod", "jazz-1")];

/// The same statistics with their variable part inside the name, and apart as a label.
#[test]
fn both_forms_of_names_say_the_same() {
    let prefix = ("envoy.http_conn_manager_prefix", "ingress_http");
    let cluster = ("envoy.cluster_name", "cds_egress_dj-app_metal_http_9080");
    let inside = [
        family("http.ingress_http.downstream_rq_total", &[], 12.0),
        family("http.ingress_http.downstream_rq_2xx", &[], 11.0),
        family("http.egress.downstream_rq_total", &[], 99.0),
        family(
            "cluster.cds_egress_dj-app_metal_http_9080.upstream_rq_total",
            &[],
            7.0,
        ),
        family(
            "cluster.cds_egress_dj-app_metal_http_9080.upstream_cx_total",
            &[],
            1.0,
        ),
        family("server.live", &[], 1.0),
    ];
    let apart = [
        family("http.downstream_rq_total", &[prefix], 12.0),
        family(
            "http.downstream_rq_xx",
            &[prefix, ("envoy.response_code_class", "2")],
            11.0,
        ),
        family(
            "http.downstream_rq_total",
            &[("envoy.http_conn_manager_prefix", "egress")],
            99.0,
        ),
        family("cluster.upstream_rq_total", &[cluster], 7.0),
    ];
    let sidecar = sidecar(POD).unwrap();
    let totals = Totals::of(&sidecar, &inside).unwrap();
    assert_eq!(totals, Totals::of(&sidecar, &apart).unwrap());
    let key = |direction, cluster: &str| SeriesKey {
        direction,
        cluster: cluster.into(),
    };
    let inbound = SeriesTotals {
        requests: Some(12),
        responses: [(ResponseCode::new(2).unwrap(), 11)].into(),
        ..SeriesTotals::default()
    };
    assert_eq!(totals.series[&key(Direction::Inbound, "")], inbound);
    let metal = &totals.series[&key(Direction::Outbound, "cds_egress_dj-app_metal_http_9080")];
    assert_eq!(metal.upstream_attempts, Some(7));
    assert_eq!(totals.series.len(), 2);
}

#[test]
fn a_node_may_say_which_listeners_are_inbound() {
    let front = [family("http.front.downstream_rq_total", &[], 3.0)];
    let requests = |sidecar: &Sidecar| {
        let totals = Totals::of(sidecar, &front).unwrap();
        totals.series.values().next().unwrap().requests
    };
    assert_eq!(requests(&sidecar(POD).unwrap()), Some(0));
    let named = sidecar(&[POD[0], POD[1], ("inbound", "x, front")]).unwrap();
    assert_eq!(requests(&named), Some(3));
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let error = sidecar(&[("namespace", "prod")]).unwrap_err();
    assert_eq!(error, "identifier.node.metadata.meshmeter.pod: missing");
    let error = Sidecar::of(None).unwrap_err().to_string();
    assert_eq!(
        error,
        "identifier.node.metadata.meshmeter.namespace: missing"
    );
    let long = "x".repeat(300);
    let error = sidecar(&[("namespace", "prod"), ("pod", &long)]).unwrap_err();
    assert_eq!(
        error,
        "identifier.node.metadata.meshmeter.pod: 300 bytes, at most 253"
    );
    let sidecar = sidecar(POD).unwrap();
    for value in [f64::NAN, -1.0, 0.5, f64::INFINITY, 1e300] {
        let name = "http.ingress.downstream_rq_total";
        let error = Totals::of(&sidecar, &[family(name, &[], value)])
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("envoy_metrics.http.ingress.downstream_rq_total: "),
            "{error}"
        );
    }
    assert_eq!(
        field(&"é".repeat(500)).chars().count(),
        128 + "envoy_metrics.".len()
    );
}

/// Everything that an Envoy tells of itself is checked as on the main path: what could not be the
/// name of a pod, a namespace or a cluster is refused, and no refusal holds what could forge a line
/// of a log.
#[test]
fn names_are_checked_as_on_the_main_path() {
    let forged = "jazz-1\n\u{1b}[31mINFO forged";
    let long = "p,".repeat(600);
    for fields in [
        [("namespace", "prod"), ("pod", forged), ("uid", "")],
        [("namespace", forged), ("pod", "jazz-1"), ("uid", "")],
        [("namespace", "prod"), ("pod", "jazz-1"), ("uid", forged)],
        [
            ("namespace", "prod"),
            ("pod", "jazz-1"),
            ("inbound", forged),
        ],
        [("namespace", "prod"), ("pod", "jazz-1"), ("inbound", &long)],
        [("namespace", "prod"), ("pod", "Jazz"), ("uid", "")],
        [("namespace", "prod"), ("pod", "jazz..1"), ("uid", "")],
        [("namespace", "prod"), ("pod", "jazz 1"), ("uid", "")],
        [("namespace", "prod"), ("pod", "../../etc"), ("uid", "")],
        [("namespace", "prod.x"), ("pod", "jazz-1"), ("uid", "")],
    ] {
        let error = sidecar(&fields).unwrap_err();
        assert!(!error.contains(char::is_control), "{error:?}");
        assert!(
            error.starts_with("identifier.node.metadata.meshmeter."),
            "{error}"
        );
    }
    let sidecar = sidecar(POD).unwrap();
    for (name, labels) in [
        (format!("cluster.{forged}.upstream_rq_total"), vec![]),
        (
            "cluster.upstream_rq_total".to_owned(),
            vec![("envoy.cluster_name", forged)],
        ),
        (
            format!("cluster.{}.upstream_rq_total", "c".repeat(257)),
            vec![],
        ),
    ] {
        let error = Totals::of(&sidecar, &[family(&name, &labels, 1.0)]).unwrap_err();
        assert!(!error.to_string().contains(char::is_control), "{error}");
    }
}
