//! What the answer to a review says besides the pod, and what is refused or left as it is.

use mesh_injector::review;
use mesh_injector::skipped::Skipped;
use mesh_injector::virtual_node::Unknown;
use serde_json::{Value, json};

use crate::{NAMESPACE, admitted, case, checks, settings};

/// The outcome names the pod, and whether an Event is to be raised.
#[test]
fn the_answer_names_the_pod() {
    let (_, answer) = admitted(&case("app-mesh/generate-name"), &settings("app-mesh"));
    assert_eq!(
        (answer.namespace.as_str(), answer.name.as_str()),
        (NAMESPACE, "jazz-v1-5d8f6c7b9d-")
    );
    assert!(!answer.dry_run);
    let (_, answer) = admitted(&case("app-mesh/dry-run"), &settings("app-mesh"));
    assert!(answer.dry_run);
    let (_, answer) = admitted(&case("app-mesh/bare"), &settings("app-mesh"));
    assert_eq!(answer.name, "jazz");
}

#[test]
fn what_is_no_pod_is_left_as_it_is() {
    let settings = settings("app-mesh");
    for change in [
        |pod: &mut Value| pod["spec"]["containers"] = Value::Null,
        |pod: &mut Value| pod["spec"]["volumes"] = json!("x"),
        |pod: &mut Value| pod["spec"]["initContainers"] = json!("x"),
        |pod: &mut Value| pod["metadata"] = json!("x"),
        |pod: &mut Value| pod["metadata"]["annotations"] = json!("x"),
        |pod: &mut Value| *pod = Value::Null,
    ] {
        let mut review = case("app-mesh/generate-name");
        change(&mut review["request"]["object"]);
        let (after, answer) = admitted(&review, &settings);
        assert_eq!(after, review["request"]["object"]);
        assert!(
            matches!(answer.skipped, Some(Skipped::NoPod(_))),
            "{:?}",
            answer.skipped
        );
    }
}

#[test]
fn what_is_no_review_is_refused_by_name() {
    for (body, why) in [
        ("{}", "apiVersion"),
        ("nonsense", "not an AdmissionReview"),
        (
            "{\"apiVersion\": \"admission.k8s.io/v1beta1\", \"request\": {\"uid\": \"1\"}}",
            "admission.k8s.io/v1 is understood",
        ),
    ] {
        let error = review::answer(body.as_bytes(), &settings("app-mesh"), &Unknown);
        let error = error.unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

/// Go's nulls are no difference: the patch of a review full of them makes the same pod as the patch
/// of one without.
#[test]
fn nulls_are_absent() {
    let review = |null: bool| {
        let mut review = case("app-mesh/bare");
        let request = &mut review["request"];
        if null {
            for (of, field) in [
                ("/object/metadata", "annotations"),
                ("/object/metadata", "labels"),
                ("/object/metadata", "ownerReferences"),
                ("/object/metadata", "creationTimestamp"),
                ("/object/spec", "initContainers"),
                ("/object/spec", "volumes"),
                ("/object/spec", "nodeSelector"),
                ("/userInfo", "groups"),
                ("/userInfo", "extra"),
                ("", "oldObject"),
                ("", "options"),
                ("", "subResource"),
                ("", "dryRun"),
            ] {
                let at = request.pointer_mut(of).and_then(Value::as_object_mut);
                if let Some(at) = at {
                    at.entry(field).or_insert(Value::Null);
                }
            }
        }
        review
    };
    let settings = settings("app-mesh");
    let (mut with, answer) = admitted(&review(true), &settings);
    let (mut without, _) = admitted(&review(false), &settings);
    assert_eq!(answer.skipped, None);
    checks::without_nulls(&mut with);
    checks::without_nulls(&mut without);
    assert_eq!(with, without);
    for (at, value) in [
        ("/request/object/spec/containers", Value::Null),
        ("/request/object", Value::Null),
    ] {
        let mut review = review(true);
        *review.pointer_mut(at).unwrap() = value;
        let answer = review::answer(review.to_string().as_bytes(), &settings, &Unknown).unwrap();
        assert_eq!(answer.review["response"]["allowed"], true, "{at}");
        assert!(matches!(answer.skipped, Some(Skipped::NoPod(_))), "{at}");
    }
}
