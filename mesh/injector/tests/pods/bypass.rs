//! Pods whose containers run as the user that is not redirected.

use serde_json::{Value, json};

use crate::{admitted, case, settings};

type Change = fn(&mut Value);

/// Whoever runs as the sidecar's user is not redirected: the pod is injected, and whoever applies
/// it reads why that is not enough.
#[test]
fn a_bypass_of_the_sidecar_is_said() {
    let cases: [(Change, Option<&str>); 6] = [
        (
            |pod| pod["spec"]["containers"][0]["securityContext"] = json!({"runAsUser": 1_337}),
            Some("jazz"),
        ),
        (
            |pod| pod["spec"]["securityContext"] = json!({"runAsUser": 1_337}),
            Some("jazz"),
        ),
        (
            |pod| {
                pod["spec"]["securityContext"] = json!({"runAsUser": 1_337});
                pod["spec"]["containers"][0]["securityContext"] = json!({"runAsUser": 1_000});
            },
            None,
        ),
        (
            |pod| {
                pod["spec"]["initContainers"] = json!([{"name": "once", "image": "a", "securityContext": {"runAsUser": 1_337}}]);
            },
            None,
        ),
        (
            |pod| {
                pod["spec"]["initContainers"] = json!([{"name": "beside", "image": "a", "restartPolicy": "Always", "securityContext": {"runAsUser": 1_337}}]);
            },
            Some("beside"),
        ),
        (|_| {}, None),
    ];
    for (change, who) in cases {
        let mut review = case("stock/selected");
        change(&mut review["request"]["object"]);
        for folder in ["stock", "app-mesh"] {
            let (_, answer) = admitted(&review, &settings(folder));
            assert_eq!(answer.skipped, None);
            let said = answer.bypass.as_ref().map(ToString::to_string);
            assert_eq!(said.is_some(), who.is_some(), "{folder}: {said:?}");
            let warnings = &answer.review["response"]["warnings"];
            match (said, who) {
                (Some(said), Some(who)) => {
                    assert_eq!(*warnings, json!([format!("meshmeter: {said}")]));
                    assert!(
                        said.starts_with(&format!("runs as user 1337, the sidecar's: {who};")),
                        "{said}"
                    );
                }
                _ => assert!(warnings.is_null()),
            }
        }
    }
}
