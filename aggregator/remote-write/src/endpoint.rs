//! The URL of the receiver, checked for known mistakes.

use common_aws::host as aws_host;
use http::Uri;
use thiserror::Error;

/// First labels of the host names of AMP's data plane.
const SERVICES: [&str; 2] = ["aps-workspaces", "aps-workspaces-fips"];

/// A checked URL of a receiver.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Endpoint {
    url: String,
    amp_region: Option<String>,
}

#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum EndpointError {
    #[error("{0:?} is not a URL: {1}")]
    NotAUrl(String, String),
    #[error("{0:?}: the scheme must be https, or http towards a receiver without TLS")]
    Scheme(String),
    /// Credentials or a query in the URL.
    #[error("{0:?}: the URL must not contain user, password, query or fragment")]
    Extra(String),
    /// An AMP host with a path that its gateway does not route (403 "Missing Authentication
    /// Token").
    #[error(
        "{0:?}: AMP wants exactly /workspaces/<workspace id, ws-...>/api/v1/remote_write, without a slash at the end"
    )]
    AmpPath(String),
    /// An AMP host in another region than the one given.
    #[error("the host name is in region {host:?}, but the region given is {given:?}")]
    Region {
        /// Region in the host name.
        host: String,
        given: String,
    },
}

// === impl Endpoint ===

impl Endpoint {
    /// Checks `url`. `region` is the one that requests are signed for, `None` without signing.
    pub fn new(url: &str, region: Option<&str>) -> Result<Self, EndpointError> {
        let not_a_url = |why: &str| EndpointError::NotAUrl(url.to_owned(), why.to_owned());
        let uri: Uri = url
            .parse()
            .map_err(|error: http::uri::InvalidUri| not_a_url(&error.to_string()))?;
        let host = uri.host().ok_or_else(|| not_a_url("it has no host"))?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(EndpointError::Scheme(url.to_owned()));
        }
        let user = uri
            .authority()
            .is_some_and(|authority| authority.as_str().contains('@'));
        if user || uri.query().is_some() || url.contains('#') {
            return Err(EndpointError::Extra(url.to_owned()));
        }
        let amp_region = aws_host::region(host, &SERVICES).map(str::to_owned);
        if amp_region.is_some() && !is_amp_path(uri.path()) {
            return Err(EndpointError::AmpPath(url.to_owned()));
        }
        if let (Some(host), Some(given)) = (&amp_region, region)
            && host != given
        {
            return Err(EndpointError::Region {
                host: host.clone(),
                given: given.to_owned(),
            });
        }
        Ok(Self {
            url: url.to_owned(),
            amp_region,
        })
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// The region of an AMP host name; `None` for other receivers.
    pub fn amp_region(&self) -> Option<&str> {
        self.amp_region.as_deref()
    }
}

fn is_amp_path(path: &str) -> bool {
    let workspace = path
        .strip_prefix("/workspaces/")
        .and_then(|rest| rest.strip_suffix("/api/v1/remote_write"));
    let name = workspace.and_then(|workspace| workspace.strip_prefix("ws-"));
    name.is_some_and(|name| {
        !name.is_empty()
            && name
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
    })
}

#[cfg(test)]
mod tests {
    use super::{Endpoint, EndpointError};

    const AMP: &str =
        "https://aps-workspaces.eu-west-1.amazonaws.com/workspaces/ws-1a2b-3c/api/v1/remote_write";

    #[test]
    fn an_amp_workspace_tells_its_region() {
        let endpoint = Endpoint::new(AMP, Some("eu-west-1")).unwrap();
        assert_eq!(endpoint.amp_region(), Some("eu-west-1"));
        let fips = AMP.replace("aps-workspaces.", "aps-workspaces-fips.");
        assert_eq!(
            Endpoint::new(&fips, None).unwrap().amp_region(),
            Some("eu-west-1")
        );
        let dual = AMP.replace("amazonaws.com", "api.aws");
        assert_eq!(
            Endpoint::new(&dual, None).unwrap().amp_region(),
            Some("eu-west-1")
        );
    }

    #[test]
    fn any_other_receiver_is_taken_as_it_is() {
        for url in [
            "http://127.0.0.1:9090/api/v1/write",
            "https://mimir.example/api/v1/push",
            "http://[::1]:1/w",
        ] {
            assert_eq!(
                Endpoint::new(url, Some("eu-west-1")).unwrap().amp_region(),
                None,
                "{url}"
            );
        }
    }

    #[test]
    fn what_cannot_work_is_refused_with_the_reason() {
        for (url, part) in [
            (format!("{AMP}/"), "without a slash at the end"),
            (
                AMP.replace("ws-1a2b-3c", "1a2b"),
                "/workspaces/<workspace id",
            ),
            (
                AMP.replace("remote_write", "query"),
                "/workspaces/<workspace id",
            ),
            (format!("{AMP}?x=1"), "query"),
            (
                AMP.replace("https://", "https://user:password@"),
                "user, password",
            ),
            (AMP.replace("https", "ftp"), "scheme"),
            ("/api/v1/write".to_owned(), "no host"),
            ("http://a b/".to_owned(), "not a URL"),
        ] {
            let error = Endpoint::new(&url, None).unwrap_err().to_string();
            assert!(error.contains(part), "{url}: {error}");
        }
        let region = EndpointError::Region {
            host: "eu-west-1".to_owned(),
            given: "us-east-1".to_owned(),
        };
        assert_eq!(Endpoint::new(AMP, Some("us-east-1")).unwrap_err(), region);
    }
}
