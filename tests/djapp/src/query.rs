//! Parameters of a request: `?rate=40&url=…`, values as they stand.

use http::Uri;

/// The value of `name`.
pub(crate) fn parameter<'a>(uri: &'a Uri, name: &str) -> Option<&'a str> {
    let pairs = uri.query().unwrap_or_default().split('&');
    let mut pairs = pairs.filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found_by_their_whole_name() {
        let uri: Uri = "/load?rate=40&url=http://jazz:9080/&x".parse().unwrap();
        assert_eq!(parameter(&uri, "rate"), Some("40"));
        assert_eq!(parameter(&uri, "url"), Some("http://jazz:9080/"));
        assert_eq!(parameter(&uri, "ur"), None);
        assert_eq!(parameter(&uri, "x"), None);
        assert_eq!(parameter(&"/load".parse().unwrap(), "rate"), None);
    }
}
