use std::convert::Infallible;

use http_body_util::{BodyExt as _, StreamBody};
use proptest::prelude::*;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::*;
use crate::size::Size;

const WITHIN: Duration = Duration::from_secs(10);

fn bounds(room: &Arc<Room>) -> Bounds {
    Bounds {
        room: Arc::clone(room),
        sender: Sender::default(),
        free: 100,
        most: 10_000,
        within: WITHIN,
        refuse: |refused| Box::new(refused),
    }
}

type Piece = Result<Frame<Bytes>, Infallible>;

fn channel() -> (mpsc::Sender<Piece>, StreamBody<ReceiverStream<Piece>>) {
    let (sender, pieces) = mpsc::channel(8);
    (sender, StreamBody::new(ReceiverStream::new(pieces)))
}

#[expect(clippy::unnecessary_wraps, reason = "a channel of a body has results")]
fn data(bytes: &[u8]) -> Piece {
    Ok(Frame::data(Bytes::copy_from_slice(bytes)))
}

fn message(length: usize) -> Vec<u8> {
    let mut message = vec![0];
    message.extend(u32::try_from(length).unwrap().to_be_bytes());
    message.extend(vec![7; length]);
    message
}

fn room(kib: u64) -> Arc<Room> {
    Arc::new(Room::new(Size::kib(kib), Size::kib(kib)))
}

async fn next<B>(body: &mut B) -> Result<Option<Bytes>, BodyError>
where
    B: Body<Data = Bytes, Error = BoxError> + Unpin,
{
    match body.frame().await {
        None => Ok(None),
        Some(Ok(frame)) => Ok(Some(frame.into_data().unwrap())),
        Some(Err(error)) => Err(*error.downcast_ref::<BodyError>().unwrap()),
    }
}

/// Room is taken once the length is known, before the rest is handed on, and free when the message
/// was decoded.
#[tokio::test]
async fn a_large_message_takes_room_while_it_is_under_way() {
    let (sender, body) = channel();
    let room = room(8);
    let mut body = Messages::new(body, bounds(&room));
    let whole = message(5000);
    for (part, taken) in [(&whole[..2], 0), (&whole[2..900], 5), (&whole[900..], 5)] {
        sender.send(data(part)).await.unwrap();
        assert_eq!(next(&mut body).await.unwrap().unwrap(), part);
        assert_eq!(room.taken(), Size::kib(taken));
    }
    sender.send(data(&message(100))).await.unwrap();
    next(&mut body).await.unwrap();
    assert_eq!(room.taken(), Size::default(), "small ones need none");
    drop(sender);
    assert_eq!(next(&mut body).await, Ok(None));
}

/// Another one's message waits for room, and a message that does not become whole makes way for it.
#[tokio::test(start_paused = true)]
async fn a_message_that_does_not_end_is_cut() {
    let room = room(6);
    let (slow, body) = channel();
    let mut stalled = Messages::new(body, bounds(&room));
    slow.send(data(&message(5000)[..4000])).await.unwrap();
    next(&mut stalled).await.unwrap();
    let (fast, body) = channel();
    let mut waiting = Messages::new(
        body,
        Bounds {
            within: 2 * WITHIN,
            ..bounds(&room)
        },
    );
    fast.send(data(&message(3000)[..2000])).await.unwrap();
    let (cut, passed) = tokio::join!(
        async {
            let cut = next(&mut stalled).await;
            drop(stalled);
            cut
        },
        next(&mut waiting)
    );
    assert_eq!(
        cut,
        Err(BodyError::Slow {
            bytes: 5000,
            within: WITHIN
        })
    );
    assert_eq!(passed.unwrap().unwrap().len(), 2000);
    // A prefix alone is a message that has begun.
    let (mute, body) = channel();
    let mut body = Messages::new(body, bounds(&room));
    mute.send(data(&[0, 0])).await.unwrap();
    next(&mut body).await.unwrap();
    assert_eq!(
        next(&mut body).await,
        Err(BodyError::Slow {
            bytes: 0,
            within: WITHIN
        })
    );
    assert_eq!(next(&mut body).await, Ok(None), "a refusal is the end");
}

/// A message of which nothing more comes makes room for that of another peer long before its
/// deadline; one that is whole does not.
#[tokio::test(start_paused = true)]
async fn a_message_under_way_makes_room_for_others() {
    let room = room(6);
    let of = |peer: u8| Bounds {
        sender: Some([10, 0, 0, peer].into()).into(),
        ..bounds(&room)
    };
    let (slow, body) = channel();
    let mut stalled = Messages::new(body, of(1));
    slow.send(data(&message(5000)[..4000])).await.unwrap();
    next(&mut stalled).await.unwrap();
    let (fast, body) = channel();
    let mut other = Messages::new(body, of(2));
    fast.send(data(&message(3000)[..2000])).await.unwrap();
    let both = async { tokio::join!(next(&mut stalled), next(&mut other)) };
    let both = tokio::time::timeout(Duration::from_secs(1), both).await;
    let (cut, passed) = both.expect("long before the deadline");
    let full = Full::Cut(Size::kib(6));
    assert_eq!(cut, Err(BodyError::Full { bytes: 5000, full }));
    assert_eq!(passed.unwrap().unwrap().len(), 2000);
}

proptest! {
    /// However the messages are cut into pieces, the same bytes come out, and all room is free at
    /// the end.
    #[test]
    fn pieces_do_not_matter(
        lengths in proptest::collection::vec(0..9000_usize, 1..6),
        cuts in proptest::collection::vec(1..3000_usize, 1..20),
    ) {
        let all: Vec<u8> = lengths.iter().flat_map(|length| message(*length)).collect();
        let mut pieces = Vec::new();
        let (mut at, mut cuts) = (0, cuts.into_iter().cycle());
        while at < all.len() {
            let end = (at + cuts.next().unwrap()).min(all.len());
            pieces.push(data(&all[at..end]));
            at = end;
        }
        let room = room(20);
        let pieces = StreamBody::new(tokio_stream::iter(pieces));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let out = runtime.block_on(async {
            let mut body = Messages::new(pieces, bounds(&room));
            let mut out = Vec::new();
            while let Some(data) = next(&mut body).await.unwrap() {
                out.extend_from_slice(&data);
            }
            out
        });
        prop_assert_eq!(out, all);
        prop_assert_eq!(room.taken(), Size::default());
    }
}
