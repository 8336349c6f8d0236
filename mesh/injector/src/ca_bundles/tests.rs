use super::*;

const OURS: [(&str, &str); 2] = [(MANAGED_BY, MANAGER), (INSTALLED_IN, "meshmeter")];

fn bundle() -> CaBundle {
    CaBundle::new("meshmeter-ca", "meshmeter", "old new".to_owned())
}

fn map(of: &[(&str, &str)]) -> BTreeMap<String, String> {
    let pairs = of.iter();
    pairs
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

fn existing(labels: &[(&str, &str)], data: &[(&str, &str)]) -> ExistingConfigMap {
    ExistingConfigMap {
        uid: "u".to_owned(),
        version: "7".to_owned(),
        labels: Labels::of(&map(labels)),
        data: Data::of(&map(data)),
        ..ExistingConfigMap::default()
    }
}

const INJECTED: Namespace = Namespace {
    is_injected: true,
    terminating: false,
};
const UNLABELLED: Namespace = Namespace {
    is_injected: false,
    terminating: false,
};

/// One of ours with `data`, after `change`.
fn ours(data: &[(&str, &str)], change: fn(&mut ExistingConfigMap)) -> ExistingConfigMap {
    let mut ours = existing(&OURS, data);
    change(&mut ours);
    ours
}

/// Has the certificates, and an owner by `labels`.
fn theirs(labels: &[(&str, &str)]) -> ExistingConfigMap {
    existing(labels, &[(CA_KEY, "old new")])
}

/// An injected namespace gets the current bundle, whatever state its `ConfigMap` is in.
#[test]
fn injected_namespaces_get_the_bundle() {
    for (what, existing, expected) in [
        (
            "current",
            ours(&[(CA_KEY, "old new")], |_| {}),
            Action::Nothing,
        ),
        ("rotated", ours(&[(CA_KEY, "old")], |_| {}), Action::Update),
        ("emptied", ours(&[], |_| {}), Action::Update),
        (
            "with more in it",
            ours(&[(CA_KEY, "old new"), ("a", "b")], |_| {}),
            Action::Update,
        ),
        (
            "immutable",
            ours(&[], |existing| existing.immutable = true),
            Action::Delete,
        ),
        (
            "not looked at",
            ours(&[], |existing| existing.data = None),
            Action::Delete,
        ),
        (
            "being deleted",
            ours(&[], |existing| existing.terminating = true),
            Action::Nothing,
        ),
    ] {
        let action = bundle().action(Some(&INJECTED), Some(&existing));
        assert_eq!(action, expected, "{what}");
        assert_eq!(bundle().is_current(&existing), what == "current", "{what}");
    }
    assert_eq!(bundle().action(Some(&INJECTED), None), Action::Create);
}

/// A large foreign object takes no more memory than one of ours.
#[test]
fn memory_is_bounded() {
    let keys: Vec<_> = (0..=KEYS_MAX).map(|nth| nth.to_string()).collect();
    let data: BTreeMap<_, _> = keys.into_iter().map(|key| (key, "x".to_owned())).collect();
    assert_eq!(Data::of(&data), None);
    let large = map(&[(CA_KEY, &"x".repeat(1 << 20))]);
    let Some(Data(digests)) = Data::of(&large) else {
        panic!("a key of ours");
    };
    assert_eq!(digests.len(), 1);
}

/// Foreign objects are not touched, and other namespaces have none of ours.
#[test]
fn nothing_else_is_touched() {
    let ending = Namespace {
        terminating: true,
        ..INJECTED
    };
    let current = ours(&[(CA_KEY, "old new")], |_| {});
    let elsewhere = theirs(&[(MANAGED_BY, MANAGER), (INSTALLED_IN, "other")]);
    let aggregators = theirs(&[(MANAGED_BY, "meshmeter")]);
    for (namespace, existing, expected) in [
        (Some(INJECTED), Some(theirs(&[])), Action::Conflict),
        (Some(INJECTED), Some(aggregators.clone()), Action::Conflict),
        (Some(INJECTED), Some(elsewhere.clone()), Action::Conflict),
        (Some(UNLABELLED), None, Action::Nothing),
        (Some(UNLABELLED), Some(current.clone()), Action::Delete),
        (Some(UNLABELLED), Some(aggregators), Action::Nothing),
        (Some(UNLABELLED), Some(elsewhere), Action::Nothing),
        (Some(ending), None, Action::Nothing),
        (Some(ending), Some(ours(&[], |_| {})), Action::Nothing),
        (None, Some(current), Action::Nothing),
        (None, None, Action::Nothing),
    ] {
        let action = bundle().action(namespace.as_ref(), existing.as_ref());
        assert_eq!(action, expected, "{namespace:?} {existing:?}");
    }
}

/// The same selection as the webhook's `namespaceSelector`.
#[test]
fn namespaces_are_selected_by_label() {
    for (name, label, is_injected) in [
        ("prod", Some("enabled"), true),
        ("prod", Some("Enabled"), false),
        ("prod", Some("disabled"), false),
        ("prod", None, false),
        ("kube-system", Some("enabled"), false),
        ("meshmeter", Some("enabled"), false),
    ] {
        let labels: Vec<_> = label.iter().map(|value| (INJECT, *value)).collect();
        let namespace = Namespace::of(name, &map(&labels), false, "meshmeter");
        assert_eq!(namespace.is_injected, is_injected, "{name} {label:?}");
    }
}

/// After one action nothing is left to do, and foreign labels and annotations stay.
#[test]
fn one_action_is_enough() {
    let all = bundle();
    let made = all.object("prod", None);
    assert_eq!(made["metadata"]["namespace"], "prod");
    assert_eq!(made["metadata"]["name"], "meshmeter-ca");
    let pairs = |value: &Value| serde_json::from_value(value.clone()).unwrap();
    let read = |object: &Value| ExistingConfigMap {
        labels: Labels::of(&pairs(&object["metadata"]["labels"])),
        data: Data::of(&pairs(&object["data"])),
        ..existing(&[], &[])
    };
    assert_eq!(
        all.action(Some(&INJECTED), Some(&read(&made))),
        Action::Nothing
    );
    for data in [
        &[][..],
        &[(CA_KEY, "old")],
        &[(CA_KEY, "old new"), ("a", "b")],
        &[("a", "b"), ("c", "d")],
    ] {
        let stale = existing(&OURS, data);
        assert_eq!(all.action(Some(&INJECTED), Some(&stale)), Action::Update);
        let mut object = json!({
            "metadata": {"labels": map(&[OURS[0], OURS[1], ("theirs", "x")]), "annotations": {"theirs": "x"}},
            "data": map(data),
        });
        let patch = all.patch(&stale);
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
        json_patch::merge(&mut object, &patch);
        assert_eq!(object["metadata"]["labels"]["theirs"], "x");
        assert_eq!(object["metadata"]["annotations"]["theirs"], "x");
        assert_eq!(
            all.action(Some(&INJECTED), Some(&read(&object))),
            Action::Nothing
        );
    }
    let options = CaBundle::delete_options(&existing(&OURS, &[]));
    let expected = json!({"uid": "u", "resourceVersion": "7"});
    assert_eq!(options["preconditions"], expected);
}

/// Failed and overwritten writes back off but never stop, and other namespaces do not wait.
#[test]
fn writes_back_off_and_never_stop() {
    let mut backoff = Backoff::default();
    let day = Duration::from_hours(24);
    let (mut now, mut writes, mut last) = (Duration::ZERO, 0, None);
    while now < day {
        if backoff.is_due("prod", now) {
            let pause = now.saturating_sub(last.unwrap_or(now));
            assert!(pause <= RETRY_MAX, "{pause:?}");
            backoff.record("prod", now);
            (writes, last) = (writes + 1, Some(now));
        }
        assert!(backoff.is_due("other", now));
        now += Duration::from_secs(1);
    }
    let steadily = day.as_secs() / RETRY_MAX.as_secs();
    assert!((steadily..steadily + 12).contains(&writes), "{writes}");
    now += RESET_AFTER + RETRY_MAX;
    backoff.record("prod", now);
    assert_eq!(backoff.remaining("prod", now), RETRY_MIN);
    backoff.reset();
    assert!(backoff.is_due("prod", now));
    backoff.record("prod", now);
    backoff.retain(&BTreeSet::new());
    assert!(backoff.is_due("prod", now));
}
