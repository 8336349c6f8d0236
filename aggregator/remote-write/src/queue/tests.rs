//! The queue against damage, restarts and limits, and against a plain model.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

mod damage;
mod room;

use super::{DropReason, Limits, Queue};
use crate::batch::{Batch, Kind};

const ROOMY: Limits = Limits {
    bytes: 1 << 30,
    memory_bytes: 1 << 30,
    age: None,
    segment_bytes: 1_000,
};

fn batch(shard: u16, timestamp: i64, length: usize) -> Batch {
    Batch {
        shard,
        kind: Kind::Plain,
        samples: 3,
        timestamp,
        body: Bytes::from(vec![
            u8::try_from(timestamp.rem_euclid(251)).unwrap();
            length
        ]),
    }
}

/// Sends all of `shard` there is.
fn drain(queue: &mut Queue, shard: u16) -> Vec<Batch> {
    let mut sent = Vec::new();
    while let Some((seq, batch)) = queue.front(shard) {
        queue.acknowledge(shard, seq);
        sent.push(batch);
    }
    sent
}

/// recovered + pushed = acknowledged + dropped + waiting
fn assert_nothing_unaccounted(queue: &Queue) {
    let totals = queue.totals();
    let after = totals.acknowledged + totals.dropped() + queue.waiting().samples;
    assert_eq!(totals.recovered + totals.pushed, after, "{totals:?}");
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    paths.sort();
    paths
}

#[test]
fn what_was_pushed_survives_a_restart_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let pushed: Vec<_> = (0..20).map(|i| batch(i % 3, i64::from(i), 400)).collect();
    let mut queue = Queue::open(folder.path(), ROOMY).unwrap();
    for flush in pushed.chunks(3) {
        queue.push(0, flush.to_vec());
    }
    drop(queue);
    let mut queue = Queue::open(folder.path(), ROOMY).unwrap();
    assert_eq!(queue.totals().recovered, 60);
    for shard in 0..3 {
        let expected: Vec<_> = pushed
            .iter()
            .filter(|batch| batch.shard == shard)
            .cloned()
            .collect();
        assert_eq!(drain(&mut queue, shard), expected);
    }
    assert!(
        segments(folder.path()).is_empty(),
        "what was sent is removed"
    );
    assert_nothing_unaccounted(&queue);
}

#[test]
fn what_the_cursor_says_was_sent_is_not_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut queue = Queue::open(folder.path(), ROOMY).unwrap();
    queue.push(0, vec![batch(0, 1, 10), batch(1, 1, 10), batch(0, 2, 10)]);
    let (seq, _) = queue.front(0).unwrap();
    queue.acknowledge(0, seq);
    queue.save_cursor().unwrap();
    let (seq, _) = queue.front(0).unwrap();
    queue.acknowledge(0, seq);
    drop(queue); // A crash: the second acknowledgement is not on disk.
    let mut queue = Queue::open(folder.path(), ROOMY).unwrap();
    assert_eq!(drain(&mut queue, 0), [batch(0, 2, 10)]);
    assert_eq!(drain(&mut queue, 1), [batch(1, 1, 10)]);
}

#[test]
fn a_lost_or_damaged_cursor_means_again_rather_than_never() {
    for damage in [
        None,
        Some("garbage"),
        Some("meshmeter-remote-write-cursor 1\n0 x\n"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut queue = Queue::open(folder.path(), ROOMY).unwrap();
        queue.push(0, vec![batch(0, 1, 10), batch(0, 2, 10)]);
        let (seq, _) = queue.front(0).unwrap();
        queue.acknowledge(0, seq);
        queue.save_cursor().unwrap();
        drop(queue);
        let cursor = folder.path().join("cursor");
        match damage {
            None => fs::remove_file(&cursor).unwrap(),
            Some(text) => fs::write(&cursor, text).unwrap(),
        }
        let mut queue = Queue::open(folder.path(), ROOMY).unwrap();
        assert_eq!(drain(&mut queue, 0).len(), 2, "{damage:?}");
    }
}

/// Wherever a crash tears the last file, what lies before is kept, and the queue goes on. The time
/// of the last flush is known after a restart, whether it was sent or not; so is what was saved
/// with it.
#[test]
fn the_last_flush_and_its_state_survive_a_restart() {
    for sent in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let mut queue = Queue::open(folder.path(), ROOMY).unwrap();
        assert_eq!(queue.last_flush(), None);
        assert_eq!(queue.state().unwrap(), None);
        queue.save_state(b"sums").unwrap();
        queue.push(7_000, vec![batch(0, 7_000, 10), batch(1, 7_000, 10)]);
        if sent {
            drain(&mut queue, 0);
            drain(&mut queue, 1);
        }
        drop(queue);
        let queue = Queue::open(folder.path(), ROOMY).unwrap();
        assert_eq!(queue.last_flush(), Some(7_000), "sent: {sent}");
        assert_eq!(queue.state().unwrap().as_deref(), Some(b"sums".as_slice()));
    }
}

/// What another replica writes is given up and counted, and not found again.
#[test]
fn what_another_writes_is_given_up() {
    let folder = tempfile::tempdir().unwrap();
    let mut queue = Queue::open(folder.path(), ROOMY).unwrap();
    queue.push(0, vec![batch(0, 1, 10), batch(1, 1, 10)]);
    queue.discard_pending();
    assert_eq!(
        queue.totals().dropped,
        BTreeMap::from([(DropReason::OtherWriter, 6)])
    );
    assert_nothing_unaccounted(&queue);
    drop(queue);
    let queue = Queue::open(folder.path(), ROOMY).unwrap();
    assert_eq!(queue.waiting().batches, 0);
}

#[test]
fn a_torn_end_costs_the_torn_record_only() {
    let whole = 64 + 100;
    for cut in 0..=(3 * whole) {
        let folder = tempfile::tempdir().unwrap();
        let mut queue = Queue::open(folder.path(), ROOMY).unwrap();
        queue.push(0, (1..=3).map(|i| batch(0, i, 100)).collect());
        drop(queue);
        let path = segments(folder.path()).remove(0);
        OpenOptions::new()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(cut)
            .unwrap();
        let mut queue = Queue::open(folder.path(), ROOMY).unwrap();
        assert_eq!(queue.totals().damaged_bytes, cut % whole, "cut at {cut}");
        queue.push(0, vec![batch(0, 9, 50)]);
        drop(queue);
        let mut queue = Queue::open(folder.path(), ROOMY).unwrap();
        let kept = i64::try_from(cut / whole).unwrap();
        let timestamps: Vec<_> = drain(&mut queue, 0)
            .iter()
            .map(|batch| batch.timestamp)
            .collect();
        let expected: Vec<_> = (1..=kept).chain([9]).collect();
        assert_eq!(timestamps, expected, "cut at {cut}");
    }
}

/// A flipped byte anywhere never gives another batch than one that was pushed, and the queue opens.
#[test]
fn a_flipped_byte_is_noticed() {
    for at in 0..(4 * (64 + 20)) {
        let folder = tempfile::tempdir().unwrap();
        let limits = Limits {
            segment_bytes: 2 * (64 + 20),
            ..ROOMY
        };
        let pushed: Vec<_> = (1..=4).map(|i| batch(0, i, 20)).collect();
        let mut queue = Queue::open(folder.path(), limits).unwrap();
        for batch in &pushed {
            queue.push(0, vec![batch.clone()]);
        }
        drop(queue);
        let files = segments(folder.path());
        let per_file = 2 * (64 + 20);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(&files[at / per_file])
            .unwrap();
        let offset = (at % per_file) as u64;
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).unwrap();
        file.write_all_at(&[byte[0] ^ 0x10], offset).unwrap();
        let mut queue = Queue::open(folder.path(), limits).unwrap();
        let sent = drain(&mut queue, 0);
        assert!(
            sent.len() >= 2,
            "at {at}: only {} of 4 survived",
            sent.len()
        );
        assert!(sent.len() < 4 || sent == pushed, "at {at}");
        assert!(sent.iter().all(|batch| pushed.contains(batch)), "at {at}");
        let totals = queue.totals();
        let noticed = totals.damaged_bytes > 0 || totals.dropped.contains_key(&DropReason::Corrupt);
        assert!(noticed || sent == pushed, "at {at}: damage went unnoticed");
        assert_nothing_unaccounted(&queue);
    }
}

#[test]
fn a_second_process_is_kept_out() {
    let folder = tempfile::tempdir().unwrap();
    let _first = Queue::open(folder.path(), ROOMY).unwrap();
    let error = Queue::open(folder.path(), ROOMY).unwrap_err();
    assert_eq!(error.to_string(), "another process has this queue open");
}

#[test]
fn a_full_queue_thins_running_totals_before_it_drops_any() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits {
        bytes: 20 * (64 + 36),
        ..ROOMY
    };
    let mut queue = Queue::open(folder.path(), limits).unwrap();
    let marks = Batch {
        kind: Kind::Marks,
        ..batch(0, 1, 36)
    };
    queue.push(0, vec![marks.clone()]);
    for timestamp in 2..=40 {
        queue.push(0, vec![batch(0, timestamp, 36)]);
    }
    assert!(queue.waiting().bytes <= limits.bytes);
    assert!(!queue.totals().dropped.contains_key(&DropReason::Full));
    assert_nothing_unaccounted(&queue);
    drop(queue);
    let mut queue = Queue::open(folder.path(), limits).unwrap();
    let sent = drain(&mut queue, 0);
    assert_eq!(sent.first(), Some(&marks), "what is said once is kept");
    assert_eq!(
        sent.last(),
        Some(&batch(0, 40, 36)),
        "the newest totals are kept"
    );
    assert!(
        sent.windows(2)
            .all(|pair| pair[0].timestamp < pair[1].timestamp)
    );
}

#[test]
fn what_cannot_be_thinned_is_dropped_oldest_first() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits {
        bytes: 10 * (64 + 36),
        segment_bytes: 300,
        ..ROOMY
    };
    let mut queue = Queue::open(folder.path(), limits).unwrap();
    for timestamp in 1..=30 {
        let marks = Batch {
            kind: Kind::Marks,
            ..batch(0, timestamp, 36)
        };
        queue.push(0, vec![marks]);
    }
    assert_eq!(queue.totals().dropped.get(&DropReason::Full), Some(&60));
    let timestamps: Vec<_> = drain(&mut queue, 0)
        .iter()
        .map(|batch| batch.timestamp)
        .collect();
    assert_eq!(timestamps, (21..=30).collect::<Vec<_>>());
    assert_nothing_unaccounted(&queue);
}

#[test]
fn what_is_too_old_is_dropped() {
    let mut queue = Queue::in_memory(Limits {
        age: Some(Duration::from_secs(10)),
        ..ROOMY
    });
    queue.push(1_000, vec![batch(0, 1_000, 10), batch(1, 1_000, 10)]);
    queue.push(5_000, vec![batch(0, 5_000, 10)]);
    queue.enforce(11_000);
    assert_eq!(queue.waiting().batches, 3, "ten seconds old is not too old");
    queue.enforce(11_001);
    assert_eq!(queue.waiting().batches, 1);
    assert_eq!(
        queue.totals().dropped,
        BTreeMap::from([(DropReason::TooOld, 6)])
    );
    assert_nothing_unaccounted(&queue);
}

#[test]
fn a_disk_that_takes_nothing_costs_memory_up_to_its_limit() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits {
        memory_bytes: 5 * (64 + 36),
        segment_bytes: 1,
        ..ROOMY
    };
    let mut queue = Queue::open(folder.path(), limits).unwrap();
    queue.push(0, vec![batch(0, 0, 36)]);
    fs::remove_dir_all(folder.path()).unwrap();
    for timestamp in 1..=4 {
        queue.push(0, vec![batch(0, timestamp, 36)]);
    }
    assert_eq!(queue.totals().write_errors, 4);
    assert_eq!(queue.waiting().batches, 5);
    for timestamp in 5..=20 {
        queue.push(0, vec![batch(0, timestamp, 36)]);
    }
    assert!(queue.waiting().batches <= 6);
    assert_eq!(drain(&mut queue, 0).last(), Some(&batch(0, 20, 36)));
    assert_nothing_unaccounted(&queue);
}

#[test]
fn a_body_that_no_request_may_have_is_counted_and_dropped() {
    let mut queue = Queue::in_memory(ROOMY);
    queue.push(0, vec![batch(0, 1, 3 * 1024 * 1024), batch(0, 1, 10)]);
    assert_eq!(
        queue.totals().dropped,
        BTreeMap::from([(DropReason::TooLarge, 3)])
    );
    assert_eq!(drain(&mut queue, 0), [batch(0, 1, 10)]);
}

#[derive(Clone, Debug)]
enum Operation {
    Push(Vec<(u16, usize)>),
    Send(u16),
    SaveCursor,
    Restart,
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let one = prop_oneof![
        4 => prop::collection::vec((0_u16..3, 0_usize..300), 0..5).prop_map(Operation::Push),
        6 => (0_u16..3).prop_map(Operation::Send),
        1 => Just(Operation::SaveCursor),
        1 => Just(Operation::Restart),
    ];
    prop::collection::vec(one, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Each shard's batches come out in the order they went in; after a restart from the saved
    /// cursor on, so some come twice, none is left out.
    #[test]
    fn agrees_with_plain_lists(operations in operations()) {
        let folder = tempfile::tempdir().unwrap();
        let mut queue = Queue::open(folder.path(), ROOMY).unwrap();
        let mut lists: BTreeMap<u16, Vec<Batch>> = BTreeMap::new();
        let mut next: BTreeMap<u16, usize> = BTreeMap::new();
        let mut saved = next.clone();
        let mut timestamp = 0;
        for operation in operations {
            match operation {
                Operation::Push(flush) => {
                    timestamp += 1;
                    let batches: Vec<_> = flush.iter().map(|(shard, len)| batch(*shard, timestamp, *len)).collect();
                    for batch in &batches {
                        lists.entry(batch.shard).or_default().push(batch.clone());
                    }
                    queue.push(0, batches);
                }
                Operation::Send(shard) => {
                    let at = next.entry(shard).or_default();
                    let expected = lists.get(&shard).and_then(|list| list.get(*at));
                    let front = queue.front(shard);
                    prop_assert_eq!(front.as_ref().map(|(_, batch)| batch), expected);
                    if let Some((seq, _)) = front {
                        queue.acknowledge(shard, seq);
                        *at += 1;
                    }
                }
                Operation::SaveCursor => {
                    queue.save_cursor().unwrap();
                    saved = next.clone();
                }
                Operation::Restart => {
                    drop(queue);
                    queue = Queue::open(folder.path(), ROOMY).unwrap();
                    // Segments that were sent are gone; what lies in one that is not comes again.
                    for (shard, at) in &mut next {
                        let first = saved.get(shard).copied().unwrap_or(0);
                        let list = lists.get(shard).map_or(&[][..], Vec::as_slice);
                        let left = queue.pending.get(shard).map_or(0, std::collections::VecDeque::len);
                        prop_assert!(list.len() - left >= first && list.len() - left <= *at);
                        *at = list.len() - left;
                    }
                    saved = next.clone();
                }
            }
            assert_nothing_unaccounted(&queue);
        }
    }
}
