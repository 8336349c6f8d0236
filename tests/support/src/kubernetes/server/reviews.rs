//! Who a token belongs to, and who may do what.

use http::StatusCode;
use serde_json::{Value, json};

use super::Shared;
use super::replies::{Answer, reply};

/// What a review is about, as `VERB RESOURCE` or `VERB PATH`.
fn right(review: &Value) -> String {
    let asked = &review["spec"]["nonResourceAttributes"];
    if let (Some(verb), Some(path)) = (asked["verb"].as_str(), asked["path"].as_str()) {
        return format!("{verb} {path}");
    }
    let asked = &review["spec"]["resourceAttributes"];
    let text = |field: &str| asked[field].as_str().unwrap_or_default();
    format!("{} {}", text("verb"), text("resource"))
}

impl Shared {
    pub(super) fn token_review(&self, mut review: Value) -> Answer {
        self.count("tokenreviews");
        let token = review["spec"]["token"].as_str().unwrap_or_default();
        let known = self.tuning().tokens.get(token).cloned();
        let known = known.or_else(|| self.user_of_signed(token));
        let asked: Vec<&str> = match review["spec"]["audiences"].as_array() {
            Some(audiences) => audiences.iter().filter_map(Value::as_str).collect(),
            None => vec!["https://kubernetes.default.svc"],
        };
        let valid: Vec<String> = known
            .iter()
            .flat_map(|user| user.audiences.clone())
            .collect();
        let common: Vec<&str> = asked
            .into_iter()
            .filter(|asked| valid.iter().any(|valid| valid == asked))
            .collect();
        let status = match known {
            Some(user) if !common.is_empty() => json!({
                "authenticated": true,
                "user": {"username": user.username, "uid": "u", "groups": user.groups, "extra": user.extra},
                "audiences": common,
            }),
            _ => json!({"user": {}, "error": "[invalid bearer token, token is not known]"}),
        };
        review["status"] = status;
        reply(StatusCode::CREATED, &review)
    }

    pub(super) fn access_review(&self, mut review: Value) -> Answer {
        self.count("subjectaccessreviews");
        let user = review["spec"]["user"].as_str().unwrap_or_default();
        let denied = format!("{user} {}", right(&review));
        let tuning = self.tuning();
        let allowed = tuning.allowed.contains(user) && !tuning.denied.contains(&denied);
        drop(tuning);
        review["status"] = json!({"allowed": allowed, "reason": ""});
        reply(StatusCode::CREATED, &review)
    }

    pub(super) fn own_access_review(&self, mut review: Value) -> Answer {
        let allowed = !self.tuning().denied.contains(&right(&review));
        review["status"] = json!({"allowed": allowed});
        reply(StatusCode::CREATED, &review)
    }
}
