//! The TCP connection to the control plane: direct, or through the proxy of the environment
//! (`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`) by CONNECT.

use std::io;

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::net::TcpStream;
use tower_service::Service as _;

use super::address::host_and_port;

/// Connects to one address.
#[derive(Clone, Debug)]
pub(super) struct Route {
    target: Uri,
    proxy: Option<Intercept>,
}

#[derive(Debug, Error)]
#[error(
    "the proxy of the environment has the scheme {0:?}; only http:// proxies are supported towards the control plane"
)]
pub struct ProxyError(String);

// === impl Route ===

impl Route {
    /// To `target`, through the proxy that `proxies` selects for it.
    pub(super) fn new(target: Uri, proxies: &Matcher) -> Result<Self, ProxyError> {
        let proxy = proxies.intercept(&target);
        if let Some(proxy) = &proxy {
            let scheme = proxy.uri().scheme_str().unwrap_or("http");
            if scheme != "http" {
                return Err(ProxyError(scheme.to_owned()));
            }
        }
        Ok(Self { target, proxy })
    }

    pub(super) async fn connect(self) -> io::Result<TokioIo<TcpStream>> {
        let stream = match self.proxy {
            None => TokioIo::new(TcpStream::connect(host_and_port(&self.target)).await?),
            Some(proxy) => {
                // CONNECT with the host name, which the proxy resolves.
                let mut tunnel = Tunnel::new(proxy.uri().clone(), HttpConnector::new());
                if let Some(auth) = proxy.basic_auth() {
                    tunnel = tunnel.with_auth(auth.clone());
                }
                let connected = tunnel.call(self.target).await;
                connected
                    .map_err(|error| io::Error::other(format!("proxy {}: {error}", proxy.uri())))?
            }
        };
        stream.inner().set_nodelay(true)?;
        Ok(stream)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use hyper_util::client::proxy::matcher::Matcher;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::Route;

    /// A proxy that sends `response` to one CONNECT; returns the request that it received.
    async fn proxy(response: &'static str) -> (String, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let url = format!("http://user:secret@{}", listener.local_addr().unwrap());
        let received = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(response.as_bytes()).await.unwrap();
            let _end = stream.read(&mut [0]).await;
            String::from_utf8(head).unwrap()
        });
        (url, received)
    }

    #[tokio::test]
    async fn connects_through_the_proxy_by_name() {
        for (target, name) in [
            ("https://envoy.example", "envoy.example:443"),
            ("https://envoy.example:8443", "envoy.example:8443"),
            (
                "http://control-plane.example:18000",
                "control-plane.example:18000",
            ),
        ] {
            let (url, received) = proxy("HTTP/1.1 200 OK\r\n\r\n").await;
            let proxies = Matcher::builder().all(url).build();
            let route = Route::new(target.parse().unwrap(), &proxies).unwrap();
            drop(route.connect().await.unwrap());
            let received = received.await.unwrap();
            assert!(
                received.starts_with(&format!("CONNECT {name} HTTP/1.1\r\n")),
                "{received}"
            );
            assert!(received.contains("dXNlcjpzZWNyZXQ="), "{received}");
        }
    }

    #[tokio::test]
    async fn a_refusing_proxy_is_named_without_its_password() {
        let (url, _received) = proxy("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").await;
        let proxies = Matcher::builder().all(url).build();
        let route = Route::new("https://envoy.example".parse().unwrap(), &proxies).unwrap();
        let error = route.connect().await.unwrap_err().to_string();
        assert!(error.starts_with("proxy http://127.0.0.1:"), "{error}");
    }

    #[test]
    fn other_proxies_are_refused_and_exceptions_go_past() {
        let target = || "https://envoy.example".parse().unwrap();
        let tls = Matcher::builder().all("https://proxy:3128").build();
        let error = Route::new(target(), &tls).unwrap_err().to_string();
        assert!(error.contains("\"https\""), "{error}");
        let except = Matcher::builder()
            .all("http://proxy:3128")
            .no(".example")
            .build();
        assert!(Route::new(target(), &except).unwrap().proxy.is_none());
    }
}
