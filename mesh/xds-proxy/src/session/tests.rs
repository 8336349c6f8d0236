use mesh_core::discovery::{CLUSTER, LISTENER};
use mesh_core::injection::{Directions, Plugin, StreamCluster};
use mesh_core::wire::delimited;

use super::*;

const ROUTE: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";

fn bytes(number: u32, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    delimited(&mut out, number, content);
    out
}

fn session(form: Form) -> Session {
    session_after(form, &Arc::default())
}

fn session_after(form: Form, rejections: &Arc<Rejections>) -> Session {
    let injection = Injection {
        filter: Some(Plugin {
            module: "/filter.wasm".to_owned(),
            inbound: "{}".to_owned(),
            outbound: "{}".to_owned(),
        }),
        access_log: None,
        upstream_log: None,
        directions: Directions::Inbound,
        clusters: vec![StreamCluster {
            name: "meshmeter-aggregator".to_owned(),
            host: "aggregator".to_owned(),
            port: 1,
            tls: None,
        }],
    };
    Session::new(
        form,
        Arc::new(injection),
        Arc::clone(rejections),
        Limits::within(1 << 30),
    )
}

fn any(type_url: &str, value: &[u8]) -> Vec<u8> {
    [bytes(1, type_url.as_bytes()), bytes(2, value)].concat()
}

/// A listener with one connection manager.
fn listener(name: &str) -> Vec<u8> {
    let manager = bytes(5, &bytes(1, b"router"));
    let type_url = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    let filter = bytes(4, &any(type_url, &manager));
    [bytes(1, name.as_bytes()), bytes(3, &bytes(3, &filter))].concat()
}

fn listeners(nonce: &str, name: &str) -> Bytes {
    let resource = any(LISTENER, &listener(name));
    let fields = [
        bytes(1, b"v7"),
        bytes(2, &resource),
        bytes(4, LISTENER.as_bytes()),
        bytes(5, nonce.as_bytes()),
    ];
    fields.concat().into()
}

fn ack(nonce: &str, rejection: Option<&str>) -> Bytes {
    let status = rejection.map(|text| bytes(6, &bytes(2, text.as_bytes())));
    let fields = [
        bytes(1, b"v7"),
        bytes(4, LISTENER.as_bytes()),
        bytes(5, nonce.as_bytes()),
        status.unwrap_or_default(),
    ];
    fields.concat().into()
}

fn rejected(reason: &str) -> Rejected {
    Rejected {
        type_url: LISTENER.to_owned(),
        reason: reason.to_owned(),
    }
}

fn restored(response: Bytes, reason: &str) -> RequestOutcome {
    RequestOutcome {
        to_control_plane: None,
        to_envoy: Some(response),
        rejected: Some(rejected(reason)),
    }
}

/// A delta response with listeners and names of removed ones.
fn changes(nonce: &str, names: &[&str], removed: &[&str]) -> Bytes {
    changes_of("v1", nonce, names, removed)
}

fn changes_of(version: &str, nonce: &str, names: &[&str], removed: &[&str]) -> Bytes {
    let resources = names.iter().map(|name| {
        let resource = bytes(2, &any(LISTENER, &listener(name)));
        let version = bytes(1, version.as_bytes());
        bytes(2, &[version, resource, bytes(3, name.as_bytes())].concat())
    });
    let mut fields: Vec<_> = resources.collect();
    fields.push(bytes(4, LISTENER.as_bytes()));
    fields.push(bytes(5, nonce.as_bytes()));
    fields.extend(removed.iter().map(|name| bytes(6, name.as_bytes())));
    fields.concat().into()
}

fn delta_ack(nonce: &str, rejection: Option<&str>) -> Bytes {
    let status = rejection.map(|text| bytes(7, &bytes(2, text.as_bytes())));
    let fields = [
        bytes(2, LISTENER.as_bytes()),
        bytes(6, nonce.as_bytes()),
        status.unwrap_or_default(),
    ];
    fields.concat().into()
}

#[test]
fn an_ack_is_forwarded_unchanged() {
    let mut session = session(Form::StateOfTheWorld);
    let passed = session.response(listeners("1", "a_ingress_b"), true);
    assert_eq!(passed.changed, 1);
    let read = Response::parse(&passed.response, Form::StateOfTheWorld).unwrap();
    assert_eq!(read.nonce(), "1");
    assert_eq!(
        session.request(ack("1", None)),
        RequestOutcome::forward(ack("1", None))
    );
}

/// Envoy gets the original at once, the control plane gets only its ACK, and the change is not
/// tried again until the listeners differ.
#[test]
fn a_rejected_change_is_restored_once() {
    let mut session = session(Form::StateOfTheWorld);
    let original = listeners("1", "a_ingress_b");
    session.response(original.clone(), true);
    assert_eq!(
        session.request(ack("1", Some("no V8"))),
        restored(listeners("meshmeter-1", "a_ingress_b"), "no V8"),
        "the original but for its nonce"
    );
    assert_eq!(
        session.request(ack("meshmeter-1", None)),
        RequestOutcome::forward(ack("1", None))
    );
    let same = session.response(listeners("2", "a_ingress_b"), true);
    assert!(same.given_up);
    assert_eq!(same.response, listeners("2", "a_ingress_b"));
    let other = session.response(listeners("3", "c_ingress_d"), true);
    assert_eq!(other.changed, 1);
}

/// The control plane gets Envoy's NACK of its own response.
#[test]
fn a_nack_of_the_original_reaches_the_control_plane() {
    let mut session = session(Form::StateOfTheWorld);
    session.response(listeners("1", "a_ingress_b"), true);
    session.request(ack("1", Some("no")));
    let outcome = session.request(ack("meshmeter-1", Some("bad listener")));
    assert_eq!(
        outcome,
        RequestOutcome::forward(ack("1", Some("bad listener")))
    );
    // Likewise for a response that was never changed.
    session.response(listeners("2", "egress"), true);
    let outcome = session.request(ack("2", Some("bad")));
    assert_eq!(outcome, RequestOutcome::forward(ack("2", Some("bad"))));
}

#[test]
fn other_types_and_noise_pass_untouched() {
    let mut session = session(Form::StateOfTheWorld);
    let routes: Bytes = [bytes(2, b"anything"), bytes(4, ROUTE.as_bytes())]
        .concat()
        .into();
    let noise = Bytes::from_static(&[0x0b, 1, 2]);
    let without = listeners("1", "a_ingress_b");
    assert_eq!(
        session.response(routes.clone(), true),
        Passed::unchanged(routes, 0)
    );
    assert_eq!(
        session.response(noise.clone(), true),
        Passed::unchanged(noise.clone(), 1)
    );
    assert_eq!(
        session.request(noise.clone()),
        RequestOutcome::forward(noise)
    );
    assert_eq!(
        session.response(without.clone(), false),
        Passed::unchanged(without, 0)
    );
}

/// A new delta stream lists Envoy's versions; those of added clusters are removed.
#[test]
fn our_versions_do_not_leak() {
    let mut session = session(Form::Delta);
    let entry = |name: &[u8]| bytes(5, &[bytes(1, name), bytes(2, b"v")].concat());
    let head = [bytes(1, b"node"), bytes(2, CLUSTER.as_bytes())].concat();
    let request = [
        head.clone(),
        entry(b"theirs"),
        entry(b"meshmeter-aggregator"),
    ]
    .concat();
    let expected = [head, entry(b"theirs")].concat();
    assert_eq!(
        session.request(request.into()),
        RequestOutcome::forward(expected.into())
    );
}

/// Rejections outlive the stream: Envoy would reject the same change again.
#[test]
fn a_new_stream_does_not_try_again() {
    let rejections = Arc::default();
    let mut first = session_after(Form::StateOfTheWorld, &rejections);
    first.response(listeners("1", "a_ingress_b"), true);
    first.request(ack("1", Some("no V8")));
    let mut second = session_after(Form::StateOfTheWorld, &rejections);
    assert!(
        second
            .response(listeners("1", "a_ingress_b"), true)
            .given_up
    );
    assert_eq!(
        second
            .response(listeners("2", "other_ingress_"), true)
            .changed,
        1
    );
}

/// Two responses are pending at once, and each is restored on its own.
#[test]
fn each_of_several_changes_is_restored() {
    let mut session = session(Form::Delta);
    let first = session.response(changes("1", &["a_ingress_"], &[]), true);
    let second = session.response(changes("2", &["b_ingress_"], &[]), true);
    assert_eq!((first.changed, second.changed), (1, 1));
    assert_eq!(
        session.request(delta_ack("1", Some("no"))),
        restored(changes("meshmeter-1", &["a_ingress_"], &[]), "no")
    );
    assert_eq!(
        session.request(delta_ack("2", Some("no"))),
        restored(changes("meshmeter-2", &["b_ingress_"], &[]), "no")
    );
    for (ours, theirs) in [("meshmeter-1", "1"), ("meshmeter-2", "2")] {
        assert_eq!(
            session.request(delta_ack(ours, None)),
            RequestOutcome::forward(delta_ack(theirs, None))
        );
    }
}

/// A restored response never undoes later updates or removals.
#[test]
fn a_restored_response_keeps_later_changes() {
    let mut session = session(Form::Delta);
    let names = ["a_ingress_", "b_ingress_", "c_ingress_"];
    session.response(changes("1", &names, &["d"]), true);
    session.response(changes("2", &["a_ingress_", "d"], &["c_ingress_"]), true);
    assert_eq!(
        session.request(delta_ack("1", Some("no"))),
        restored(changes("meshmeter-1", &["b_ingress_"], &[]), "no")
    );
    // Nothing is left to restore, and each delta response needs an ACK.
    session.response(changes("3", &["e_ingress_"], &[]), true);
    session.response(changes("4", &[], &["e_ingress_"]), false);
    let outcome = RequestOutcome {
        to_control_plane: Some(delta_ack("3", None)),
        to_envoy: None,
        rejected: Some(rejected("no")),
    };
    assert_eq!(session.request(delta_ack("3", Some("no"))), outcome);
}

/// A newer state of the world is on its way: the older original is not restored after it, and the
/// control plane gets no NACK.
#[test]
fn an_older_state_is_not_restored() {
    let mut session = session(Form::StateOfTheWorld);
    session.response(listeners("1", "a_ingress_b"), true);
    session.response(listeners("2", "c_ingress_d"), true);
    let nothing = RequestOutcome {
        rejected: Some(rejected("no V8")),
        ..RequestOutcome::default()
    };
    assert_eq!(session.request(ack("1", Some("no V8"))), nothing);
    assert_eq!(
        session.request(ack("2", Some("no V8"))),
        restored(listeners("meshmeter-1", "c_ingress_d"), "no V8")
    );
    assert!(
        session
            .response(listeners("3", "a_ingress_b"), true)
            .given_up
    );
}

/// A new stream gets all resources at once: those rejected before stay unchanged, others are
/// changed.
#[test]
fn a_rejected_resource_does_not_affect_others() {
    let rejections = Arc::default();
    let mut first = session_after(Form::Delta, &rejections);
    first.response(changes("1", &["a_ingress_"], &[]), true);
    first.response(changes("2", &["b_ingress_"], &[]), true);
    first.request(delta_ack("1", Some("no")));
    first.request(delta_ack("2", None));
    let mut second = session_after(Form::Delta, &rejections);
    // From another replica of the control plane, with versions of its own.
    let sent = changes_of("v9", "3", &["a_ingress_", "b_ingress_"], &[]);
    let passed = second.response(sent.clone(), true);
    assert_eq!((passed.changed, passed.given_up), (1, true));
    let contents = |response| Response::parse(response, Form::Delta)?.contents();
    let sent = contents(&sent).unwrap();
    let received = contents(&passed.response).unwrap();
    assert_eq!(received[0], sent[0]);
    assert!(received[1].len() > sent[1].len(), "nothing was inserted");
}

/// An Envoy that seldom acknowledges does not grow memory without bound.
#[test]
fn pending_responses_are_bounded() {
    let mut session = session(Form::Delta);
    for number in 0..10 * PENDING_MAX {
        let name = format!("{number}_ingress_");
        session.response(changes(&number.to_string(), &[name.as_str()], &[]), true);
    }
    assert_eq!(session.pending.len(), PENDING_MAX);
    let last = 10 * PENDING_MAX - 1;
    let rejection = delta_ack(&last.to_string(), Some("no"));
    assert!(session.request(rejection).to_envoy.is_some());
    assert_eq!(session.pending.len(), 1, "acknowledged in order");
}

/// Whether an Envoy that says this version gets the aggregators' cluster with a type of its own.
fn is_cluster_typed(form: Form, version: Option<[u8; 2]>) -> bool {
    let (node, type_url) = match form {
        Form::StateOfTheWorld => (2, 4),
        Form::Delta => (1, 2),
    };
    let build = version.map(|[major, minor]| bytes(8, &bytes(1, &[1 << 3, major, 2 << 3, minor])));
    let first = bytes(node, &build.unwrap_or_default());
    let mut session = session(form);
    // Only the first request of a stream has a node.
    for node in [first, Vec::new()] {
        session.request([node, bytes(type_url, CLUSTER.as_bytes())].concat().into());
    }
    let response = [bytes(4, CLUSTER.as_bytes()), bytes(5, b"n")].concat();
    let passed = session.response(response.into(), true);
    assert_eq!(passed.changed, 1);
    let has = |text: &[u8]| passed.response.windows(text.len()).any(|part| part == text);
    assert!(has(b"aggregator"));
    has(b"envoy.extensions.clusters.dns.v3.DnsCluster")
}

/// An Envoy that may not know the type gets the fields about which later ones warn.
#[test]
fn clusters_are_of_a_type_that_the_envoy_knows() {
    for form in [Form::StateOfTheWorld, Form::Delta] {
        for (version, typed) in [
            (None, false),
            (Some([1, 30]), false),
            (Some([1, 35]), false),
            (Some([1, 36]), true),
            (Some([1, 40]), true),
            (Some([2, 0]), true),
        ] {
            let got = is_cluster_typed(form, version);
            assert_eq!(got, typed, "{form:?} {version:?}");
        }
    }
}

/// A dynamic module is not offered to an Envoy that it is not for: the response passes unchanged.
#[test]
fn a_module_for_another_envoy_is_not_inserted() {
    let version = |minor: u64| {
        let number = [vec![0x08, 1, 0x10], vec![u8::try_from(minor).unwrap()]].concat();
        // Node.user_agent_build_version.version.
        bytes(2, &bytes(8, &bytes(1, &number)))
    };
    for (minor, inserted) in [(37, false), (38, true), (41, true), (42, false)] {
        let mut session = session(Form::StateOfTheWorld);
        let mut injection = (*session.injection).clone();
        if let Some(filter) = &mut injection.filter {
            filter.module = "/libmeshmeter_filter.so".to_owned();
        }
        session.injection = Arc::new(injection);
        let request = [version(minor), bytes(4, LISTENER.as_bytes())].concat();
        session.request(request.into());
        let passed = session.response(listeners("1", "a_ingress_b"), true);
        assert_eq!(passed.changed > 0, inserted, "Envoy 1.{minor}");
    }
}
