//! Any bytes as a listener and as a response of discovery: what is put in can be taken out again,
//! and gives them back. Never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mesh_core::discovery::{self, Form, Response};
use mesh_core::injection::{Directions, Injection, Plugin};
use mesh_core::listener::{insert, remove};

fn injection() -> Injection {
    let plugin = Plugin {
        module: "/filter.wasm".to_owned(),
        inbound: "{}".to_owned(),
        outbound: "{}".to_owned(),
    };
    Injection {
        filter: Some(plugin.clone()),
        access_log: Some(plugin.clone()),
        upstream_log: Some(plugin),
        directions: Directions::Both,
        clusters: Vec::new(),
    }
}

fuzz_target!(|bytes: &[u8]| {
    let injection = injection();
    if let Ok(Some(changed)) = insert(bytes, &injection) {
        assert_eq!(insert(&changed, &injection), Ok(None));
        // Unless it held parts of ours before.
        if remove(bytes) == Ok(None) {
            assert_eq!(remove(&changed), Ok(Some(bytes.to_vec())));
        }
    }
    for form in [Form::StateOfTheWorld, Form::Delta] {
        if let Ok(response) = Response::parse(bytes, form) {
            let contents = response.contents().ok();
            if let Ok(Some(changed)) = response.insert(&injection, None, |_| false) {
                assert_eq!(changed.contents, contents);
            }
        }
        let _ = discovery::request_head(bytes, form);
    }
});
