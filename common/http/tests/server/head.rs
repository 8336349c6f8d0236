//! HEAD is GET without the body, over HTTP/1.1 and HTTP/2, on every path.

use common_http::Protocol;
use http::{HeaderMap, Method};
use tokio::net::TcpStream;

use crate::client::send;
use crate::running::Running;

fn without_date(mut headers: HeaderMap) -> HeaderMap {
    headers.remove("date");
    headers
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    for (protocol, is_http2) in [(Protocol::Http1, false), (Protocol::Http2, true)] {
        let server = Running::start(protocol).await;
        for path in ["/", "/nothing", "/method", "/empty", "/large"] {
            let ask = async |method| {
                let stream = TcpStream::connect(server.address).await.unwrap();
                send(stream, is_http2, method, path).await.unwrap()
            };
            let (get, head) = (ask(Method::GET).await, ask(Method::HEAD).await);
            assert_eq!(head.status, get.status, "{protocol:?} {path}");
            assert!(head.body.is_empty(), "{protocol:?} {path}");
            let (got, headers) = (without_date(get.headers), without_date(head.headers));
            assert_eq!(headers, got, "{protocol:?} {path}");
        }
    }
}
