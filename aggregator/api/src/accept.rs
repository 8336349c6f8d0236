//! The `Accept` header: media types that a client accepts.

use http::HeaderMap;
use http::header::ACCEPT;

/// True if the client accepts JSON: by name, by a wildcard, or without the header. Other
/// representations (`as=Table`) are not served.
pub(crate) fn takes_json(headers: &HeaderMap) -> bool {
    let mut stated = false;
    for item in items(headers) {
        stated = true;
        let mut parts = item.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default().to_ascii_lowercase();
        let is_json = matches!(
            media_type.as_str(),
            "application/json" | "application/*" | "*/*"
        );
        if is_json && !parts.any(is_other_shape_or_refused) {
            return true;
        }
    }
    !stated
}

fn is_other_shape_or_refused(parameter: &str) -> bool {
    let Some((name, value)) = parameter.split_once('=') else {
        return false;
    };
    name == "as" || (name == "q" && value.parse::<f32>() == Ok(0.0))
}

/// True if the client accepts aggregated discovery in version v2.
pub(crate) fn takes_aggregated_discovery(headers: &HeaderMap) -> bool {
    items(headers).any(|item| {
        let mut parts = item.split(';').map(str::trim);
        let json = parts.next() == Some("application/json");
        let wanted = ["g=apidiscovery.k8s.io", "v=v2", "as=APIGroupDiscoveryList"];
        let parts: Vec<&str> = parts.collect();
        json && wanted.iter().all(|parameter| parts.contains(parameter))
    })
}

fn items(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(ACCEPT)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|item| !item.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepting(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(ACCEPT, value.parse().unwrap())])
    }

    /// The headers of kube-controller-manager, kubectl and curl get JSON; protobuf alone does not.
    #[test]
    fn knows_who_reads_json() {
        assert!(takes_json(&HeaderMap::new()));
        for (value, expected) in [
            ("application/vnd.kubernetes.protobuf, */*", true),
            ("application/json, */*", true),
            (
                "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
                true,
            ),
            ("application/json;as=Table;v=v1;g=meta.k8s.io", false),
            ("application/json;q=0, text/html", false),
            ("application/json;q=0.1", true),
            ("*/*", true),
            ("Application/JSON", true),
            ("application/vnd.kubernetes.protobuf", false),
            ("text/html", false),
        ] {
            assert_eq!(takes_json(&accepting(value)), expected, "{value}");
        }
    }

    /// What kube-apiserver sends is understood; v2beta1 alone is not served.
    #[test]
    fn knows_who_reads_aggregated_discovery() {
        for (value, expected) in [
            (
                "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json",
                true,
            ),
            (
                "application/json;v=v2; g=apidiscovery.k8s.io ;as=APIGroupDiscoveryList;profile=nopeer",
                true,
            ),
            (
                "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
                false,
            ),
            ("application/json", false),
        ] {
            assert_eq!(
                takes_aggregated_discovery(&accepting(value)),
                expected,
                "{value}"
            );
        }
    }
}
