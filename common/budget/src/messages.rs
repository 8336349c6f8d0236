//! A gRPC body whose messages are bounded: a message above a small size reserves memory before its
//! bytes are read, and a message must be complete within a deadline of its first byte.
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

/// A pending reservation.
type Taking = Pin<Box<dyn Future<Output = Result<Reservation, Full>> + Send>>;

/// The error type of bodies.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// The bounds of the messages of one call.
#[derive(Clone, Debug)]
pub struct Bounds {
    pub room: Arc<Room>,
    /// The sender of the messages.
    pub sender: Sender,
    /// A message of at most this many bytes needs no reservation: the call's own budget covers it.
    pub free: usize,
    /// A message of more bytes is not reserved either: the decoder refuses it by its length.
    pub most: usize,
    /// How long a message may take from its first byte to its last.
    pub within: Duration,
    /// Converts the error for the reader of the body.
    pub refuse: fn(BodyError) -> BoxError,
}

/// Why a body ended early.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum BodyError {
    /// No memory could be reserved for a message.
    #[error("a message of {bytes} bytes: {full}")]
    Full { bytes: usize, full: Full },
    /// A message was not complete within the deadline.
    #[error("a message of {bytes} bytes was not complete within {} s", within.as_secs())]
    Slow {
        /// Its length; 0 if not even that was received.
        bytes: usize,
        /// The deadline.
        within: Duration,
    },
}

/// A body that enforces [`Bounds`].
#[expect(missing_debug_implementations, reason = "a body has no text")]
pub struct Messages<B> {
    body: B,
    bounds: Bounds,
    framing: Framing,
    /// Data waiting for the reservation of the message that begins in it.
    data: Option<Bytes>,
    taking: Option<Taking>,
    /// Reservations of the incomplete message, and of those completed by the last data frame.
    held: Vec<Reservation>,
    /// Resolves when the incomplete message is cut in favour of another peer's.
    cut: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    /// The deadline of the incomplete message.
    deadline: Option<Pin<Box<Sleep>>>,
    over: bool,
}

/// The position of the data in the sequence of messages.
#[derive(Clone, Copy, Debug, Default)]
struct Framing {
    prefix: [u8; PREFIX],
    /// Bytes of the prefix received so far.
    begun: usize,
    /// Length of the incomplete message, and bytes of it still missing.
    length: usize,
    left: usize,
}

// === impl Framing ===

impl Framing {
    /// Advances over `data`; returns whether a message began in it that does not end in it.
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

    /// The incomplete message's length; 0 until the whole prefix has been received.
    fn length(&self) -> usize {
        if self.begun == PREFIX { self.length } else { 0 }
    }
}

// === impl Messages ===

impl<B> Messages<B> {
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

    /// Stores `data`, and starts a reservation for a message that begins in it.
    fn take_in(&mut self, data: Bytes) {
        let previous_length = self.framing.length();
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
        // The length may arrive in a later frame than the first byte.
        let has_length_now = self.framing.is_under_way() && (began || previous_length == 0);
        if has_length_now && length > self.bounds.free && length <= self.bounds.most {
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

    /// Releases completed messages: the reader that polls again has decoded them.
    fn release_complete(&mut self) {
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
            this.release_complete();
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
        // Reached only while a reservation or the body is pending: data that is there comes first.
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
