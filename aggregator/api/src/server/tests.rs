use std::sync::Arc;

use aggregator_core::limits::StoreLimits;
use aggregator_core::store::Store;
use aggregator_core::time::{Clock, Monotonic, UnixMillis};
use prometheus_client::registry::Registry;
use tokio::io::AsyncReadExt as _;

use super::*;
use crate::observations::Observations;

const PATIENCE: Duration = Duration::from_secs(20);

fn server(registry: &mut Registry) -> Server {
    let api = Api::new(
        Arc::new(Store::new(StoreLimits::default())),
        Arc::default(),
        Clock::new(Monotonic::default, UnixMillis::default),
        Arc::new(Vec::new),
        Observations::register(registry),
    );
    Server::new(api, aggregator_tls::config::self_signed(&[]).unwrap())
}

/// One connection more than allowed is closed at once and counted; those that are open stay.
#[tokio::test]
async fn bounds_connections() {
    let mut registry = Registry::default();
    let server = Server {
        connections_max: 1,
        ..server(&mut registry)
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(server.serve(listener, shutdown.clone(), PATIENCE));

    let mut first = TcpStream::connect(address).await.unwrap();
    let mut second = TcpStream::connect(address).await.unwrap();
    let closed = tokio::time::timeout(PATIENCE, second.read_u8())
        .await
        .unwrap();
    assert!(closed.is_err());
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    assert!(
        text.contains("api_refused_total{reason=\"connection_limit\"} 1\n"),
        "{text}"
    );
    let nothing_yet = first.try_read(&mut [0]).unwrap_err();
    assert_eq!(nothing_yet.kind(), std::io::ErrorKind::WouldBlock);

    shutdown.cancel();
    tokio::time::timeout(PATIENCE, serving)
        .await
        .unwrap()
        .unwrap();
    assert!(first.read_u8().await.is_err());
}
