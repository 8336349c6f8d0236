//! The HTTP client of AWS' SDK, with the proxies of the environment.
//!
//! The SDK's own client supports no proxy. This one obeys `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`
//! and `NO_PROXY`, except for link-local addresses (`169.254.0.0/16`, `fe80::/10`,
//! `fd00:ec2::/32`): the Pod Identity agent and the instance metadata service are on this node,
//! where no proxy can reach them.

use std::net::IpAddr;

use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::{Builder, Connector};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use http::Uri;

pub(crate) fn new() -> SharedHttpClient {
    SharedHttpClient::new(Routes {
        direct: with(ProxyConfig::disabled),
        proxied: with(ProxyConfig::from_env),
    })
}

fn with(proxy: fn() -> ProxyConfig) -> SharedHttpClient {
    Builder::new().build_with_connector_fn(move |settings, components| {
        let mut builder = Connector::builder().proxy_config(proxy());
        builder.set_connector_settings(settings.cloned());
        if let Some(components) = components {
            builder.set_sleep_impl(components.sleep_impl());
        }
        builder
            .tls_provider(Provider::Rustls(CryptoMode::Ring))
            .build()
    })
}

/// A direct client or connector for link-local addresses, and a proxied one for all others.
#[derive(Debug)]
struct Routes<T> {
    direct: T,
    proxied: T,
}

impl HttpClient for Routes<SharedHttpClient> {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(Routes {
            direct: self.direct.http_connector(settings, components),
            proxied: self.proxied.http_connector(settings, components),
        })
    }
}

impl HttpConnector for Routes<SharedHttpConnector> {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        if is_on_link(request.uri()) {
            self.direct.call(request)
        } else {
            self.proxied.call(request)
        }
    }
}

/// True if the host of `url` is a link-local address.
fn is_on_link(url: &str) -> bool {
    let Ok(uri) = url.parse::<Uri>() else {
        return false;
    };
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    match host.parse() {
        Ok(IpAddr::V4(address)) => address.is_link_local(),
        Ok(IpAddr::V6(address)) => {
            address.is_unicast_link_local() || address.segments()[..2] == [0xfd00, 0x0ec2]
        }
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::is_on_link;

    #[test]
    fn agents_of_this_node_are_asked_directly() {
        for (url, on_link) in [
            ("http://169.254.170.23/v1/credentials", true),
            ("http://[fd00:ec2::23]/v1/credentials", true),
            ("http://169.254.169.254/latest/meta-data", true),
            ("http://[fd00:ec2::254]/latest/meta-data", true),
            ("http://[fe80::1]:80/", true),
            ("http://127.0.0.1:51679/v1/credentials", false),
            ("https://sts.eu-west-1.amazonaws.com/", false),
            ("https://169.254.170.23.example/", false),
            ("http://10.0.0.1/", false),
            ("http://[fd00:ec1::23]/", false),
            ("/relative", false),
        ] {
            assert_eq!(is_on_link(url), on_link, "{url}");
        }
    }
}
