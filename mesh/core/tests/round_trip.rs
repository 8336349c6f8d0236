//! Listeners that nobody thought of: what goes in comes out again, and nothing else was touched.
#![expect(clippy::unwrap_used, reason = "a test helper may panic")]

use mesh_core::discovery::{Form, LISTENER, Response};
use mesh_core::injection::{Directions, Injection, Plugin, StreamCluster};
use mesh_core::listener::{insert, remove};
use mesh_core::wire::{Message, delimited};
use proptest::arbitrary::any as arbitrary;
use proptest::prelude::{
    Just, ProptestConfig, Strategy, prop, prop_assert_eq, prop_oneof, proptest,
};

const MANAGER: &str = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const ROUTER: &str = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
const TCP: &str = "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";

fn injection(directions: Directions) -> Injection {
    let plugin = |role: &str| {
        Some(Plugin {
            module: format!("/opt/meshmeter/{role}.wasm"),
            inbound: format!("{{\"role\": \"{role}\", \"direction\": \"inbound\"}}"),
            outbound: format!("{{\"role\": \"{role}\", \"direction\": \"outbound\"}}"),
        })
    };
    Injection {
        filter: plugin("filter"),
        access_log: plugin("access_log"),
        upstream_log: plugin("upstream_log"),
        directions,
        clusters: vec![StreamCluster {
            name: "meshmeter-aggregator".to_owned(),
            host: "127.0.0.1".to_owned(),
            port: 9,
            tls: None,
        }],
    }
}

/// A message: fields in this order.
fn message(fields: &[Vec<u8>]) -> Vec<u8> {
    fields.concat()
}

fn bytes(number: u32, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    delimited(&mut out, number, content);
    out
}

fn any(type_url: &str, value: Option<&[u8]>) -> Vec<u8> {
    let value = value.map(|value| bytes(2, value)).unwrap_or_default();
    message(&[bytes(1, type_url.as_bytes()), value])
}

fn typed(name: &str, type_url: &str, value: Option<&[u8]>) -> Vec<u8> {
    message(&[bytes(1, name.as_bytes()), bytes(4, &any(type_url, value))])
}

/// A tag of a field of two bytes.
fn tag(number: u8, wire: u8) -> Vec<u8> {
    let tag = u16::from(number) << 3 | u16::from(wire);
    let [low, high] = (tag << 1).to_le_bytes();
    vec![low >> 1 | 0x80, high]
}

/// Fields that are not known to us, of all wire types.
fn unknown() -> impl Strategy<Value = Vec<u8>> {
    let number = 40_u8..110;
    prop_oneof![
        (number.clone(), any_bytes()).prop_map(|(number, content)| bytes(number.into(), &content)),
        (number.clone(), 0_u8..128)
            .prop_map(|(number, value)| [tag(number, 0), vec![value]].concat()),
        (number.clone(), prop::array::uniform4(0_u8..)).prop_map(|(number, value)| [
            tag(number, 5),
            value.to_vec()
        ]
        .concat()),
        // A number that is written longer than it need be.
        number.prop_map(|number| [tag(number, 0), vec![0x85, 0x80, 0x00]].concat()),
    ]
}

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(0_u8.., 0..200)
}

/// Fields that are known, with unknown ones anywhere between them.
fn mixed(known: Vec<Vec<u8>>, unknown: Vec<(prop::sample::Index, Vec<u8>)>) -> Vec<u8> {
    let mut fields = known;
    for (at, field) in unknown {
        let at = at.index(fields.len() + 1);
        fields.insert(at, field);
    }
    message(&fields)
}

fn strangers() -> impl Strategy<Value = Vec<(prop::sample::Index, Vec<u8>)>> {
    prop::collection::vec((arbitrary::<prop::sample::Index>(), unknown()), 0..4)
}

fn router() -> impl Strategy<Value = Vec<u8>> {
    let name = "envoy.filters.http.router";
    prop_oneof![
        Just(bytes(1, name.as_bytes())),
        Just(typed(name, ROUTER, None)),
        Just(typed(name, ROUTER, Some(&[]))),
        strangers().prop_map(move |strangers| typed(name, ROUTER, Some(&mixed(vec![], strangers)))),
    ]
}

fn manager() -> impl Strategy<Value = Vec<u8>> {
    (router(), 0_usize..3, strangers()).prop_map(|(router, others, strangers)| {
        let other = typed(
            "envoy.filters.http.lua",
            "type.googleapis.com/x.Lua",
            Some(b"\x0a\x01x"),
        );
        let mut filters = vec![bytes(5, &other); others];
        filters.push(bytes(5, &router));
        let known = [vec![bytes(2, b"ingress")], filters].concat();
        typed(
            "envoy.filters.network.http_connection_manager",
            MANAGER,
            Some(&mixed(known, strangers)),
        )
    })
}

fn chain() -> impl Strategy<Value = Vec<u8>> {
    let filter = prop_oneof![
        3 => manager(),
        1 => any_bytes().prop_map(|value| typed("envoy.filters.network.tcp_proxy", TCP, Some(&value))),
    ];
    (prop::collection::vec(filter, 0..3), strangers()).prop_map(|(filters, strangers)| {
        let filters = filters.iter().map(|filter| bytes(3, filter)).collect();
        mixed(filters, strangers)
    })
}

fn listener() -> impl Strategy<Value = Vec<u8>> {
    let chains = prop::collection::vec(chain(), 0..4);
    let default = prop::option::of(chain());
    (chains, default, 0_u8..3, strangers()).prop_map(|(chains, default, direction, strangers)| {
        let mut known = vec![bytes(1, b"lds_ingress_0.0.0.0_15000")];
        known.extend(chains.iter().map(|chain| bytes(3, chain)));
        known.push(vec![0x80, 0x01, direction]);
        known.extend(default.map(|default| bytes(25, &default)));
        mixed(known, strangers)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn what_goes_in_comes_out(listener in listener()) {
        for directions in [Directions::Inbound, Directions::Outbound, Directions::Both] {
            let injection = injection(directions);
            let Some(changed) = insert(&listener, &injection).unwrap() else {
                continue;
            };
            prop_assert_eq!(insert(&changed, &injection).unwrap(), None, "twice is once");
            let back = remove(&changed).unwrap();
            prop_assert_eq!(back.as_ref(), Some(&listener));
        }
        prop_assert_eq!(remove(&listener).unwrap(), None);
    }

    #[test]
    fn no_bytes_make_it_panic(noise in prop::collection::vec(0_u8.., 0..400), listener in listener(), at in arbitrary::<prop::sample::Index>()) {
        let injection = injection(Directions::Both);
        let _ = insert(&noise, &injection);
        let mut damaged = listener;
        let at = at.index(damaged.len());
        damaged[at] ^= 1 << (noise.len() % 8);
        if let Ok(Some(changed)) = insert(&damaged, &injection) {
            prop_assert_eq!(remove(&changed).unwrap(), Some(damaged));
        }
    }
}

fn state(response: &[u8]) -> Response<'_> {
    Response::parse(response, Form::StateOfTheWorld).unwrap()
}

/// The values of a response's resources.
fn values(response: &[u8]) -> Vec<Vec<u8>> {
    let resources = state(response).contents().unwrap();
    let value = |any: &&[u8]| {
        let any = Message::parse(any).unwrap();
        let value = any.one(2).unwrap().unwrap();
        any.content(value).unwrap().to_vec()
    };
    resources.iter().map(value).collect()
}

/// Of what a control plane really sent (`recorded/README.md`) each listener comes out again, and
/// clusters are only added.
#[test]
fn what_was_recorded_comes_out() {
    let injection = injection(Directions::Both);
    for response in [
        &include_bytes!("recorded/dj-listeners.bin")[..],
        include_bytes!("recorded/jazz-v1-listeners.bin"),
    ] {
        let changed = state(response).insert(&injection, None, |_| false);
        let changed = changed.unwrap().unwrap();
        let (before, after) = (values(response), values(&changed.response));
        assert_eq!((changed.resources, changed.malformed), (before.len(), 0));
        for (before, after) in before.iter().zip(&after) {
            assert_eq!(remove(after).unwrap().as_ref(), Some(before));
        }
    }
    for response in [
        &include_bytes!("recorded/dj-clusters.bin")[..],
        include_bytes!("recorded/jazz-v1-clusters.bin"),
    ] {
        let changed = state(response).insert(&injection, None, |_| false);
        let changed = changed.unwrap().unwrap().response;
        assert!(changed.starts_with(response), "something else was changed");
        assert_eq!(values(&changed).len(), values(response).len() + 1);
    }
}

/// Plugins of both directions get their own configuration, also if only the listener's name has it.
#[test]
fn each_side_has_its_own_configuration() {
    let filter = typed("hcm", MANAGER, Some(&bytes(5, &bytes(1, b"router"))));
    for (name, side, other) in [
        (&b"lds_ingress_x"[..], "inbound", "outbound"),
        (b"lds_egress_x", "outbound", "inbound"),
    ] {
        let listener = message(&[bytes(1, name), bytes(3, &bytes(3, &filter))]);
        let changed = insert(&listener, &injection(Directions::Both))
            .unwrap()
            .unwrap();
        let text = String::from_utf8_lossy(&changed);
        assert!(
            text.contains(&format!("\"direction\": \"{side}\"")),
            "{text}"
        );
        assert!(!text.contains(other), "{text}");
    }
}

/// In a response of either form the listeners alone are changed, and one that cannot be read stays
/// as it is.
#[test]
fn a_response_keeps_everything_else() {
    let filter = typed(
        "hcm",
        MANAGER,
        Some(&bytes(5, &bytes(1, b"envoy.filters.http.router"))),
    );
    let good = message(&[bytes(1, b"a_ingress_b"), bytes(3, &bytes(3, &filter))]);
    let bad = message(&[bytes(1, b"c_ingress_d"), vec![0x0b]]);
    for form in [Form::StateOfTheWorld, Form::Delta] {
        let wrap = |listener: &[u8]| match form {
            Form::StateOfTheWorld => any(LISTENER, Some(listener)),
            Form::Delta => message(&[bytes(3, b"name"), bytes(2, &any(LISTENER, Some(listener)))]),
        };
        let response = |first: &[u8]| {
            message(&[
                bytes(1, b"version"),
                bytes(2, &wrap(first)),
                bytes(2, &wrap(&bad)),
                bytes(4, LISTENER.as_bytes()),
                bytes(5, b"nonce-1"),
                bytes(77, b"unknown"),
            ])
        };
        let injection = injection(Directions::Inbound);
        let before = response(&good);
        let before = Response::parse(&before, form).unwrap();
        let changed = before.insert(&injection, None, |_| false).unwrap().unwrap();
        assert_eq!((changed.resources, changed.malformed), (1, 1));
        assert_eq!(changed.contents, before.contents().ok());
        let expected = insert(&good, &injection).unwrap().unwrap();
        assert_eq!(changed.response, response(&expected));
        let after = Response::parse(&changed.response, form).unwrap();
        assert_eq!((after.type_url(), after.nonce()), (LISTENER, "nonce-1"));
    }
}
