//! The address of the control plane, and the AWS region in its host name.

use std::path::PathBuf;

use common_aws::host;
use http::Uri;
use thiserror::Error;

/// First labels of the host names of AWS App Mesh's control plane.
const SERVICES: [&str; 3] = [
    "appmesh-envoy-management",
    "appmesh-envoy-management-fips",
    "appmesh-preview-envoy-management",
];

#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Address {
    /// `http://HOST:PORT`
    Plain(Uri),
    /// `https://HOST`, or with a port that is not 443.
    Tls(Uri),
    /// `unix:///PATH`
    Unix(PathBuf),
}

#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("{0:?} is not https://HOST[:PORT], http://HOST:PORT or unix:///PATH")]
pub struct AddressError(String);

// === impl Address ===

impl std::str::FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let wrong = || AddressError(text.to_owned());
        if let Some(path) = text.strip_prefix("unix://") {
            let path = PathBuf::from(path);
            return if path.is_absolute() {
                Ok(Self::Unix(path))
            } else {
                Err(wrong())
            };
        }
        // HTTP leaves the default port out of the authority; with it the signed host would differ.
        let shortened = text.strip_prefix("https://").and_then(|rest| {
            let host = rest.trim_end_matches('/').strip_suffix(":443")?;
            Some(format!("https://{host}"))
        });
        let uri: Uri = shortened
            .as_deref()
            .unwrap_or(text)
            .parse()
            .map_err(|_| wrong())?;
        let authority = uri.authority().ok_or_else(wrong)?.as_str();
        if uri.path() != "/" || uri.query().is_some() || authority.contains('@') {
            return Err(wrong());
        }
        match uri.scheme_str() {
            Some("http") if uri.port().is_some() => Ok(Self::Plain(uri)),
            Some("https") => Ok(Self::Tls(uri)),
            _ => Err(wrong()),
        }
    }
}

impl Address {
    /// The region if the host name is that of AWS App Mesh's control plane.
    pub fn app_mesh_region(&self) -> Option<&str> {
        let (Self::Plain(uri) | Self::Tls(uri)) = self else {
            return None;
        };
        host::region(uri.host()?, &SERVICES)
    }

    /// Scheme and authority, such as `https://host:8443`.
    pub(super) fn base(&self) -> String {
        match self {
            Self::Plain(uri) | Self::Tls(uri) => {
                let authority = uri.authority().map_or("", |authority| authority.as_str());
                format!("{}://{authority}", uri.scheme_str().unwrap_or_default())
            }
            Self::Unix(_) => String::new(),
        }
    }
}

pub(super) fn host_and_port(uri: &Uri) -> (&str, u16) {
    let host = uri.host().unwrap_or_default();
    (host.trim_matches(['[', ']']), uri.port_u16().unwrap_or(443))
}

#[cfg(test)]
mod tests {
    use super::Address;

    fn parsed(text: &str) -> Address {
        text.parse().unwrap()
    }

    #[test]
    fn addresses_are_parsed_or_rejected() {
        assert_eq!(
            parsed("https://a.example:443"),
            parsed("https://a.example/")
        );
        assert_ne!(
            parsed("https://a.example:8443"),
            parsed("https://a.example")
        );
        assert!(matches!(parsed("http://a:1"), Address::Plain(_)));
        assert!(matches!(parsed("unix:///x.sock"), Address::Unix(_)));
        for wrong in [
            "http://a",
            "a:1",
            "ftp://a:1",
            "unix://x",
            "https://a/path",
            "https://a?b",
            "https://user@a",
            "https://",
        ] {
            let error = wrong.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains(wrong), "{error}");
        }
    }

    #[test]
    fn app_mesh_names_contain_their_region() {
        for (name, region) in [
            (
                "https://appmesh-envoy-management.us-west-2.amazonaws.com:443",
                Some("us-west-2"),
            ),
            (
                "https://appmesh-envoy-management-fips.us-east-1.amazonaws.com",
                Some("us-east-1"),
            ),
            (
                "https://appmesh-envoy-management.eu-west-1.api.aws",
                Some("eu-west-1"),
            ),
            (
                "https://appmesh-preview-envoy-management.us-west-2.amazonaws.com",
                Some("us-west-2"),
            ),
            ("https://meshmeter-control-plane.meshmeter.svc", None),
            ("https://appmesh-envoy-management.evil.example", None),
            ("https://other.us-west-2.amazonaws.com", None),
            ("unix:///x.sock", None),
        ] {
            assert_eq!(parsed(name).app_mesh_region(), region, "{name}");
        }
    }
}
