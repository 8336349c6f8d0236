//! What each query of each panel shows of the load of `load.rs`.

/// Board, panel, query, and its series: labels and value.
type Panel = (
    &'static str,
    u64,
    &'static str,
    &'static [(&'static str, f64)],
);

pub(crate) const PANELS: &[Panel] = &[
    ("fleet", 2, "A", &[("{}", 4.0)]),
    ("fleet", 3, "A", &[("{}", 1.0)]),
    ("fleet", 4, "A", &[("{}", 2.0)]),
    ("fleet", 5, "A", &[("{}", 1.98)]),
    ("fleet", 6, "A", &[("{}", 2.0)]),
    ("fleet", 7, "A", &[("{}", 2.0)]),
    (
        "fleet",
        9,
        "A",
        &[
            (r#"{state="live",instance="a"}"#, 5.0),
            (r#"{state="live",instance="b"}"#, 4.0),
            (r#"{state="held",instance="a"}"#, 0.0),
            (r#"{state="held",instance="b"}"#, 1.0),
            (r#"{state="gone",instance="a"}"#, 2.0),
        ],
    ),
    ("fleet", 10, "A", &[("{}", 7.0)]),
    ("fleet", 10, "B", &[("{}", 5.0)]),
    (
        "fleet",
        11,
        "A",
        &[
            (r#"{build="new"}"#, 5.0),
            (r#"{build="old"}"#, 1.0),
            (r#"{build="past"}"#, 0.0),
        ],
    ),
    (
        "fleet",
        13,
        "A",
        &[
            (r#"{namespace="prod"}"#, 0.5),
            (r#"{namespace="stage"}"#, 1.5),
        ],
    ),
    (
        "fleet",
        14,
        "A",
        &[
            (r#"{namespace="prod"}"#, 0.99),
            (r#"{namespace="stage"}"#, 1.99),
        ],
    ),
    ("fleet", 15, "A", &[(r#"{part="flush"}"#, 0.99)]),
    ("fleet", 17, "A", &[(r#"{resource="pods"}"#, 11.0)]),
    ("fleet", 18, "A", &[(r#"{reason="new"}"#, 2.0)]),
    ("fleet", 19, "A", &[(r#"{reason="doubt"}"#, 1.0)]),
    // What the service received, pod by pod, and what its autoscaler saw: the same number.
    (
        "workload",
        2,
        "A",
        &[
            (r#"{service="jazz"}"#, 160.0),
            (r#"{service="metal"}"#, 40.0),
        ],
    ),
    (
        "workload",
        3,
        "A",
        &[
            (r#"{service="jazz",kubernetes_pod_name="jazz-1"}"#, 80.0),
            (r#"{service="jazz",kubernetes_pod_name="jazz-2"}"#, 80.0),
            (r#"{service="metal"}"#, 40.0),
        ],
    ),
    (
        "workload",
        4,
        "A",
        &[
            (
                r#"{namespace="prod",service="jazz",kubernetes_pod_name="jazz-1"}"#,
                80.0,
            ),
            (
                r#"{namespace="prod",service="jazz",kubernetes_pod_name="jazz-2"}"#,
                80.0,
            ),
            (r#"{namespace="prod",service="metal"}"#, 40.0),
        ],
    ),
    (
        "workload",
        6,
        "A",
        &[
            (r#"{envoy_response_code_class="2"}"#, 150.0),
            (r#"{envoy_response_code_class="5"}"#, 50.0),
        ],
    ),
    ("workload", 7, "A", &[("{}", 0.25)]),
    (
        "workload",
        8,
        "A",
        &[
            (r#"{service="jazz",kubernetes_pod_name="jazz-1"}"#, 4.0),
            (r#"{service="metal"}"#, 3.0),
        ],
    ),
    (
        "workload",
        10,
        "A",
        &[(r#"{namespace="prod",horizontalpodautoscaler="jazz"}"#, 2.0)],
    ),
    (
        "workload",
        10,
        "B",
        &[(r#"{namespace="prod",horizontalpodautoscaler="jazz"}"#, 3.0)],
    ),
    ("workload", 11, "A", &[(r#"{namespace="prod"}"#, 0.99)]),
    (
        "self",
        2,
        "A",
        &[(r#"{instance="a"}"#, 10.0), (r#"{instance="b"}"#, 9.0)],
    ),
    ("self", 3, "A", &[(r#"{pod="meshmeter-0"}"#, 0.5)]),
    ("self", 4, "A", &[(r#"{pod="meshmeter-0"}"#, 1e6)]),
    (
        "self",
        5,
        "A",
        &[(r#"{instance="a"}"#, 6.0), (r#"{instance="b"}"#, 5.0)],
    ),
    ("self", 5, "B", &[(r#"{instance="a"}"#, 1.0)]),
    ("self", 6, "A", &[(r#"{instance="a"}"#, 1000.0)]),
    ("self", 7, "A", &[(r#"{instance="a"}"#, 50.0)]),
    (
        "self",
        9,
        "A",
        &[(r#"{code="2xx"}"#, 13.0), (r#"{code="5xx"}"#, 1.0)],
    ),
    ("self", 10, "A", &[(r#"{watch="pods"}"#, 4.0)]),
    ("self", 11, "A", &[(r#"{instance="a"}"#, 85_800.0)]),
    ("self", 12, "A", &[(r#"{watch="pods"}"#, 1.0)]),
    ("self", 14, "A", &[(r#"{reason="silent"}"#, 1.0)]),
    ("self", 15, "A", &[(r#"{reason="pods"}"#, 2.0)]),
    ("self", 16, "A", &[(r#"{reason="pods"}"#, 3.0)]),
    ("self", 18, "A", &[(r#"{instance="a"}"#, 15.0)]),
    ("self", 19, "A", &[(r#"{result="stored"}"#, 20.0)]),
    ("self", 20, "A", &[(r#"{reason="too_old"}"#, 1.0)]),
    ("self", 21, "A", &[(r#"{code="200"}"#, 2.0)]),
    ("self", 22, "A", &[(r#"{instance="a"}"#, 0.99)]),
    ("self", 23, "A", &[(r#"{instance="a"}"#, 4096.0)]),
    ("self", 25, "A", &[("{}", 1.0)]),
    ("self", 26, "A", &[(r#"{namespace="prod"}"#, 1.0)]),
    ("self", 27, "A", &[(r#"{namespace="prod"}"#, 2.0)]),
];
