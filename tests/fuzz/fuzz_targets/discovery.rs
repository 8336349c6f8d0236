//! Any bytes as the messages of a stream of aggregated discovery: the session never panics, what it
//! cannot read passes as it is, and no nonce of ours gets to the control plane.
#![no_main]

use std::sync::Arc;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use mesh_core::discovery::{self, Form, Response};
use mesh_core::injection::{Directions, Injection, Plugin, StreamCluster};
use mesh_core::wire::Message;
use session::{Limits, Session};

// The file and not its crate, which would have the SDK of AWS built for the fuzzer.
#[path = "../../../mesh/xds-proxy/src/session.rs"]
mod session;

/// Messages of one input at most.
const MESSAGES_MAX: usize = 64;

fn injection() -> Injection {
    let plugin = Plugin {
        module: "/filter.wasm".to_owned(),
        inbound: "{}".to_owned(),
        outbound: "{}".to_owned(),
    };
    Injection {
        filter: Some(plugin.clone()),
        access_log: None,
        upstream_log: Some(plugin),
        directions: Directions::Both,
        clusters: vec![StreamCluster {
            name: "meshmeter_aggregator_0".to_owned(),
            host: "aggregator".to_owned(),
            port: 1,
            tls: None,
        }],
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((first, mut rest)) = bytes.split_first() else {
        return;
    };
    let form = if first & 1 == 0 {
        Form::StateOfTheWorld
    } else {
        Form::Delta
    };
    let mut session = Session::new(form, Arc::new(injection()), Arc::default(), Limits::within(1 << 30));
    // Each message: who sends it, its length in two bytes, its bytes.
    for _ in 0..MESSAGES_MAX {
        let [side, low, high, ..] = *rest else { return };
        let length = usize::from(u16::from_le_bytes([low, high])).min(rest.len() - 3);
        let message = Bytes::copy_from_slice(&rest[3..3 + length]);
        rest = &rest[3 + length..];
        if side & 1 == 0 {
            let passed = session.response(message.clone(), side & 2 == 0);
            if Message::parse(&message).is_err() || side & 2 != 0 {
                assert_eq!(passed.response, message);
            }
            continue;
        }
        let answer = session.request(message.clone());
        if let Some(forwarded) = answer.to_control_plane {
            if Message::parse(&message).is_err() {
                assert_eq!(forwarded, message);
            } else if let Ok(head) = discovery::request_head(&forwarded, form) {
                assert!(!head.nonce.starts_with("meshmeter-"), "{head:?}");
            }
        } else {
            assert!(answer.rejected.is_some());
        }
        if let Some(response) = answer.to_envoy {
            let read = Response::parse(&response, form).unwrap();
            assert!(read.nonce().starts_with("meshmeter-"), "{read:?}");
        }
    }
});
