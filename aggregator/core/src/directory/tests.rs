use super::*;

fn info(namespace: &str, name: &str, app: &str) -> PodInfo {
    PodInfo {
        key: PodKey::new(namespace, name),
        uid: "".into(),
        labels: Labels::from([("app".to_owned(), app.to_owned())]),
    }
}

/// Only pods of the namespace asked for, and of those only the ones that match, come back, sorted by name.
#[test]
fn selects_within_a_namespace() {
    let directory = Directory::default();
    for (namespace, name, app) in [
        ("prod", "jazz-b", "jazz"),
        ("prod", "jazz-a", "jazz"),
        ("prod", "metal", "metal"),
        ("prod-2", "jazz-c", "jazz"),
        ("pro", "jazz-d", "jazz"),
    ] {
        directory.upsert(info(namespace, name, app)).unwrap();
    }
    let jazz = directory.select("prod", &|labels| labels["app"] == "jazz");
    assert_eq!(
        jazz,
        [PodKey::new("prod", "jazz-a"), PodKey::new("prod", "jazz-b")]
    );
    assert!(directory.select("none", &|_| true).is_empty());
}

/// A second upsert replaces the labels; a removed pod is gone.
#[test]
fn replaces_and_removes() {
    let directory = Directory::default();
    assert!(directory.is_empty());
    directory.upsert(info("prod", "dj", "old")).unwrap();
    directory.upsert(info("prod", "dj", "new")).unwrap();
    assert_eq!(directory.len(), 1);
    let key = PodKey::new("prod", "dj");
    assert_eq!(directory.get(&key).unwrap().labels["app"], "new");
    assert!(directory.remove(&key));
    assert!(!directory.remove(&key));
    assert_eq!(directory.get(&key), None);
}

/// A full directory refuses a new pod by name and still takes news of one it holds.
#[test]
fn full_directory_refuses() {
    let directory = Directory::default();
    for n in 0..PODS_MAX {
        directory.upsert(info("prod", &n.to_string(), "a")).unwrap();
    }
    let refused = directory.upsert(info("prod", "extra", "a")).unwrap_err();
    assert!(
        refused.to_string().starts_with("pod prod/extra: "),
        "{refused}"
    );
    directory.upsert(info("prod", "7", "b")).unwrap();
    assert_eq!(directory.len(), PODS_MAX);
}
