//! Bodies that record whether they wait for us or for the peer.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Sleep, sleep};

use crate::BoxError;
use crate::activity::Activity;
use crate::clock;

/// Bytes of a response handed to hyper at once: this is the most that is buffered for an HTTP/2
/// peer with a closed window before it is noticed.
const FRAME_BYTES_MAX: usize = 16 * 1024;

/// A request in flight; ended in its `Activity` when dropped.
#[derive(Debug)]
pub(crate) struct Exchange {
    id: u64,
    activity: Arc<Activity>,
}

/// The body of a request.
#[derive(Debug)]
pub struct RequestBody {
    inner: Incoming,
    /// `None` for a body without a deadline.
    deadline: Option<Deadline>,
}

#[derive(Debug)]
struct Deadline {
    at: Pin<Box<Sleep>>,
    within: Duration,
    exchange: Arc<Exchange>,
}

/// The body of a response.
#[derive(Debug)]
pub struct ResponseBody<B> {
    /// `None` for a HEAD request.
    inner: Option<B>,
    /// Bytes read from `inner` and not yet handed to hyper.
    rest: Bytes,
    exchange: Arc<Exchange>,
}

/// A request's body was not complete in time.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BodyTimeout(Duration);

// === impl Exchange ===

impl Exchange {
    pub(crate) fn begin(activity: &Arc<Activity>) -> Arc<Self> {
        Arc::new(Self {
            id: activity.begin(),
            activity: Arc::clone(activity),
        })
    }

    pub(crate) fn answered(&self) {
        self.activity.answered(self.id, clock::now());
    }

    fn waits(&self) {
        self.activity.waits(self.id, clock::now());
    }

    fn works(&self) {
        self.activity.works(self.id);
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.activity.end(self.id, clock::now());
    }
}

// === impl RequestBody ===

impl RequestBody {
    pub(crate) fn new(inner: Incoming, within: Option<Duration>, exchange: &Arc<Exchange>) -> Self {
        let within = within.filter(|_| !inner.is_end_stream());
        let deadline = within.map(|within| Deadline {
            at: Box::pin(sleep(within)),
            within,
            exchange: Arc::clone(exchange),
        });
        Self { inner, deadline }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let frame = Pin::new(&mut self.inner).poll_frame(cx);
        let Some(deadline) = &mut self.deadline else {
            return frame.map_err(Into::into);
        };
        if let Poll::Ready(frame) = frame {
            deadline.exchange.works();
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        deadline.exchange.waits();
        ready!(deadline.at.as_mut().poll(cx));
        Poll::Ready(Some(Err(BodyTimeout(deadline.within).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if let Some(deadline) = &self.deadline {
            deadline.exchange.works();
        }
    }
}

// === impl ResponseBody ===

impl<B> ResponseBody<B> {
    pub(crate) fn new(inner: Option<B>, exchange: Arc<Exchange>) -> Self {
        Self {
            inner,
            rest: Bytes::new(),
            exchange,
        }
    }

    fn next(&mut self) -> Frame<Bytes> {
        let size = self.rest.len().min(FRAME_BYTES_MAX);
        Frame::data(self.rest.split_to(size))
    }
}

impl<B> Body for ResponseBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if this.rest.is_empty() {
            this.exchange.works();
            let Some(inner) = &mut this.inner else {
                return Poll::Ready(None);
            };
            let frame = match ready!(Pin::new(inner).poll_frame(cx)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                Some(Ok(frame)) => frame,
            };
            match frame.into_data() {
                Ok(data) => this.rest = data,
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
        // hyper polls for the next frame only when the peer has taken this one.
        this.exchange.waits();
        Poll::Ready(Some(Ok(this.next())))
    }

    fn is_end_stream(&self) -> bool {
        let over = self.inner.as_ref().is_none_or(Body::is_end_stream);
        self.rest.is_empty() && over
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let hint = self.inner.as_ref().map(Body::size_hint);
        let hint = hint.unwrap_or_else(|| SizeHint::with_exact(0));
        let mut whole = SizeHint::new();
        whole.set_lower(hint.lower() + rest);
        if let Some(upper) = hint.upper() {
            whole.set_upper(upper + rest);
        }
        whole
    }
}

// === impl BodyTimeout ===

impl fmt::Display for BodyTimeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        write!(f, "the body took longer than {seconds} s")
    }
}

impl std::error::Error for BodyTimeout {}
