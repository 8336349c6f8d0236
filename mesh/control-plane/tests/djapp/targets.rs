//! Targets of routes that are not there: what is left of a route, of its router, and what is said
//! of it.

use envoy_types::pb::envoy::config::route::v3::route::Action;
use mesh_control_plane::envoy::{CLUSTER, Snapshot};
use mesh_control_plane::mesh::{Meshes, Reason, RefusedObject};

use crate::{DJAPP, names, parse, route, snapshot, weights, without_of};

const V1: &str = "cds_egress_dj-app_jazz-v1_prod_http_9080";
const V2: &str = "cds_egress_dj-app_jazz-v2_prod_http_9080";

const SECOND_ROUTE: &str = "    - name: second
      httpRoute:
        match:
          prefix: /second
        action:
          weightedTargets:
            - virtualNodeRef:
                name: jazz-v2
              weight: 1
";

fn after(text: &str, before: &Meshes) -> (Snapshot, Vec<RefusedObject>) {
    let (meshes, refused) = Meshes::parse([("djapp.yaml", text)], before);
    (snapshot(&meshes, "dj"), refused)
}

/// The only thing that is said, of jazz's router.
fn said(refused: &[RefusedObject]) -> &str {
    let [only] = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(only.what, "VirtualRouter prod/jazz-router");
    assert_eq!(only.reason, Reason::NotFound);
    &only.why
}

/// A workload is deleted while a route gives it a share: the others get that too, its cluster goes,
/// and the service stays. When it comes back so does its share.
#[test]
fn who_is_gone_takes_nobody_along() {
    let (before, _) = parse(DJAPP);
    let gone = without_of(DJAPP, "VirtualNode", "jazz-v2");
    let why = "route jazz-route: there is no VirtualNode jazz-v2 in the mesh; its weight of 5 is left out";
    for earlier in [&before, &Meshes::default()] {
        let (meshes, refused) = Meshes::parse([("djapp.yaml", gone.as_str())], earlier);
        let dj = snapshot(&meshes, "dj");
        assert_eq!(said(&refused), why);
        assert_eq!(weights(&dj), [(V1.to_owned(), 95)]);
        assert!(names(&dj, CLUSTER).contains(&V1));
        assert!(!names(&dj, CLUSTER).contains(&V2));
        let (dj, refused) = after(DJAPP, &meshes);
        assert_eq!(refused, []);
        assert_eq!(dj, snapshot(&before, "dj"));
    }
}

/// Whoever cannot be led to is as good as gone.
#[test]
fn each_reason_is_told() {
    let v2 = "hostname: jazz-v2.prod.svc.cluster.local";
    let nowhere = DJAPP.replace(&format!("  serviceDiscovery:\n    dns:\n      {v2}\n"), "");
    let logging = DJAPP.replace(v2, &format!("{v2}\n  nothing: {{}}"));
    let elsewhere = DJAPP.replace("weight: 5\n", "weight: 5\n              port: 9081\n");
    for (text, why) in [
        (
            nowhere,
            "the VirtualNode jazz-v2 has no spec.serviceDiscovery",
        ),
        (elsewhere, "the VirtualNode jazz-v2 does not listen on 9081"),
        (logging, "the VirtualNode jazz-v2 is refused itself"),
    ] {
        assert_ne!(text, DJAPP);
        let (dj, mut refused) = after(&text, &Meshes::default());
        refused.retain(|refused| refused.what != "VirtualNode prod/jazz-v2");
        let why = format!("route jazz-route: {why}; its weight of 5 is left out");
        assert_eq!(said(&refused), why);
        assert_eq!(weights(&dj), [(V1.to_owned(), 95)]);
    }
}

/// A route that leads nowhere any more says so to whoever takes it, and the others of its router
/// lead on.
#[test]
fn a_route_without_targets_answers_503() {
    let two = DJAPP.replace(
        "    - name: jazz-route\n",
        &format!("{SECOND_ROUTE}    - name: jazz-route\n"),
    );
    // Nobody who is left has a share of it.
    let idle =
        "            - virtualNodeRef:\n                name: jazz-v1\n              weight: 0\n";
    let with_idle = two.replacen("weight: 1\n", &format!("weight: 1\n{idle}"), 1);
    for text in [two, with_idle] {
        let (before, refused) = parse(&text);
        assert_eq!(refused, []);
        let gone = without_of(&text, "VirtualNode", "jazz-v2");
        let (dj, refused) = after(&gone, &before);
        assert_eq!(refused.len(), 2);
        assert_eq!(
            said(&refused[..1]),
            "route second: there is no VirtualNode jazz-v2 in the mesh; the route answers 503"
        );
        let routes = route(&dj, "rds_egress_http_9080").virtual_hosts[0]
            .routes
            .clone();
        let Some(Action::DirectResponse(answer)) = &routes[0].action else {
            panic!("no answer");
        };
        assert_eq!(answer.status, 503);
        assert!(matches!(routes[1].action, Some(Action::Route(_))));
        assert!(!names(&dj, CLUSTER).contains(&V2));
    }
}

/// A router that leads nowhere at all is refused; if it led somewhere before it does so on.
#[test]
fn a_router_without_targets_is_refused() {
    let (before, _) = parse(DJAPP);
    let nobody = DJAPP
        .replace(
            "name: jazz-v1\n              weight",
            "name: a\n              weight",
        )
        .replace(
            "name: jazz-v2\n              weight",
            "name: b\n              weight",
        );
    let why = "route jazz-route: there is no VirtualNode a in the mesh, there is no VirtualNode b in the mesh";
    let (dj, refused) = after(&nobody, &before);
    assert_eq!(said(&refused), why);
    assert_eq!(dj, snapshot(&before, "dj"));
    // What it was before has lost a part since.
    let gone = without_of(&nobody, "VirtualNode", "jazz-v2");
    let (dj, refused) = after(&gone, &before);
    assert_eq!(said(&refused), why);
    assert_eq!(weights(&dj), [(V1.to_owned(), 95)]);
    let (dj, refused) = after(&nobody, &Meshes::default());
    assert_eq!(said(&refused[..1]), why);
    assert_eq!(
        refused[1].to_string(),
        "VirtualService prod/jazz: spec.provider.virtualRouter: the VirtualRouter jazz-router is refused itself"
    );
    assert_eq!(
        refused[2].to_string(),
        "VirtualNode prod/dj: spec.backends: the VirtualService jazz is refused itself; it is left out"
    );
    assert_eq!(route(&dj, "rds_egress_http_9080").virtual_hosts.len(), 1);
}

/// A change that names somebody who is not there yet, or by a slip, waits: what it was leads
/// everywhere.
#[test]
fn a_change_waits_for_its_targets() {
    let (before, _) = parse(DJAPP);
    let slip = DJAPP.replace(
        "name: jazz-v2\n              weight",
        "name: jazz-v3\n              weight",
    );
    let (dj, refused) = after(&slip, &before);
    assert_eq!(
        said(&refused),
        "route jazz-route: there is no VirtualNode jazz-v3 in the mesh; the router is served as it was"
    );
    assert_eq!(dj, snapshot(&before, "dj"));
    // Neither form is whole: the new one holds.
    let both = without_of(&slip, "VirtualNode", "jazz-v2").replace("weight: 95", "weight: 94");
    let (dj, refused) = after(&both, &before);
    assert!(said(&refused).ends_with("; its weight of 5 is left out"));
    assert_eq!(weights(&dj), [(V1.to_owned(), 94)]);
}
