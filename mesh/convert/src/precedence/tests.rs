use super::*;

fn path_of(path: Path) -> Match {
    Match {
        path,
        method: None,
        headers: BTreeMap::new(),
        parameters: BTreeMap::new(),
    }
}

fn prefix(path: &str) -> Match {
    path_of(Path::Prefix(path.to_owned()))
}

fn regex(text: &str) -> Match {
    path_of(Path::Regex(text.to_owned()))
}

fn with(mut matched: Match, name: &str, value: &str) -> Match {
    let condition = Condition::Exact(value.to_owned());
    matched.headers.insert(name.to_owned(), condition);
    matched
}

fn like(mut matched: Match, name: &str, text: &str) -> Match {
    let condition = Condition::Regex(text.to_owned());
    matched.headers.insert(name.to_owned(), condition);
    matched
}

/// Rules of one match each; of them the settled ones, and what is not.
fn settled(rules: &[Match]) -> (Vec<Vec<Match>>, Settled) {
    let mut rules: Vec<_> = rules.iter().map(|one| vec![one.clone()]).collect();
    let settled = settle(&mut rules, |_, _| false);
    (rules, settled)
}

/// (rules in App Mesh's order, matches that the first one gets).
#[test]
fn the_first_rule_gets_what_it_shares() {
    let blue = with(prefix("/"), "color", "blue");
    let exact = path_of(Path::Exact("/a".to_owned()));
    for (rules, added) in [
        // The path outranks the header.
        (
            vec![blue.clone(), prefix("/a")],
            vec![with(prefix("/a"), "color", "blue")],
        ),
        (
            vec![blue.clone(), exact.clone()],
            vec![with(exact.clone(), "color", "blue")],
        ),
        // Gateway API agrees.
        (vec![prefix("/a"), prefix("/")], vec![]),
        (vec![exact, prefix("/a")], vec![]),
        // Nothing in common.
        (vec![prefix("/a"), prefix("/b/c")], vec![]),
        (
            vec![blue.clone(), with(prefix("/a"), "color", "red")],
            vec![],
        ),
        // What all three share is the first's by its place: both have one header there.
        (
            vec![blue, with(prefix("/a"), "size", "1"), prefix("/a/b")],
            vec![
                with(with(prefix("/a"), "size", "1"), "color", "blue"),
                with(prefix("/a/b"), "color", "blue"),
            ],
        ),
    ] {
        let (settled, outcome) = settled(&rules);
        assert_eq!(outcome, Settled::default(), "{rules:?}");
        assert_eq!(settled[0][1..], added, "{rules:?}");
    }
}

/// (rules in App Mesh's order, whether the second is out of reach, whether their order cannot be
/// said).
#[test]
fn what_cannot_be_said_is_named() {
    for (first, second, unreachable, unsettled) in [
        (prefix("/"), prefix("/a"), true, false),
        (prefix("/"), regex("/a.*"), true, false),
        (regex("/a.*"), prefix("/"), false, true),
        (regex("/a.*"), prefix("/b"), false, false),
        (regex("/a?.*"), prefix("/b"), false, true),
        (regex("/a|/b"), prefix("/b"), false, true),
        (
            like(prefix("/"), "color", "b.*"),
            with(prefix("/a"), "color", "blue"),
            false,
            true,
        ),
        (
            with(prefix("/"), "color", "blue"),
            with(prefix("/a"), "color", "red"),
            false,
            false,
        ),
    ] {
        let (_, outcome) = settled(&[first.clone(), second.clone()]);
        let what = format!("{first:?} {second:?}");
        assert_eq!(!outcome.unreachable.is_empty(), unreachable, "{what}");
        assert_eq!(!outcome.unsettled.is_empty(), unsettled, "{what}");
    }
}

/// Rules with the same targets need no order.
#[test]
fn rules_that_do_the_same_stay() {
    let mut rules = vec![vec![with(prefix("/"), "color", "blue")], vec![prefix("/a")]];
    let before = rules.clone();
    assert_eq!(settle(&mut rules, |_, _| true), Settled::default());
    assert_eq!(rules, before);
}

/// What has no end is cut off, and named.
#[test]
fn matches_are_bounded() {
    let colors = (0..2).map(|nth| with(prefix("/"), &format!("h{nth}"), "1"));
    let paths = (0..70).map(|nth| prefix(&format!("/p{nth}")));
    let rules: Vec<_> = colors.chain(paths).collect();
    let (settled, outcome) = settled(&rules);
    assert!(settled.iter().all(|own| own.len() <= MATCHES_MAX));
    assert!(!outcome.unsettled.is_empty());
}
