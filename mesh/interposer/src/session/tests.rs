use mesh_core::discovery::{CLUSTER, LISTENER};
use mesh_core::insertion::{Directions, Plugin, StreamCluster};
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
    let insertion = Insertion {
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
    Session::new(form, Arc::new(insertion), Arc::clone(rejections))
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

fn answer(nonce: &str, rejection: Option<&str>) -> Bytes {
    let status = rejection.map(|text| bytes(6, &bytes(2, text.as_bytes())));
    let fields = [
        bytes(1, b"v7"),
        bytes(4, LISTENER.as_bytes()),
        bytes(5, nonce.as_bytes()),
        status.unwrap_or_default(),
    ];
    fields.concat().into()
}

#[test]
fn what_is_accepted_is_forwarded_as_it_is() {
    let mut session = session(Form::StateOfTheWorld);
    let passed = session.response(listeners("1", "a_ingress_b"), true);
    assert_eq!(passed.changed, 1);
    let head = discovery::response_head(&passed.response).unwrap();
    assert_eq!(head.nonce, "1");
    assert_eq!(
        session.request(answer("1", None)),
        Request::Forward(answer("1", None))
    );
}

/// The original goes out at once, the origin hears of it only that it was accepted, and the change is not tried again
/// until the listeners are others.
#[test]
fn what_is_rejected_is_restored_once() {
    let mut session = session(Form::StateOfTheWorld);
    let original = listeners("1", "a_ingress_b");
    session.response(original.clone(), true);
    let Request::Restore {
        response,
        reason,
        type_url,
    } = session.request(answer("1", Some("no V8")))
    else {
        panic!("not restored");
    };
    assert_eq!((reason.as_str(), type_url.as_str()), ("no V8", LISTENER));
    assert_eq!(
        response,
        listeners("meshmeter-1", "a_ingress_b"),
        "the original but for its nonce"
    );
    assert_eq!(
        session.request(answer("meshmeter-1", None)),
        Request::Forward(answer("1", None))
    );
    let again = session.response(listeners("2", "a_ingress_b"), true);
    assert!(again.given_up);
    assert_eq!(again.response, listeners("2", "a_ingress_b"));
    let other = session.response(listeners("3", "c_ingress_d"), true);
    assert_eq!(other.changed, 1);
}

/// What the origin itself did wrong is for the origin to hear.
#[test]
fn a_rejected_original_is_told_to_the_origin() {
    let mut session = session(Form::StateOfTheWorld);
    session.response(listeners("1", "a_ingress_b"), true);
    session.request(answer("1", Some("no")));
    let told = session.request(answer("meshmeter-1", Some("bad listener")));
    assert_eq!(told, Request::Forward(answer("1", Some("bad listener"))));
    // And so is what was never changed.
    session.response(listeners("2", "egress"), true);
    let told = session.request(answer("2", Some("bad")));
    assert_eq!(told, Request::Forward(answer("2", Some("bad"))));
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
    assert_eq!(session.request(noise.clone()), Request::Forward(noise));
    assert_eq!(
        session.response(without.clone(), false),
        Passed::unchanged(without, 0)
    );
}

/// A new stream of delta discovery tells the versions Envoy has: not those that are ours.
#[test]
fn our_versions_do_not_leak() {
    let mut session = session(Form::Delta);
    let entry = |name: &[u8]| bytes(5, &[bytes(1, name), bytes(2, b"v")].concat());
    let head = [bytes(1, b"node"), bytes(2, CLUSTER.as_bytes())].concat();
    let told = [
        head.clone(),
        entry(b"theirs"),
        entry(b"meshmeter-aggregator"),
    ]
    .concat();
    let expected = [head, entry(b"theirs")].concat();
    assert_eq!(
        session.request(told.into()),
        Request::Forward(expected.into())
    );
}

/// Envoy connects again, and has not changed its mind.
#[test]
fn a_new_stream_does_not_try_again() {
    let rejections = Arc::default();
    let mut first = session_after(Form::StateOfTheWorld, &rejections);
    first.response(listeners("1", "a_ingress_b"), true);
    first.request(answer("1", Some("no V8")));
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
