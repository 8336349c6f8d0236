//! Limits memory and time of gRPC requests, for any service.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use common_budget::messages::{BodyError, BoxError};
use common_budget::{Bounds, Messages, Room, Size};
use common_http::Peer;
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;

/// Requests up to this size in bytes reserve no memory.
const FREE_BYTES: usize = 4 * 1024;

/// Timeout from the first byte of a request to its last.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// One peer may reserve at most 1/`PEER_PART` of the memory.
const PEER_PART: u64 = 4;

/// Wraps a service.
#[derive(Clone, Debug)]
pub(crate) struct Bounded<S> {
    service: S,
    room: Arc<Room>,
    most: usize,
}

// === impl Bounded ===

impl<S> Bounded<S> {
    /// Requests of `service` share `room`, and have at most `most` bytes each.
    pub(crate) fn new(service: S, room: Size, most: usize) -> Self {
        let one = Size::bytes(most as u64);
        let per_peer = room.part(1, PEER_PART).max(one);
        Self {
            service,
            room: Arc::new(Room::new(room.max(one), per_peer)),
            most,
        }
    }
}

impl<S: NamedService> NamedService for Bounded<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> tower_service::Service<http::Request<Body>> for Bounded<S>
where
    S: tower_service::Service<http::Request<Body>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> S::Future {
        let peer = request.extensions().get::<Arc<Peer>>();
        let bounds = Bounds {
            room: Arc::clone(&self.room),
            sender: peer.and_then(|peer| peer.ip()).into(),
            free: FREE_BYTES,
            most: self.most,
            within: REQUEST_TIMEOUT,
            refuse,
        };
        self.service
            .call(request.map(|body| Body::new(Messages::new(body, bounds))))
    }
}

fn refuse(refused: BodyError) -> BoxError {
    let text = refused.to_string();
    Box::new(match refused {
        BodyError::Full { .. } => Status::resource_exhausted(text),
        BodyError::Slow { .. } => Status::deadline_exceeded(text),
    })
}
