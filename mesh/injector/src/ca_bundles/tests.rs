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

fn held(labels: &[(&str, &str)], data: &[(&str, &str)]) -> ExistingConfigMap {
    ExistingConfigMap {
        uid: "u".to_owned(),
        version: "7".to_owned(),
        labels: Labels::of(&map(labels)),
        data: Data::of(&map(data)),
        ..ExistingConfigMap::default()
    }
}

const ASKING: Namespace = Namespace {
    asks: true,
    ends: false,
};
const SILENT: Namespace = Namespace {
    asks: false,
    ends: false,
};

/// Ours with `data`, and with what `change` makes of it.
fn ours(data: &[(&str, &str)], change: fn(&mut ExistingConfigMap)) -> ExistingConfigMap {
    let mut ours = held(&OURS, data);
    change(&mut ours);
    ours
}

/// With certificates, of whom `labels` say.
fn theirs(labels: &[(&str, &str)]) -> ExistingConfigMap {
    held(labels, &[(CA_KEY, "old new")])
}

/// Whoever asks has ours as it is to be, whatever becomes of it.
#[test]
fn whoever_asks_has_ours() {
    for (what, held, expected) in [
        (
            "current",
            ours(&[(CA_KEY, "old new")], |_| {}),
            Step::Nothing,
        ),
        ("rotated", ours(&[(CA_KEY, "old")], |_| {}), Step::Change),
        ("emptied", ours(&[], |_| {}), Step::Change),
        (
            "with more in it",
            ours(&[(CA_KEY, "old new"), ("a", "b")], |_| {}),
            Step::Change,
        ),
        (
            "immutable",
            ours(&[], |held| held.immutable = true),
            Step::Remove,
        ),
        (
            "not looked at",
            ours(&[], |held| held.data = None),
            Step::Remove,
        ),
        (
            "being deleted",
            ours(&[], |held| held.ends = true),
            Step::Nothing,
        ),
    ] {
        let step = bundle().step(Some(&ASKING), Some(&held));
        assert_eq!(step, expected, "{what}");
        assert_eq!(bundle().is_kept(&held), what == "current", "{what}");
    }
    assert_eq!(bundle().step(Some(&ASKING), None), Step::Create);
}

/// An object that somebody fills takes no more memory than one of ours.
#[test]
fn little_is_remembered() {
    let keys: Vec<_> = (0..=KEYS_MAX).map(|nth| nth.to_string()).collect();
    let data: BTreeMap<_, _> = keys.into_iter().map(|key| (key, "x".to_owned())).collect();
    assert_eq!(Data::of(&data), None);
    let large = map(&[(CA_KEY, &"x".repeat(1 << 20))]);
    let Some(Data(digests)) = Data::of(&large) else {
        panic!("a key of ours");
    };
    assert_eq!(digests.len(), 1);
}

/// What is not ours is left alone, and where nobody asks there is none of ours.
#[test]
fn nothing_else_is_touched() {
    let ending = Namespace {
        ends: true,
        ..ASKING
    };
    let current = ours(&[(CA_KEY, "old new")], |_| {});
    let elsewhere = theirs(&[(MANAGED_BY, MANAGER), (INSTALLED_IN, "other")]);
    let aggregators = theirs(&[(MANAGED_BY, "meshmeter")]);
    for (namespace, held, expected) in [
        (Some(ASKING), Some(theirs(&[])), Step::Refuse),
        (Some(ASKING), Some(aggregators.clone()), Step::Refuse),
        (Some(ASKING), Some(elsewhere.clone()), Step::Refuse),
        (Some(SILENT), None, Step::Nothing),
        (Some(SILENT), Some(current.clone()), Step::Remove),
        (Some(SILENT), Some(aggregators), Step::Nothing),
        (Some(SILENT), Some(elsewhere), Step::Nothing),
        (Some(ending), None, Step::Nothing),
        (Some(ending), Some(ours(&[], |_| {})), Step::Nothing),
        (None, Some(current), Step::Nothing),
        (None, None, Step::Nothing),
    ] {
        let step = bundle().step(namespace.as_ref(), held.as_ref());
        assert_eq!(step, expected, "{namespace:?} {held:?}");
    }
}

/// As the webhook selects them.
#[test]
fn namespaces_ask_by_their_label() {
    for (name, label, asks) in [
        ("prod", Some("enabled"), true),
        ("prod", Some("Enabled"), false),
        ("prod", Some("disabled"), false),
        ("prod", None, false),
        ("kube-system", Some("enabled"), false),
        ("meshmeter", Some("enabled"), false),
    ] {
        let labels: Vec<_> = label.iter().map(|value| (INJECT, *value)).collect();
        let namespace = Namespace::of(name, &map(&labels), false, "meshmeter");
        assert_eq!(namespace.asks, asks, "{name} {label:?}");
    }
}

/// What a step does to an object leaves nothing to be done: whatever was in it, and whatever others
/// put on it stays.
#[test]
fn a_step_is_enough() {
    let all = bundle();
    let made = all.object("prod");
    assert_eq!(made["metadata"]["namespace"], "prod");
    assert_eq!(made["metadata"]["name"], "meshmeter-ca");
    let pairs = |value: &Value| serde_json::from_value(value.clone()).unwrap();
    let read = |object: &Value| ExistingConfigMap {
        labels: Labels::of(&pairs(&object["metadata"]["labels"])),
        data: Data::of(&pairs(&object["data"])),
        ..held(&[], &[])
    };
    assert_eq!(all.step(Some(&ASKING), Some(&read(&made))), Step::Nothing);
    for data in [
        &[][..],
        &[(CA_KEY, "old")],
        &[(CA_KEY, "old new"), ("a", "b")],
        &[("a", "b"), ("c", "d")],
    ] {
        let stale = held(&OURS, data);
        assert_eq!(all.step(Some(&ASKING), Some(&stale)), Step::Change);
        let mut object = json!({
            "metadata": {"labels": map(&[OURS[0], OURS[1], ("theirs", "x")]), "annotations": {"theirs": "x"}},
            "data": map(data),
        });
        let change = all.change(&stale);
        assert_eq!(change["metadata"]["resourceVersion"], "7");
        json_patch::merge(&mut object, &change);
        assert_eq!(object["metadata"]["labels"]["theirs"], "x");
        assert_eq!(object["metadata"]["annotations"]["theirs"], "x");
        assert_eq!(all.step(Some(&ASKING), Some(&read(&object))), Step::Nothing);
    }
    let removal = CaBundle::removal(&held(&OURS, &[]));
    let expected = json!({"uid": "u", "resourceVersion": "7"});
    assert_eq!(removal["preconditions"], expected);
}

/// Whoever writes against us, and whoever refuses us, makes us slow and never silent; others are
/// not made slow by it.
#[test]
fn writes_become_rare_and_never_end() {
    let mut backoff = Backoff::default();
    let day = Duration::from_hours(24);
    let (mut now, mut writes, mut last) = (Duration::ZERO, 0, None);
    while now < day {
        if backoff.is_due("prod", now) {
            let pause = now.saturating_sub(last.unwrap_or(now));
            assert!(pause <= AGAIN_MAX, "{pause:?}");
            backoff.tried("prod", now);
            (writes, last) = (writes + 1, Some(now));
        }
        assert!(backoff.is_due("other", now));
        now += Duration::from_secs(1);
    }
    let steadily = day.as_secs() / AGAIN_MAX.as_secs();
    assert!((steadily..steadily + 12).contains(&writes), "{writes}");
    now += CALM_AFTER + AGAIN_MAX;
    backoff.tried("prod", now);
    assert_eq!(backoff.remaining("prod", now), AGAIN_MIN);
    backoff.reset();
    assert!(backoff.is_due("prod", now));
    backoff.tried("prod", now);
    backoff.retain(&BTreeSet::new());
    assert!(backoff.is_due("prod", now));
}
