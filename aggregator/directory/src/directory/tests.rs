use proptest::prelude::*;

use super::*;
use aggregator_core::limits::{AUTOSCALER_BYTES_MAX, AUTOSCALERS_MAX};
use aggregator_core::pod::{Owner, Phase};

fn info(namespace: &str, name: &str, app: &str) -> PodInfo {
    let labels = Labels::from([("app".to_owned(), app.to_owned())]);
    PodInfo::new(PodKey::new(namespace, name), "".into(), labels)
}

fn owner(kind: &str, name: &str, uid: &str) -> Owner {
    Owner {
        group: "apps".into(),
        kind: kind.into(),
        name: name.into(),
        uid: uid.into(),
    }
}

fn owner_info(kind: &str, name: &str, uid: &str, owner: Option<Owner>) -> OwnerInfo {
    OwnerInfo {
        object: ObjectKey::new("prod", "apps", kind, name),
        uid: uid.into(),
        owner,
    }
}

fn service(name: &str, selector: &[(&str, &str)]) -> ServiceInfo {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    ServiceInfo {
        namespace: "prod".into(),
        name: name.into(),
        selector: selector.iter().map(owned).collect(),
    }
}

fn autoscaler(name: &str, target: &str, note: &str) -> AutoscalerInfo {
    AutoscalerInfo {
        namespace: "prod".into(),
        name: name.into(),
        target: ObjectKey::new("prod", "apps", "Deployment", target),
        target_api_version: "apps/v1".into(),
        min_replicas: 1,
        max_replicas: 3,
        spec: Err(note.to_owned()),
        spec_bytes: note.len(),
        status: None,
    }
}

fn names(pods: &[PodKey]) -> Vec<&str> {
    pods.iter().map(|pod| &*pod.name).collect()
}

/// Only pods of the namespace asked for, and of those only the ones that match, come back, sorted
/// by name.
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
    let jazz = directory.select("prod", &|labels| labels.get("app") == Some("jazz"));
    assert_eq!(
        jazz,
        [PodKey::new("prod", "jazz-a"), PodKey::new("prod", "jazz-b")]
    );
    assert!(directory.select("none", &|_| true).is_empty());
    assert!(directory.has_namespace("pro") && !directory.has_namespace("none"));
}

/// Pods that are terminating or have ended are still known, but no question about a set of pods
/// returns them.
#[test]
fn selects_serving_pods_only() {
    let directory = Directory::default();
    let jazz = owner("ReplicaSet", "jazz-1", "r1");
    for (name, phase, deleting) in [
        ("running", Phase::Running, false),
        ("pending", Phase::Pending, false),
        ("leaving", Phase::Running, true),
        ("done", Phase::Succeeded, false),
        ("failed", Phase::Failed, false),
    ] {
        let pod = PodInfo {
            owner: Some(jazz.clone()),
            phase,
            deleting,
            ips: vec!["10.0.0.1".parse().unwrap()],
            ..info("prod", name, "jazz")
        };
        directory.upsert(pod.clone()).unwrap();
        assert_eq!(directory.get(&pod.key), Some(pod));
    }
    directory
        .upsert_service(service("jazz", &[("app", "jazz")]))
        .unwrap();
    let expected = [
        PodKey::new("prod", "pending"),
        PodKey::new("prod", "running"),
    ];
    assert_eq!(directory.select("prod", &|_| true), expected);
    let of_owner = directory.pods_of_owner(&ObjectKey::new("prod", "apps", "ReplicaSet", "jazz-1"));
    assert_eq!(of_owner.unwrap(), expected);
    assert_eq!(
        directory.pods_of_service("prod", "jazz"),
        ServicePods::Pods(expected.to_vec())
    );
    assert_eq!(directory.len(), 5);
    let leaving = PodInfo {
        deleting: true,
        ..info("prod", "running", "jazz")
    };
    directory.upsert(leaving).unwrap();
    assert_eq!(names(&directory.select("prod", &|_| true)), ["pending"]);
}

/// A second upsert replaces labels and owner; a removed pod is gone.
#[test]
fn replaces_and_removes() {
    let directory = Directory::default();
    assert!(directory.is_empty());
    directory.upsert(info("prod", "dj", "old")).unwrap();
    directory.upsert(info("prod", "dj", "new")).unwrap();
    assert_eq!(directory.len(), 1);
    let key = PodKey::new("prod", "dj");
    assert_eq!(directory.get(&key).unwrap().labels["app"], "new");
    assert!(
        directory
            .select("prod", &|labels| labels.get("app") == Some("old"))
            .is_empty()
    );
    assert!(directory.remove(&key));
    assert!(!directory.remove(&key));
    assert_eq!(directory.get(&key), None);
    assert!(!directory.has_namespace("prod"));
}

/// A Deployment has the pods of all its `ReplicaSets`, a `ReplicaSet` its own, and an owner known
/// only by its children has them too.
#[test]
fn follows_owners() {
    let directory = Directory::default();
    let deployment = owner("Deployment", "jazz", "d1");
    for set in ["jazz-1", "jazz-2"] {
        let info = owner_info("ReplicaSet", set, set, Some(deployment.clone()));
        directory.upsert_owner(info).unwrap();
        let pod = PodInfo {
            owner: Some(owner("ReplicaSet", set, set)),
            ..info_of(set)
        };
        directory.upsert(pod).unwrap();
    }
    let key = |kind: &str, name: &str| ObjectKey::new("prod", "apps", kind, name);
    let of = |key: &ObjectKey| {
        directory
            .pods_of_owner(key)
            .map(|pods| names(&pods).join(" "))
    };
    assert_eq!(of(&key("ReplicaSet", "jazz-1")).unwrap(), "jazz-1-a");
    assert_eq!(
        of(&key("Deployment", "jazz")).unwrap(),
        "jazz-1-a jazz-2-a",
        "known by its children alone"
    );
    assert_eq!(of(&key("StatefulSet", "jazz")), None);
    assert_eq!(of(&key("Deployment", "metal")), None);

    // The same name with another uid is another Deployment: the garbage collector has yet to remove
    // the old ones.
    directory
        .upsert_owner(owner_info("Deployment", "jazz", "d2", None))
        .unwrap();
    assert_eq!(of(&key("Deployment", "jazz")).unwrap(), "");
    assert!(directory.remove_owner(&key("Deployment", "jazz")));
    assert!(!directory.remove_owner(&key("Deployment", "jazz")));
    assert_eq!(of(&key("Deployment", "jazz")).unwrap(), "jazz-1-a jazz-2-a");
    for set in ["jazz-1", "jazz-2"] {
        directory.remove_owner(&key("ReplicaSet", set));
    }
    assert_eq!(of(&key("Deployment", "jazz")), None);
    assert_eq!(of(&key("ReplicaSet", "jazz-2")).unwrap(), "jazz-2-a");
    assert_eq!(
        key("Deployment", "jazz").to_string(),
        "Deployment.apps prod/jazz"
    );
}

fn info_of(set: &str) -> PodInfo {
    info("prod", &format!("{set}-a"), "jazz")
}

/// Owners that own each other, or that are stacked beyond reason, end the search instead of the
/// process.
#[test]
fn ends_on_circles() {
    let directory = Directory::default();
    for (name, above) in [("a", "b"), ("b", "a")] {
        let info = owner_info("X", name, name, Some(owner("X", above, above)));
        directory.upsert_owner(info).unwrap();
    }
    let pods = directory.pods_of_owner(&ObjectKey::new("prod", "apps", "X", "a"));
    assert_eq!(pods, Some(Vec::new()));
}

/// A service has the pods that its selector matches; one without a selector is told from one that
/// matches none.
#[test]
fn follows_services() {
    let directory = Directory::default();
    directory.upsert(info("prod", "jazz-a", "jazz")).unwrap();
    directory
        .upsert_service(service("jazz", &[("app", "jazz")]))
        .unwrap();
    directory
        .upsert_service(service("v2", &[("app", "jazz"), ("version", "v2")]))
        .unwrap();
    directory.upsert_service(service("bare", &[])).unwrap();
    let of = |name: &str| directory.pods_of_service("prod", name);
    assert_eq!(
        of("jazz"),
        ServicePods::Pods(vec![PodKey::new("prod", "jazz-a")])
    );
    assert_eq!(of("v2"), ServicePods::Pods(Vec::new()));
    assert_eq!(of("bare"), ServicePods::WithoutSelector);
    assert_eq!(of("none"), ServicePods::Unknown);
    assert!(directory.remove_service("prod", "jazz"));
    assert!(!directory.remove_service("prod", "jazz"));
    assert_eq!(of("jazz"), ServicePods::Unknown);
    assert_eq!(
        directory.sizes(),
        Sizes {
            pods: 1,
            services: 2,
            ..Sizes::default()
        }
    );
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
    assert_eq!(directory.refused()[0], ("pods", 1));
}

/// What is too large is refused and counted by reason, and what was known before stays.
#[test]
fn refuses_what_is_too_large() {
    let directory = Directory::default();
    directory.upsert(info("prod", "jazz", "jazz")).unwrap();
    let mut labels = info("prod", "jazz", "jazz");
    labels.labels = (0..=LABELS_MAX)
        .map(|n| (n.to_string(), String::new()))
        .collect();
    assert!(directory.upsert(labels).is_err());
    let mut ips = info("prod", "jazz", "jazz");
    ips.ips = vec!["10.0.0.1".parse().unwrap(); IPS_PER_POD_MAX + 1];
    assert!(directory.upsert(ips).is_err());
    let long = "v".repeat(LABELS_BYTES_MAX);
    assert!(
        directory
            .upsert_service(service("s", &[("k", &long)]))
            .is_err()
    );
    for n in 0..SERVICES_MAX {
        directory
            .upsert_service(service(&n.to_string(), &[]))
            .unwrap();
    }
    assert!(directory.upsert_service(service("extra", &[])).is_err());
    for n in 0..OWNERS_MAX {
        directory
            .upsert_owner(owner_info("X", &n.to_string(), "", None))
            .unwrap();
    }
    let refused = directory
        .upsert_owner(owner_info("X", "extra", "", None))
        .unwrap_err();
    assert!(
        refused.to_string().starts_with("X.apps prod/extra: "),
        "{refused}"
    );
    for n in 0..AUTOSCALERS_MAX {
        let info = autoscaler(&n.to_string(), "jazz", "");
        directory.upsert_autoscaler(info).unwrap();
    }
    let refused = directory.upsert_autoscaler(autoscaler("extra", "jazz", ""));
    let refused = refused.unwrap_err().to_string();
    assert!(refused.starts_with("autoscaler prod/extra: "), "{refused}");
    let long = "x".repeat(AUTOSCALER_BYTES_MAX + 1);
    let refused = directory.upsert_autoscaler(autoscaler("0", "jazz", &long));
    assert!(refused.is_err());
    assert!(directory.autoscaler("prod", "0").unwrap().status.is_none());
    let counts = [
        ("pods", 0),
        ("labels", 2),
        ("ips", 1),
        ("services", 1),
        ("owners", 1),
        ("autoscalers", 1),
        ("autoscaler_size", 1),
    ];
    assert_eq!(directory.refused(), counts);
    assert!(directory.get(&PodKey::new("prod", "jazz")).is_some());
}

/// Labels that no pod has any more take no memory.
#[test]
fn forgets_texts() {
    let directory = Directory::default();
    for n in 0..10 {
        let name = format!("p{n}");
        directory.upsert(info("prod", &name, &name)).unwrap();
        directory
            .upsert_service(service(&name, &[("app", &name)]))
            .unwrap();
    }
    assert_eq!(directory.cache.read().texts.len(), 11);
    for n in 0..10 {
        let name = format!("p{n}");
        directory.upsert(info("prod", &name, "same")).unwrap();
        directory
            .upsert_service(service(&name, &[("app", "same")]))
            .unwrap();
    }
    assert_eq!(directory.cache.read().texts.len(), 2);
    for n in 0..10 {
        let name = format!("p{n}");
        directory.remove(&PodKey::new("prod", &name));
        directory.remove_service("prod", &name);
    }
    assert_eq!(directory.cache.read().texts.len(), 0);
    assert!(directory.cache.read().namespaces.is_empty());
}

proptest! {
    /// After any sequence of changes, every question has the answer of a plain list of pods.
    #[test]
    fn agrees_with_a_plain_list(changes in prop::collection::vec((0..12_u8, 0..4_u8, 0..3_u8, 0..6_u8), 0..80)) {
        let directory = Directory::default();
        let mut plain: BTreeMap<String, PodInfo> = BTreeMap::new();
        for (pod, app, set, change) in changes {
            let name = format!("p{pod}");
            if change == 0 {
                let removed = directory.remove(&PodKey::new("prod", &name));
                prop_assert_eq!(removed, plain.remove(&name).is_some());
                continue;
            }
            let pod = PodInfo {
                owner: (set > 0).then(|| owner("ReplicaSet", &format!("s{set}"), "u")),
                deleting: change == 1,
                phase: match change {
                    2 => Phase::Failed,
                    3 => Phase::Pending,
                    _ => Phase::Running,
                },
                ..info("prod", &name, &format!("a{app}"))
            };
            directory.upsert(pod.clone()).unwrap();
            plain.insert(name, pod);
        }
        let expect = |keep: &dyn Fn(&PodInfo) -> bool| -> Vec<PodKey> {
            let mut keys: Vec<_> = plain.values().filter(|p| p.is_serving() && keep(p)).map(|p| p.key.clone()).collect();
            keys.sort();
            keys
        };
        for app in 0..4 {
            let app = format!("a{app}");
            let selected = directory.select("prod", &|labels| labels.get("app") == Some(&app));
            prop_assert_eq!(&selected, &expect(&|pod| pod.labels["app"] == app));
            let found = directory.select_equal("prod", &[("app", &app)], &|_| true);
            prop_assert_eq!(&found, &selected);
            let none = directory.select_equal("prod", &[("app", &app), ("tier", "a")], &|_| true);
            prop_assert!(none.is_empty());
            directory.upsert_service(service("s", &[("app", &app)])).unwrap();
            prop_assert_eq!(directory.pods_of_service("prod", "s"), ServicePods::Pods(selected));
        }
        for set in 1..3 {
            let set = format!("s{set}");
            let key = ObjectKey::new("prod", "apps", "ReplicaSet", &set);
            let owned = directory.pods_of_owner(&key).unwrap_or_default();
            prop_assert_eq!(owned, expect(&|pod| pod.owner.as_ref().is_some_and(|owner| *owner.name == *set)));
        }
        let pending = expect(&|pod| pod.phase == Phase::Pending).into_iter().map(|key| key.name);
        prop_assert_eq!(directory.pending_pods("prod"), pending.collect::<Vec<_>>());
        prop_assert_eq!(directory.len(), plain.len());
        for key in directory.pod_keys() {
            let owner = plain[&*key.name].owner.as_ref().map(ObjectRef::from);
            prop_assert_eq!(directory.owners_of(&key), Vec::from_iter(owner));
            directory.remove(&key);
        }
        directory.remove_service("prod", "s");
        prop_assert!(directory.cache.read().namespaces.is_empty());
        prop_assert_eq!(directory.cache.read().texts.len(), 0);
    }
}

/// An address is known as long as a pod that has not ended has it, in whatever form it was told.
#[test]
fn addresses_are_known_while_a_pod_has_them() {
    let directory = Directory::default();
    let pod = |name: &str, ips: &[&str], phase| {
        let key = PodKey::new("prod", name);
        let ips = ips.iter().map(|ip| ip.parse().unwrap()).collect();
        let info = PodInfo::new(key, "u".into(), Labels::default());
        PodInfo { phase, ips, ..info }
    };
    let known = |address: &str| directory.has_address(&address.parse().unwrap());
    let upsert = |info| directory.upsert(info).unwrap();
    upsert(pod(
        "a",
        &["10.0.0.1", "::ffff:10.0.0.1", "fd00::1"],
        Phase::Running,
    ));
    upsert(pod("b", &["10.0.0.1"], Phase::Running));
    assert!(known("10.0.0.1") && known("fd00::1") && !known("10.0.0.2"));
    upsert(pod("a", &["10.0.0.2"], Phase::Running));
    assert!(known("10.0.0.1") && known("10.0.0.2") && !known("fd00::1"));
    directory.remove(&PodKey::new("prod", "b"));
    assert!(!known("10.0.0.1"));
    upsert(pod("a", &["10.0.0.2"], Phase::Succeeded));
    assert!(!known("10.0.0.2"));
    directory.remove(&PodKey::new("prod", "a"));
    assert!(!known("10.0.0.2"));
}

/// Autoscalers by name, by namespace and by what they scale; a change is seen once.
#[test]
fn finds_autoscalers() {
    let directory = Directory::default();
    for (name, target) in [("b", "metal"), ("a", "jazz"), ("c", "jazz")] {
        let info = autoscaler(name, target, "");
        directory.upsert_autoscaler(info).unwrap();
    }
    let found = |infos: Vec<Arc<AutoscalerInfo>>| -> String {
        infos.iter().map(|info| info.name.to_string()).collect()
    };
    let target = ObjectKey::new("prod", "apps", "Deployment", "jazz");
    assert_eq!(found(directory.autoscalers_of("prod")), "abc");
    assert_eq!(found(directory.autoscalers_for(&target)), "ac");
    assert_eq!(found(directory.autoscalers_of("test")), "");
    let changes = directory.autoscaler_changes();
    directory
        .upsert_autoscaler(autoscaler("a", "jazz", ""))
        .unwrap();
    assert_eq!(directory.autoscaler_changes(), changes, "nothing changed");
    directory
        .upsert_autoscaler(autoscaler("a", "dj", ""))
        .unwrap();
    assert!(directory.autoscaler_changes() > changes);
    assert_eq!(found(directory.autoscalers_for(&target)), "c");
    assert!(directory.remove_autoscaler("prod", "a"));
    assert!(!directory.remove_autoscaler("prod", "a"));
    assert_eq!(directory.sizes().autoscalers, 2);
}

/// Ready pods are those of the target's whole tree; unknown if the target is.
#[test]
fn counts_ready_pods_of_a_target() {
    let directory = Directory::default();
    let of = autoscaler("a", "jazz", "");
    assert_eq!(directory.ready_pods_of(&of), None);
    let deployment = owner("Deployment", "jazz", "d");
    directory
        .upsert_owner(owner_info("ReplicaSet", "jazz-1", "r", Some(deployment)))
        .unwrap();
    for (name, ready) in [("x", Some(true)), ("y", Some(false)), ("z", None)] {
        let mut pod = info("prod", name, "jazz");
        pod.owner = Some(owner("ReplicaSet", "jazz-1", "r"));
        pod.ready = ready;
        directory.upsert(pod).unwrap();
    }
    assert_eq!(directory.pods_of_autoscaler(&of).unwrap().len(), 3);
    assert_eq!(directory.ready_pods_of(&of), Some(1));
}

/// Page after page has each serving pod once, under its highest owner, and says how many follow.
#[test]
fn pages_members_by_their_highest_owner() {
    let directory = Directory::default();
    let deployment = owner("Deployment", "jazz", "d");
    directory
        .upsert_owner(owner_info("ReplicaSet", "jazz-1", "r", Some(deployment)))
        .unwrap();
    for (namespace, name) in [
        ("b", "1"),
        ("prod", "2"),
        ("prod", "3"),
        ("prod", "4"),
        ("z", "1"),
    ] {
        let mut pod = info(namespace, name, "jazz");
        pod.owner = (name == "3").then(|| owner("ReplicaSet", "jazz-1", "r"));
        pod.deleting = name == "4";
        directory.upsert(pod).unwrap();
    }
    let mut after: Option<(String, String)> = None;
    let mut seen = Vec::new();
    loop {
        let from = after
            .as_ref()
            .map(|(namespace, name)| (&**namespace, &**name));
        let page = directory.members(None, from, 1, &|_| true);
        let Some(member) = page.items.into_iter().next() else {
            break;
        };
        let owner = member.workload.map(|key| key.object.kind.to_string());
        seen.push((member.key.to_string(), owner, page.remaining));
        after = Some((
            member.key.namespace.to_string(),
            member.key.name.to_string(),
        ));
    }
    let expected = [
        ("b/1", None, 3),
        ("prod/2", None, 2),
        ("prod/3", Some("Deployment"), 1),
        ("z/1", None, 0),
    ];
    let expected =
        expected.map(|(key, owner, left)| (key.to_owned(), owner.map(str::to_owned), left));
    assert_eq!(seen, expected);
    let only = directory.members(Some("prod"), None, 9, &|_| true);
    assert_eq!((only.items.len(), only.remaining), (2, 0));
    let groups = directory.by_workload(Some("prod"));
    let groups: Vec<_> = groups
        .keys()
        .map(|key| format!("{}/{}", key.kind, key.name))
        .collect();
    assert_eq!(groups, ["Pod/2", "Deployment/jazz"]);
    for (namespace, kind, name, expected) in [
        ("prod", "Deployment", "jazz", &["prod/3"][..]),
        ("prod", "Pod", "2", &["prod/2"]),
        // Its own name is that of a pod whose workload is another object.
        ("prod", "Pod", "3", &[]),
        ("prod", "ReplicaSet", "jazz", &[]),
        ("b", "Deployment", "jazz", &[]),
        ("nowhere", "Pod", "2", &[]),
    ] {
        let pods = directory.pods_of_workload(namespace, kind, name);
        let pods: Vec<_> = pods.iter().map(PodKey::to_string).collect();
        assert_eq!(pods, expected, "{namespace} {kind}/{name}");
    }
    assert_eq!(directory.by_namespace(None).len(), 3);
}
