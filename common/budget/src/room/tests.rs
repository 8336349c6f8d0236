use proptest::prelude::*;
use tokio::time::{sleep, timeout};

use super::shares::GRACE;
use super::*;

const KIB: usize = 1024;

#[expect(clippy::unnecessary_wraps, reason = "as a room wants it")]
fn peer(number: u8) -> Option<IpAddr> {
    Some(IpAddr::from([10, 0, 0, number]))
}

#[tokio::test]
async fn a_peer_has_its_part_and_all_have_the_total() {
    let room = Arc::new(Room::new(Size::kib(100), Size::kib(60)));
    let take = |peer, bytes| Arc::clone(&room).take(peer, bytes);
    let first = take(peer(1), 60 * KIB).await.unwrap();
    assert_eq!(
        take(peer(1), 1).await.unwrap_err(),
        Full::Peer(Size::kib(60))
    );
    let second = take(peer(2), 40 * KIB).await.unwrap();
    assert_eq!(room.taken(), Size::kib(100));
    // It waits, and has room as soon as there is some.
    let waits = tokio::spawn(take(None, 10 * KIB));
    tokio::task::yield_now().await;
    assert!(!waits.is_finished());
    drop(second);
    waits.await.unwrap().unwrap();
    drop(first);
    assert_eq!(room.taken(), Size::default());
    assert!(room.state.lock().shares.is_empty());
    assert!(room.state.lock().signals.is_empty());
    assert_eq!(
        take(None, 101 * KIB).await.unwrap_err(),
        Full::Total(Size::kib(100))
    );
}

#[tokio::test]
async fn only_so_many_wait() {
    let room = Arc::new(Room::new(Size::kib(8), Size::kib(8)));
    let held = Arc::clone(&room).take(peer(1), 8 * KIB).await.unwrap();
    held.whole();
    let mut waiting = Vec::new();
    for _ in 0..shares::WAITING_MAX {
        let mut waits = Box::pin(Arc::clone(&room).take(None, 2 * KIB));
        assert!(timeout(Duration::ZERO, &mut waits).await.is_err());
        waiting.push(waits);
    }
    assert!(Arc::clone(&room).take(None, 2 * KIB).await.is_err());
    // Who asks for less waits instead of one of them.
    let mut modest = Box::pin(Arc::clone(&room).take(peer(2), KIB));
    assert!(timeout(Duration::ZERO, &mut modest).await.is_err());
    drop(held);
    drop(modest.await.unwrap());
    let last = waiting.pop().unwrap();
    assert_eq!(last.await.unwrap_err(), Full::Total(Size::kib(8)));
    for waits in waiting {
        drop(waits.await.unwrap());
    }
}

/// Peers that begin messages and do not end them, as many as fit and again as soon as they may:
/// somebody else waits for no longer than the grace, and its messages stay.
#[tokio::test(start_paused = true)]
async fn halves_of_messages_keep_nobody_out() {
    let room = Arc::new(Room::new(Size::kib(80), Size::kib(40)));
    for attacker in 1..9 {
        for _ in 0..10 {
            let room = Arc::clone(&room);
            tokio::spawn(async move {
                loop {
                    // Refused ones come again, and those that wait are many.
                    if let Ok(held) = Arc::clone(&room).take(peer(attacker), 10 * KIB).await {
                        held.cut().await;
                    }
                    sleep(Duration::from_millis(20)).await;
                }
            });
        }
    }
    sleep(Duration::from_secs(2)).await;
    for _ in 0..5 {
        let take = Arc::clone(&room).take(peer(100), 10 * KIB);
        let held = timeout(GRACE + Duration::from_millis(10), take).await;
        let held = held.expect("room within the grace").unwrap();
        // However long it takes from here.
        held.whole();
        let cut = timeout(2 * GRACE, held.cut()).await;
        assert!(cut.is_err(), "it is whole");
    }
}

/// Without a limit of its own one peer may have all the room, but not against others.
#[tokio::test(start_paused = true)]
async fn who_is_not_limited_keeps_nobody_out() {
    let room = Arc::new(Room::new(Size::kib(40), Size::kib(10)));
    let unlimited = |address| Sender {
        address,
        is_limited: false,
    };
    let greedy = unlimited(peer(1));
    let all = Arc::clone(&room).take(greedy, 40 * KIB).await.unwrap();
    let other = tokio::spawn(Arc::clone(&room).take(unlimited(peer(2)), 20 * KIB));
    let cut = timeout(2 * GRACE, all.cut()).await;
    cut.expect("it makes room");
    drop(all);
    other.await.unwrap().unwrap();
}

/// Nobody makes room for a peer that would hold more than itself, nor for its own.
#[tokio::test(start_paused = true)]
async fn who_holds_less_stays() {
    let room = Arc::new(Room::new(Size::kib(40), Size::kib(40)));
    let small = Arc::clone(&room).take(peer(1), 10 * KIB).await.unwrap();
    let large = Arc::clone(&room).take(peer(2), 30 * KIB).await.unwrap();
    let long = Duration::from_mins(1);
    for (peer, kib) in [(peer(3), 31), (peer(2), 10), (peer(1), 25)] {
        let take = Arc::clone(&room).take(peer, kib * KIB);
        assert!(timeout(long, take).await.is_err(), "{peer:?} {kib}");
    }
    let stays = timeout(Duration::ZERO, small.cut()).await.is_err()
        && timeout(Duration::ZERO, large.cut()).await.is_err();
    assert!(stays);
    let third = tokio::spawn(Arc::clone(&room).take(peer(3), 30 * KIB));
    large.cut().await;
    assert!(!third.is_finished(), "the room is not free yet");
    assert_eq!(large.as_cut(), Full::Cut(Size::kib(40)));
    drop(large);
    third.await.unwrap().unwrap();
    assert!(timeout(Duration::ZERO, small.cut()).await.is_err());
}

proptest! {
    /// Whatever is asked for and given back in any order, nothing is lost or given twice.
    #[test]
    fn room_is_neither_lost_nor_doubled(
        steps in proptest::collection::vec((0..5_u8, 1..30_u64, any::<bool>()), 1..80)
    ) {
        let now = clock::now();
        let mut shares = Shares::new(100, 60);
        let mut ids = Vec::new();
        let mut held = HashMap::new();
        for (nth, (number, units, gives_back)) in steps.into_iter().enumerate() {
            let address = (number > 0).then(|| IpAddr::from([10, 0, 0, number]));
            if gives_back && !ids.is_empty() {
                let id = ids.swap_remove(nth % ids.len());
                shares.release(id);
                held.remove(&id);
            } else if let Ok((id, displaced)) = shares.ask(address.into(), units) {
                held.insert(id, (units, false));
                ids.retain(|id| Some(*id) != displaced);
                ids.push(id);
                shares.cut(id, now + 2 * GRACE);
            }
            for id in shares.settle(now) {
                held.get_mut(&id).unwrap().1 = true;
            }
            let taken: u64 = held.values().filter(|(_, has)| *has).map(|(units, _)| units).sum();
            prop_assert_eq!(shares.free() + taken, 100);
        }
        for id in ids {
            shares.release(id);
        }
        prop_assert_eq!(shares.free(), 100);
        prop_assert!(shares.is_empty());
    }
}
