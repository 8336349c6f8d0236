//! The status of custom resources, which is written apart from them, and kinds that are not
//! installed.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::replies::{Answer, failure, not_found, page_not_found, reply};
use super::{Shared, Target, target};
use crate::kubernetes::custom;

impl Shared {
    /// Answers what is only different for custom resources; `None` for everything else.
    pub(super) fn of_custom(&self, method: &Method, path: &str, body: &Value) -> Option<Answer> {
        let Target {
            resource,
            namespace,
            name,
        } = target(path)?;
        if self.tuning().absent.contains(resource.plural) {
            return Some(page_not_found());
        }
        let status = custom::RESOURCES.contains(&resource) && path.ends_with("/status");
        if !status || method != Method::PATCH {
            return None;
        }
        let name = name?;
        self.count(&format!("patch {}/status", resource.plural));
        let patched = self.objects.update(resource, &namespace, &name, |held| {
            let mut object = held.cloned().ok_or_else(|| Box::new(not_found(&name)))?;
            let known = &body["metadata"]["resourceVersion"];
            if !known.is_null() && *known != object["metadata"]["resourceVersion"] {
                let message = "the object has been modified";
                return Err(Box::new(failure(StatusCode::CONFLICT, message)));
            }
            // A merge patch of one level is all that is sent; what is not status is not looked at.
            if object["status"].is_null() {
                object["status"] = json!({});
            }
            for (field, value) in body["status"].as_object().into_iter().flatten() {
                object["status"][field] = value.clone();
            }
            Ok(object)
        });
        Some(patched.map_or_else(|refused| *refused, |object| reply(StatusCode::OK, &object)))
    }
}
