//! Answers that a test sets, and what whoever asks may do.

use http::{StatusCode, Uri};
use serde_json::Value;

use super::replies::{Answer, plain, reply};
use super::{ApiServer, Shared};

impl ApiServer {
    /// From now on answers requests for `path`, with this query or with any if it has none, so;
    /// a string in plain text.
    pub fn set_page(&self, path: &str, status: StatusCode, body: Value) {
        self.tuning().pages.insert(path.to_owned(), (status, body));
    }

    /// From now on whoever asks may not do this: `VERB RESOURCE`; or a user:
    /// `USER VERB RESOURCE`.
    pub fn deny(&self, right: &str) {
        self.tuning().denied.insert(right.to_owned());
    }
}

impl Shared {
    pub(super) fn page(&self, uri: &Uri) -> Option<Answer> {
        let whole = uri.path_and_query().map_or("", |whole| whole.as_str());
        let tuning = self.tuning();
        let page = tuning.pages.get(whole).or(tuning.pages.get(uri.path()));
        page.map(|(status, body)| match body.as_str() {
            Some(text) => plain(*status, text.to_owned()),
            None => reply(*status, body),
        })
    }
}
