//! The user that a front proxy names in headers.

use std::collections::BTreeMap;

use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName};

use super::trust::IdentityHeaders;
use crate::percent;
use crate::review::User;

// === impl IdentityHeaders ===

impl IdentityHeaders {
    /// True if `headers` has any of these.
    pub(crate) fn are_in(&self, headers: &HeaderMap) -> bool {
        headers.keys().any(|name| self.has(name))
    }

    /// The named user; `None` without a name.
    pub(crate) fn user(&self, headers: &HeaderMap) -> Option<User> {
        let name = values(headers, &self.user).find(|name| !name.is_empty())?;
        let mut extra = BTreeMap::<String, Vec<String>>::new();
        for (header, value) in headers {
            let Some(key) = self.extra_key(header) else {
                continue;
            };
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            extra.entry(key).or_default().push(value);
        }
        Some(User {
            name,
            uid: values(headers, &self.uid).next().unwrap_or_default(),
            groups: values(headers, &self.group).collect(),
            extra,
        })
    }

    /// Removes headers that name or authenticate a user, so that later code cannot trust them.
    pub(crate) fn strip(&self, headers: &mut HeaderMap) {
        let named: Vec<HeaderName> = headers
            .keys()
            .filter(|name| self.has(name))
            .cloned()
            .collect();
        for name in named {
            headers.remove(name);
        }
        headers.remove(AUTHORIZATION);
    }

    fn has(&self, name: &HeaderName) -> bool {
        let lists = [&self.user, &self.uid, &self.group];
        lists.iter().any(|list| list.contains(name)) || self.extra_key(name).is_some()
    }

    /// The key of a header with an extra value. Header names are in lower case already.
    fn extra_key(&self, header: &HeaderName) -> Option<String> {
        let raw = self
            .extra_prefixes
            .iter()
            .find_map(|prefix| header.as_str().strip_prefix(prefix.as_str()))?;
        let key = percent::decode(raw).unwrap_or_else(|_| raw.to_owned());
        Some(key.to_lowercase())
    }
}

fn values<'a>(
    headers: &'a HeaderMap,
    names: &'a [HeaderName],
) -> impl Iterator<Item = String> + 'a {
    names
        .iter()
        .flat_map(|name| headers.get_all(name))
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let parse = |(name, value): &(&'static str, &str)| {
            (
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                value.parse().unwrap(),
            )
        };
        lines.iter().map(parse).collect()
    }

    /// The headers of a real kube-apiserver: groups in several lines, extra keys percent-encoded.
    #[test]
    fn reads_the_user() {
        let mut headers = headers(&[
            ("x-remote-user", "system:serviceaccount:kube-system:hpa"),
            ("x-remote-group", "system:serviceaccounts"),
            ("x-remote-group", "system:authenticated"),
            ("x-remote-uid", "uid"),
            (
                "X-Remote-Extra-Authentication.kubernetes.io%2fcredential-Id",
                "JTI=1",
            ),
            ("authorization", "Bearer t"),
            ("accept", "*/*"),
        ]);
        let names = IdentityHeaders::default();
        assert!(names.are_in(&headers));
        let user = names.user(&headers).unwrap();
        assert_eq!(user.name, "system:serviceaccount:kube-system:hpa");
        assert_eq!(user.uid, "uid");
        assert_eq!(
            user.groups,
            ["system:serviceaccounts", "system:authenticated"]
        );
        let key = "authentication.kubernetes.io/credential-id";
        assert_eq!(user.extra[key], ["JTI=1"]);
        names.strip(&mut headers);
        assert_eq!(headers.len(), 1);
    }

    /// Groups alone name nobody, but are a claim all the same.
    #[test]
    fn needs_a_name() {
        let names = IdentityHeaders::default();
        let headers = headers(&[("x-remote-group", "system:masters"), ("x-remote-user", "")]);
        assert_eq!(names.user(&headers), None);
        assert!(names.are_in(&headers));
    }
}
