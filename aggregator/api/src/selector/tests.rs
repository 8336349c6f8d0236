use proptest::prelude::*;

use super::*;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

/// The selectors of the Go library's own tests, and what they match.
#[test]
fn matches_as_kubernetes_does() {
    let jazz = labels(&[
        ("app", "jazz"),
        ("tier", "back"),
        ("canary", ""),
        ("replicas", "12"),
    ]);
    for (text, expected) in [
        ("", true),
        ("  ", true),
        ("app", true),
        ("!app", false),
        ("version", false),
        ("!version", true),
        ("app=jazz", true),
        ("app==jazz", true),
        (" app = jazz , tier = back ", true),
        ("app=metal", false),
        ("app!=metal", true),
        ("app!=jazz", false),
        ("version!=v1", true),
        ("canary=", true),
        ("canary=,app", true),
        ("version=", false),
        ("app in (jazz)", true),
        ("app in (metal, jazz)", true),
        ("app in(metal,pop)", false),
        ("canary in (,a)", true),
        ("canary in (a,)", true),
        ("app in (,)", false),
        ("app notin (metal,pop)", true),
        ("app notin (jazz)", false),
        ("version notin (v1)", true),
        ("replicas>11", true),
        ("replicas<12", false),
        ("app>1", false),
        ("version<1", false),
        ("app=jazz,tier in (back,front),!version", true),
        ("app=jazz,tier=front", false),
        ("in in (in,notin)", false),
        ("app=in", false),
        ("notin", false),
        ("app.kubernetes.io/name!=x,app", true),
    ] {
        assert_eq!(
            Selector::parse(text).unwrap().matches(&jazz),
            expected,
            "{text}"
        );
    }
}

/// What is no selector, and the sentence Kubernetes has for it.
const REFUSED: &[(&str, &str)] = &[
    (
        "=a",
        "found '=', expected: !, identifier, or 'end of string'",
    ),
    (
        "a b",
        "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt",
    ),
    ("a=b c", "found 'c', expected: ',' or 'end of string'"),
    ("a,", "found '', expected: identifier after ','"),
    ("a,,b", "found ',', expected: identifier after ','"),
    (
        "!",
        "unable to parse requirement: found '', expected: identifier",
    ),
    (
        "!!a",
        "unable to parse requirement: found '!', expected: identifier",
    ),
    ("!a=b", "found '=', expected: ',' or 'end of string'"),
    (
        "a===b",
        "unable to parse requirement: found '=', expected: identifier",
    ),
    (
        "a in b",
        "unable to parse requirement: found 'b', expected: '('",
    ),
    (
        "a in (b",
        "unable to parse requirement: found '', expected: ',' or ')'",
    ),
    (
        "a in (b c)",
        "unable to parse requirement: found 'c', expected: ',' or ')'",
    ),
    (
        "a in (=)",
        "unable to parse requirement: found '=', expected: ',', ')' or identifier",
    ),
    ("a in (b))", "found ')', expected: ',' or 'end of string'"),
    (
        "a notin ()",
        "unable to parse requirement: values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty",
    ),
    (
        "a>b",
        "unable to parse requirement: values[0]: Invalid value: \"b\": for 'Gt', 'Lt' operators, the value must be an integer",
    ),
    (
        "a>",
        "unable to parse requirement: values[0]: Invalid value: \"\": for 'Gt', 'Lt' operators, the value must be an integer",
    ),
];

/// What is no selector is refused in the words of Kubernetes.
#[test]
fn refuses_in_the_words_of_kubernetes() {
    for (text, expected) in REFUSED {
        assert_eq!(
            Selector::parse(text).unwrap_err().to_string(),
            *expected,
            "{text}"
        );
    }
}

/// Keys and values that no label can have are refused by name: they would silently match nothing.
#[test]
fn refuses_impossible_labels() {
    let long = "x".repeat(64);
    for (text, expected) in [
        (
            "-a=b".to_owned(),
            "key: Invalid value: \"-a\": name part must consist",
        ),
        (
            "a/b/c=d".to_owned(),
            "key: Invalid value: \"a/b/c\": a qualified name",
        ),
        (
            "A.io/b".to_owned(),
            "key: Invalid value: \"A.io/b\": prefix part a lowercase",
        ),
        (
            "/b".to_owned(),
            "key: Invalid value: \"/b\": prefix part a lowercase",
        ),
        (
            "a/".to_owned(),
            "key: Invalid value: \"a/\": name part must consist",
        ),
        (
            format!("{long}=a"),
            "name part must be no more than 63 characters",
        ),
        (format!("a={long}"), "must be no more than 63 characters"),
        (
            "a=b/c".to_owned(),
            "values[0][a]: Invalid value: \"b/c\": a valid label must be",
        ),
        (
            "a in (b,c-)".to_owned(),
            "values[1][a]: Invalid value: \"c-\": a valid label must be",
        ),
        (
            "a=ü".to_owned(),
            "values[0][a]: Invalid value: \"ü\": a valid label must be",
        ),
    ] {
        let error = Selector::parse(&text).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

/// Length and number of requirements are bounded, at exactly the documented numbers.
#[test]
fn is_bounded() {
    let requirements = |count: usize| vec!["a"; count].join(",");
    assert!(Selector::parse(&requirements(REQUIREMENTS_MAX)).is_ok());
    assert_eq!(
        Selector::parse(&requirements(REQUIREMENTS_MAX + 1)),
        Err(SelectorError::TooMany)
    );
    let spaces = |count: usize| " ".repeat(count);
    assert!(Selector::parse(&spaces(SELECTOR_BYTES_MAX)).is_ok());
    assert_eq!(
        Selector::parse(&spaces(SELECTOR_BYTES_MAX + 1)),
        Err(SelectorError::TooLong(SELECTOR_BYTES_MAX + 1))
    );
}

/// A requirement as the model has it: key, operator, values.
type Naive = (String, &'static str, Vec<String>);

fn naive_matches(requirements: &[Naive], labels: &Labels) -> bool {
    requirements.iter().all(|(key, operator, values)| {
        let value = labels.get(key);
        let listed = values.iter().any(|listed| Some(listed) == value);
        match *operator {
            "=" | "==" | "in" => listed,
            "!=" | "notin" => !listed,
            "" => value.is_some(),
            "!" => value.is_none(),
            other => panic!("unknown operator {other}"),
        }
    })
}

fn written((key, operator, values): &Naive) -> String {
    match *operator {
        "in" | "notin" => format!("{key} {operator} ({})", values.join(",")),
        "" => key.clone(),
        "!" => format!("!{key}"),
        _ => format!("{key}{operator}{}", values[0]),
    }
}

proptest! {
    /// Whatever selector is written, it matches what a plain reading of it matches.
    #[test]
    fn agrees_with_a_naive_matcher(
        requirements in prop::collection::vec(
            (
                "[ab]|in|notin|k8s\\.io/x",
                prop::sample::select(vec!["=", "==", "!=", "in", "notin", "", "!"]),
                prop::collection::vec("[xy]?|in", 1..4),
            ),
            0..4,
        ),
        labels in prop::collection::btree_map("[ab]|in|notin|k8s\\.io/x", "[xy]?|in", 0..4),
    ) {
        let requirements: Vec<Naive> = requirements
            .into_iter()
            .map(|(key, operator, mut values)| {
                if !matches!(operator, "in" | "notin") {
                    values.truncate(1);
                } else if values == [""] {
                    values.push("x".to_owned()); // `in ()` is refused
                }
                (key, operator, values)
            })
            .collect();
        let text = requirements.iter().map(written).collect::<Vec<_>>().join(",");
        let selector = Selector::parse(&text).unwrap();
        prop_assert_eq!(selector.matches(&labels), naive_matches(&requirements, &labels), "{}", text);
    }

    /// No text makes the parser panic.
    #[test]
    fn survives_any_text(text in "([a-z/.]|in|notin|[=!(),<> ]|\\PC){0,40}") {
        if let Ok(selector) = Selector::parse(&text) {
            let _ = selector.matches(&Labels::new());
        }
    }
}
