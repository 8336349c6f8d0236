//! Every field, every way to get it wrong, and that the rest holds.

use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> (Config, Vec<String>) {
    Config::parse(text.as_bytes(), Module::Filter)
}

/// The one problem of a configuration that names a role.
fn problem(fields: &str) -> String {
    let (_, problems) = parse(&format!(r#"{{"role":"filter",{fields}}}"#));
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems[0].clone()
}

#[test]
fn every_field_is_read() {
    let (config, problems) = Config::parse(
        br#"{"role":"upstream_log","direction":"outbound","cluster":"app","responses":"code",
            "aggregators":[{"cluster":"agg-0"},{"cluster":"agg-1","authority":"agg.svc"}],
            "flush_interval_ms":250,"max_series":10,
            "identity":{"namespace":"prod","pod":"dj-1","uid":"u","node":"n","labels":{"app":"dj"}}}"#,
        Module::Log,
    );
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(config.role, Role::UpstreamLog);
    assert_eq!(config.direction, Some(Direction::Outbound));
    assert_eq!(config.cluster, "app");
    assert_eq!(config.responses, ResponseDetail::Code);
    assert_eq!(config.aggregators.len(), 2);
    assert_eq!(config.aggregators[1].authority, "agg.svc");
    assert_eq!(config.flush_interval_ms, 250);
    assert_eq!(config.max_series, 10);
    assert_eq!(config.identity.pod, "dj-1");
    assert_eq!(config.identity.labels["app"], "dj");
}

#[test]
fn defaults_hold_where_nothing_is_said() {
    let (config, problems) = parse(r#"{"role":"filter"}"#);
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(config, Config::new(Module::Filter));
    let (config, _) = Config::parse(br#"{"role":"access_log"}"#, Module::Log);
    assert_eq!(config, Config::new(Module::Log));
}

#[test]
fn an_unknown_field_is_named_and_the_rest_holds() {
    let (config, problems) = parse(r#"{"role":"filter","aggregatorss":[],"max_series":3}"#);
    assert_eq!(
        problems,
        [
            "plugin configuration: unknown field `aggregatorss`, expected one of `role`, `direction`, \
          `cluster`, `dimensions`, `responses`, `aggregators`, `flush_interval_ms`, `max_series`, `identity`"
        ]
    );
    assert_eq!(config.max_series, 3);
}

/// Each bad value is a sentence with the field, what was found, what was expected and what is used
/// instead.
#[test]
fn bad_values_are_named() {
    for (fields, sentence) in [
        (
            r#""direction":"up""#,
            "`direction` is \"up\", expected `auto`, `inbound` or `outbound`; using `auto`",
        ),
        (
            r#""responses":1"#,
            "`responses` is 1, expected `class`, `code` or `off`; using `class`",
        ),
        (
            r#""flush_interval_ms":99"#,
            "`flush_interval_ms` is 99, expected a number from 100 to 60000; using 1000",
        ),
        (
            r#""flush_interval_ms":1.5"#,
            "`flush_interval_ms` is a number that is not a whole one from 0, expected a number from 100 to \
             60000; using 1000",
        ),
        (
            r#""max_series":0"#,
            "`max_series` is 0, expected a number from 1 to 250; using 64",
        ),
        (
            r#""cluster":null"#,
            "`cluster` is null, expected a text; using none",
        ),
        (
            r#""dimensions":["pod"]"#,
            "`dimensions` is a list, expected a list that may hold `cluster`; using none",
        ),
        (
            r#""aggregators":{}"#,
            "`aggregators` is an object, expected a list; using none",
        ),
        (
            r#""aggregators":[{"cluster":""}]"#,
            "`aggregators[0].cluster` is missing or empty, expected the name of an Envoy cluster; not streaming \
             there",
        ),
        (
            r#""aggregators":[{"cluster":"a","port":1}]"#,
            "unknown field `aggregators[0].port`, expected one of `cluster`, `authority`",
        ),
        (
            r#""identity":{"name":"x"}"#,
            "unknown field `identity.name`, expected one of `namespace`, `pod`, `uid`, `node`, `labels`",
        ),
        (
            r#""identity":{"labels":{"app":7}}"#,
            "`identity.labels.app` is 7, expected a text; using none",
        ),
        (
            r#""max_series":1,"max_series":2"#,
            "`max_series` is given twice; using the last",
        ),
        (
            r#""cluster":"a","dimensions":["cluster"]"#,
            "`cluster` and `dimensions` exclude each other; using `dimensions`",
        ),
    ] {
        assert_eq!(problem(fields), format!("plugin configuration: {sentence}"));
    }
}

#[test]
fn texts_and_lists_have_limits() {
    let long = "x".repeat(257);
    assert!(
        problem(&format!(r#""cluster":"{long}""#)).contains("`cluster` has 257 bytes, at most 256")
    );
    let (config, problems) = parse(
        r#"{"role":"filter","aggregators":[{"cluster":"a"},{"cluster":"b"},{"cluster":"c"},{"cluster":"d"},
            {"cluster":"e"}]}"#,
    );
    assert!(problems[0].contains("`aggregators` holds 5, at most 4"));
    assert_eq!(config.aggregators.len(), 4);
    let labels: Vec<String> = (0..70).map(|n| format!(r#""k{n}":"v""#)).collect();
    let fields = format!(
        r#"{{"role":"filter","identity":{{"labels":{{{}}}}}}}"#,
        labels.join(",")
    );
    let (config, problems) = parse(&fields);
    assert!(problems[0].contains("`identity.labels` holds 70 labels, at most 64"));
    assert_eq!(config.identity.labels.len(), LABELS_MAX);
}

#[test]
fn what_is_no_json_object_counts_with_defaults() {
    for (text, found) in [
        ("", "not JSON from byte 0 on"),
        ("{\"role\"", "not JSON from byte 7 on"),
        ("[]", "a list instead of an object"),
    ] {
        let (config, problems) = parse(text);
        assert_eq!(config, Config::new(Module::Filter));
        assert!(problems[0].contains(found), "{problems:?}");
        assert!(problems[0].contains("streaming nowhere"), "{problems:?}");
    }
    let (_, problems) = parse(&" ".repeat(CONFIG_BYTES_MAX + 1));
    assert!(
        problems[0].contains("65537 bytes, at most 65536"),
        "{problems:?}"
    );
}

#[test]
fn the_role_has_to_fit_the_module() {
    for (module, role, file, used) in [
        (Module::Log, "filter", "log", "access_log"),
        (Module::Filter, "access_log", "filter", "filter"),
        (Module::Filter, "upstream_log", "filter", "filter"),
    ] {
        let text = format!(r#"{{"role":"{role}"}}"#);
        let (config, problems) = Config::parse(text.as_bytes(), module);
        assert_eq!(config.role.as_str(), used);
        let sentence = format!(
            "plugin configuration: `role` is \"{role}\", which meshmeter-{file}.wasm cannot play; using `{used}`"
        );
        assert_eq!(problems, [sentence]);
    }
    let (config, problems) = Config::parse(b"{}", Module::Filter);
    assert_eq!(config.role, Role::Filter);
    assert!(problems[0].contains("`role` is missing"), "{problems:?}");
}

#[test]
fn problems_are_told_up_to_a_limit() {
    let fields: Vec<String> = (0..30).map(|n| format!(r#""f{n}":1"#)).collect();
    let (_, problems) = parse(&format!(r#"{{"role":"filter",{}}}"#, fields.join(",")));
    assert_eq!(problems.len(), PROBLEMS_MAX + 1);
    assert_eq!(
        problems[PROBLEMS_MAX],
        "plugin configuration: 14 more problems"
    );
}

proptest! {
    /// Whatever the text, there is a configuration within its limits.
    #[test]
    fn there_is_always_a_configuration(text in r#"\{("(role|cluster|flush_interval_ms|aggregators|identity|x)":("a"|1|\[\]|\{\}|-1|null),?){0,5}\}"#) {
        let (config, _) = parse(&text);
        prop_assert!((FLUSH_INTERVAL_MS.0..=FLUSH_INTERVAL_MS.1).contains(&config.flush_interval_ms));
        prop_assert!(config.max_series >= 1);
    }

    /// Arbitrary bytes do not panic.
    #[test]
    fn bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = Config::parse(&bytes, Module::Log);
    }
}
