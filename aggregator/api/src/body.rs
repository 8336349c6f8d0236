//! Bodies of responses: whole ones, and streams of events for the page, whose number and time are
//! bounded.

use std::convert::Infallible;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response};
use http_body_util::Full;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// Streams of events at once; each is one open page, with some 16 KiB of buffers.
pub(crate) const STREAMS_MAX: usize = 64;

/// How long a stream lasts. kube-apiserver cuts a request after 60 s, and our own server a response
/// that is not complete by then: the client is to connect anew before.
pub(crate) const STREAM_WITHIN: Duration = Duration::from_secs(45);

/// A body of a response.
pub enum Body {
    Whole(Full<Bytes>),
    Events(Events),
}

/// A body that grows. It ends after 45 s, at shutdown, or with its source.
pub struct Events {
    parts: Pin<Box<dyn Stream<Item = Bytes> + Send>>,
    end: Pin<Box<Sleep>>,
    stopped: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Counts it among [`STREAMS_MAX`] until it is dropped.
    _slot: OwnedSemaphorePermit,
}

/// [`STREAMS_MAX`] streams of events are open.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error(
    "{STREAMS_MAX} pages are followed live already, which is the most that one replica serves; this one is still right whenever it is loaded anew"
)]
pub(crate) struct TooManyStreams;

/// Slots for streams of events. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Streams {
    slots: Arc<Semaphore>,
    stop: CancellationToken,
}

// === impl Streams ===

impl Streams {
    /// Streams that end when `stop` is cancelled.
    pub(crate) fn new(stop: CancellationToken) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(STREAMS_MAX)),
            stop,
        }
    }

    /// A response of media type `text/event-stream` that sends `parts` as they come, each a whole
    /// number of events. Refused if there are [`STREAMS_MAX`] already.
    pub(crate) fn events(
        &self,
        parts: impl Stream<Item = Bytes> + Send + 'static,
    ) -> Result<Response<Body>, TooManyStreams> {
        let slot = Arc::clone(&self.slots).try_acquire_owned();
        let slot = slot.map_err(|_| TooManyStreams)?;
        let mut response = Response::new(Body::Events(Events {
            parts: Box::pin(parts),
            end: Box::pin(sleep(STREAM_WITHIN)),
            stopped: Box::pin(self.stop.clone().cancelled_owned()),
            _slot: slot,
        }));
        let headers = response.headers_mut();
        let media_type = HeaderValue::from_static("text/event-stream");
        headers.insert(CONTENT_TYPE, media_type);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Ok(response)
    }
}

// === impl Body ===

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body).poll_frame(cx),
            Self::Events(events) => events
                .poll(cx)
                .map(|part| part.map(|part| Ok(Frame::data(part)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Events(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Events(_) => SizeHint::default(),
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::Whole(Full::new(bytes))
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::Whole(Full::default())
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Self::Whole(_) => "Whole",
            Self::Events(_) => "Events",
        };
        f.debug_tuple(kind).finish()
    }
}

// === impl Events ===

impl Events {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let is_over =
            self.end.as_mut().poll(cx).is_ready() || self.stopped.as_mut().poll(cx).is_ready();
        if is_over {
            return Poll::Ready(None);
        }
        self.parts.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt as _, stream};
    use http_body_util::BodyExt as _;
    use tokio::time::Instant;

    use super::*;

    fn ticking() -> impl Stream<Item = Bytes> + Send + 'static {
        stream::unfold((), |()| async {
            sleep(Duration::from_secs(1)).await;
            Some((Bytes::from_static(b"data: x\n\n"), ()))
        })
    }

    /// An endless source ends in time, and what it sent has arrived.
    #[tokio::test(start_paused = true)]
    #[expect(clippy::disallowed_methods, reason = "the clock of the test is paused")]
    async fn a_stream_ends_in_time() {
        let streams = Streams::new(CancellationToken::new());
        let began = Instant::now();
        let body = streams.events(ticking()).unwrap().into_body();
        let bytes = body.collect().await.unwrap().to_bytes();
        let events = bytes.windows(2).filter(|pair| pair == b"\n\n").count();
        assert_eq!(events, 44);
        assert_eq!(began.elapsed(), STREAM_WITHIN);
    }

    /// Shutdown waits for none of them.
    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_at_shutdown() {
        let stop = CancellationToken::new();
        let body = Streams::new(stop.clone()).events(stream::pending());
        let mut body = body.unwrap().into_body();
        stop.cancel();
        assert!(body.frame().await.is_none());
    }

    /// More than fit are refused with a sentence; one that ended makes room.
    #[tokio::test]
    async fn streams_are_bounded() {
        let streams = Streams::new(CancellationToken::new());
        let open = || streams.events(stream::pending::<Bytes>().boxed());
        let mut all: Vec<_> = (0..STREAMS_MAX).map(|_| open().unwrap()).collect();
        let refused = open().unwrap_err().to_string();
        assert!(refused.starts_with("64 pages"), "{refused}");
        all.pop();
        assert!(open().is_ok());
    }
}
