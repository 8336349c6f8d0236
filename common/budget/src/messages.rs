//! A gRPC body whose messages are held to bounds: a message larger than a few bytes needs room
//! before its bytes are taken in, and one that has begun is whole within a deadline.
//!
//! Each message begins with five bytes: whether it is compressed, and its length
//! (<https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>).

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use thiserror::Error;
use tokio::time::{Sleep, sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;

use crate::room::{Full, Reservation, Room, Sender};

/// Bytes before each message.
const PREFIX: usize = 5;

/// Room that is being taken.
type Taking = Pin<Box<dyn Future<Output = Result<Reservation, Full>> + Send>>;

/// An error as a body has it.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// What holds for the messages of one call.
#[derive(Clone, Debug)]
pub struct Bounds {
    pub room: Arc<Room>,
    /// Whose messages they are.
    pub sender: Sender,
    /// A message of up to so many bytes needs no room: what holds the call has counted it.
    pub free: usize,
    /// A message of more bytes is refused by whoever decodes it, and needs no room for that.
    pub most: usize,
    /// How long a message may take from its first byte to its last.
    pub within: Duration,
    /// The refusal as whoever reads the body understands it.
    pub refuse: fn(BodyError) -> BoxError,
}

/// Why a body ends before its time.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum BodyError {
    /// There is no room for a message.
    #[error("a message of {bytes} bytes: {full}")]
    Full { bytes: usize, full: Full },
    /// A message was not whole in time.
    #[error("a message of {bytes} bytes was not whole within {} s", within.as_secs())]
    Slow {
        /// Its length; 0 if that did not come either.
        bytes: usize,
        /// How long it may take.
        within: Duration,
    },
}

/// A body that keeps to [`Bounds`].
#[expect(missing_debug_implementations, reason = "a body has no text")]
pub struct Messages<B> {
    body: B,
    bounds: Bounds,
    framing: Framing,
    /// Data that waits for room for the message that begins in it.
    data: Option<Bytes>,
    taking: Option<Taking>,
    /// Of the message that is under way, and of those that came to their end in the last piece of
    /// data.
    held: Vec<Reservation>,
    /// Until the message under way has to make room for another one's.
    cut: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    /// When the message under way has to be whole.
    deadline: Option<Pin<Box<Sleep>>>,
    over: bool,
}

/// Where in the messages the data is.
#[derive(Clone, Copy, Debug, Default)]
struct Framing {
    prefix: [u8; PREFIX],
    /// Bytes of the prefix that are there.
    begun: usize,
    /// Length of the message under way, and what of it is to come.
    length: usize,
    left: usize,
}

// === impl Framing ===

impl Framing {
    /// Goes over `data`; returns whether a message that does not end in it began in it.
    fn pass(&mut self, mut data: &[u8]) -> bool {
        let mut began = false;
        while !data.is_empty() {
            if self.begun < PREFIX {
                began = true;
                let missing = (PREFIX - self.begun).min(data.len());
                let (prefix, rest) = data.split_at(missing);
                self.prefix[self.begun..self.begun + missing].copy_from_slice(prefix);
                self.begun += missing;
                data = rest;
                if self.begun < PREFIX {
                    break;
                }
                let [_, a, b, c, d] = self.prefix;
                self.length =
                    usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
                self.left = self.length;
            }
            let taken = self.left.min(data.len());
            self.left -= taken;
            data = &data[taken..];
            if self.left == 0 {
                self.begun = 0;
                began = false;
            }
        }
        began
    }

    /// Whether a message has begun and not ended.
    fn is_under_way(&self) -> bool {
        self.begun > 0
    }

    /// Its length, once that is known.
    fn length(&self) -> usize {
        if self.begun == PREFIX { self.length } else { 0 }
    }
}

// === impl Messages ===

impl<B> Messages<B> {
    /// The messages of `body`.
    pub fn new(body: B, bounds: Bounds) -> Self {
        Self {
            body,
            bounds,
            framing: Framing::default(),
            data: None,
            taking: None,
            held: Vec::new(),
            cut: None,
            deadline: None,
            over: false,
        }
    }

    fn refuse(&mut self, refused: BodyError) -> BoxError {
        self.over = true;
        self.taking = None;
        self.data = None;
        self.held.clear();
        (self.bounds.refuse)(refused)
    }

    /// Looks at `data` and asks for room if a message begins in it.
    fn take_in(&mut self, data: Bytes) {
        let known = self.framing.length();
        let began = self.framing.pass(&data);
        if !self.framing.is_under_way() {
            self.deadline = None;
        } else if began || self.deadline.is_none() {
            self.deadline = Some(Box::pin(sleep(self.bounds.within)));
        }
        if !self.framing.is_under_way() || began {
            self.cut = None;
            for held in &self.held {
                held.whole();
            }
        }
        let length = self.framing.length();
        // Its length may come later than its first byte.
        let new = self.framing.is_under_way() && (began || known == 0);
        if new && length > self.bounds.free && length <= self.bounds.most {
            let room = Arc::clone(&self.bounds.room);
            self.taking = Some(Box::pin(room.take(self.bounds.sender, length)));
        }
        self.data = Some(data);
    }

    fn poll_room(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BodyError>> {
        let Some(taking) = &mut self.taking else {
            return Poll::Ready(Ok(()));
        };
        let taken = ready!(taking.as_mut().poll(cx));
        self.taking = None;
        let bytes = self.framing.length();
        Poll::Ready(match taken {
            Ok(held) => {
                self.cut = Some(Box::pin(held.cut()));
                self.held.push(held);
                Ok(())
            }
            Err(full) => Err(BodyError::Full { bytes, full }),
        })
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        let Some(deadline) = &mut self.deadline else {
            return Poll::Pending;
        };
        ready!(deadline.as_mut().poll(cx));
        Poll::Ready(BodyError::Slow {
            bytes: self.framing.length(),
            within: self.bounds.within,
        })
    }

    fn poll_cut(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        let (Some(cut), Some(held)) = (&mut self.cut, self.held.last()) else {
            return Poll::Pending;
        };
        ready!(cut.as_mut().poll(cx));
        Poll::Ready(BodyError::Full {
            bytes: self.framing.length(),
            full: held.as_cut(),
        })
    }

    /// Whoever asks for more has decoded all that was whole.
    fn let_go(&mut self) {
        let keep =
            usize::from(self.framing.is_under_way() && self.framing.length() > self.bounds.free);
        let gone = self.held.len().saturating_sub(keep);
        self.held.drain(..gone);
    }
}

impl<B> Body for Messages<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if this.over {
            return Poll::Ready(None);
        }
        if this.data.is_none() {
            this.let_go();
        }
        loop {
            match this.poll_room(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(refused)) => return Poll::Ready(Some(Err(this.refuse(refused)))),
                Poll::Pending => break,
            }
            if let Some(data) = this.data.take() {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            match Pin::new(&mut this.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => this.take_in(data),
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error.into()))),
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => break,
            }
        }
        let refused = match this.poll_cut(cx) {
            Poll::Ready(refused) => refused,
            Poll::Pending => ready!(this.poll_deadline(cx)),
        };
        Poll::Ready(Some(Err(this.refuse(refused))))
    }

    fn is_end_stream(&self) -> bool {
        self.over || (self.data.is_none() && self.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests;
