//! What a queue holds at most, and what it gives back.

use std::collections::BTreeMap;
use std::fs;

use super::{ROOMY, assert_nothing_unaccounted, batch, drain, segments};
use crate::batch::{Batch, Kind};
use crate::queue::{DropReason, Limits, Queue};

/// Bytes of a batch of 36 with its header.
const RECORD: u64 = 64 + 36;

/// A flush of `shards` batches.
fn flush(shards: u16, timestamp: i64) -> Vec<Batch> {
    (0..shards).map(|n| batch(n, timestamp, 36)).collect()
}

/// A queue in memory may use all its bytes, not one more, and uses again what was sent.
#[test]
fn all_room_in_memory_is_used_and_given_back() {
    let mut queue = Queue::in_memory(Limits {
        bytes: 10 * RECORD,
        memory_bytes: RECORD,
        ..ROOMY
    });
    for round in 0..3 {
        for timestamp in 1..=10 {
            queue.push(0, flush(1, round * 100 + timestamp));
        }
        assert_eq!(queue.totals().dropped(), 0, "round {round}");
        assert_eq!(queue.shards(), [0]);
        assert_eq!(drain(&mut queue, 0).len(), 10);
        assert_eq!(queue.shards(), [0_u16; 0]);
    }
    for timestamp in 1001..=1011 {
        queue.push(0, flush(1, timestamp));
    }
    let thinned = BTreeMap::from([(DropReason::Thinned, 5 * 3)]);
    assert_eq!(queue.totals().dropped, thinned);
    for timestamp in 1012..=1015 {
        queue.push(0, flush(1, timestamp));
    }
    assert_eq!(queue.totals().dropped, thinned, "their room is free");
    assert_nothing_unaccounted(&queue);
}

/// Where what was sent fills the disk, its room is used before anything is thinned, and what waits
/// stays what it was.
#[test]
fn what_was_sent_makes_room_before_anything_is_thinned() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits {
        bytes: 30 * RECORD,
        segment_bytes: 10 * RECORD,
        ..ROOMY
    };
    let mut queue = Queue::open(folder.path(), limits).unwrap();
    for timestamp in 1..=28 {
        queue.push(0, flush(2, timestamp));
        drain(&mut queue, 0);
    }
    assert_eq!(queue.totals().dropped(), 0);
    let on_disk = segments(folder.path()).into_iter();
    let on_disk: u64 = on_disk.map(|file| file.metadata().unwrap().len()).sum();
    assert!(on_disk <= 40 * RECORD, "{on_disk} bytes");
    let waiting: Vec<_> = (1..=28).map(|timestamp| batch(1, timestamp, 36)).collect();
    assert_eq!(drain(&mut queue, 1), waiting);
}

/// Thinning makes room on disk too, wherever the files of what was thinned lie: nothing that
/// remains is dropped for it.
#[test]
fn what_was_thinned_makes_room_on_disk() {
    let limits = Limits {
        bytes: 20 * RECORD,
        segment_bytes: 10 * RECORD,
        ..ROOMY
    };
    // Batches of a flush, which has a file of its own; flushes; those that remain.
    for (batches, flushes, remain) in [(16, 2, vec![2]), (10, 4, vec![1, 4])] {
        let folder = tempfile::tempdir().unwrap();
        let mut queue = Queue::open(folder.path(), limits).unwrap();
        (1..=flushes).for_each(|timestamp| queue.push(0, flush(batches, timestamp)));
        let reasons: Vec<_> = queue.totals().dropped.keys().copied().collect();
        assert_eq!(reasons, [DropReason::Thinned], "{flushes} flushes");
        for shard in 0..batches {
            let sent = drain(&mut queue, shard);
            let timestamps: Vec<_> = sent.iter().map(|batch| batch.timestamp).collect();
            assert_eq!(timestamps, remain, "{flushes} flushes, shard {shard}");
        }
        assert_nothing_unaccounted(&queue);
    }
}

/// What cannot be thinned goes in the order in which it came, whichever shard it is of.
#[test]
fn the_oldest_of_all_shards_goes_first() {
    let mut queue = Queue::in_memory(Limits {
        bytes: 4 * RECORD,
        ..ROOMY
    });
    for (timestamp, shard) in [(1, 1), (2, 0), (3, 2), (4, 0), (5, 1), (6, 2)] {
        let marks = Batch {
            kind: Kind::Marks,
            ..batch(shard, timestamp, 36)
        };
        queue.push(0, vec![marks]);
    }
    let mut timestamps = Vec::new();
    for shard in 0..3 {
        timestamps.extend(drain(&mut queue, shard).iter().map(|batch| batch.timestamp));
    }
    timestamps.sort_unstable();
    assert_eq!(timestamps, [3, 4, 5, 6]);
}

/// After a step back of the clock the oldest is not what has waited longest.
#[test]
fn the_oldest_and_the_first_that_wait_are_told() {
    let mut queue = Queue::in_memory(ROOMY);
    for timestamp in [5_000, 3_000, 9_000] {
        queue.push(0, flush(2, timestamp));
    }
    let waiting = queue.waiting();
    assert_eq!((waiting.oldest, waiting.first), (Some(3_000), Some(5_000)));
    assert_eq!((waiting.samples, waiting.batches), (18, 6));
    assert_eq!(waiting.bytes, 6 * RECORD);
}

/// The cursor knows the last flush before any of it was sent, and the newest of its timestamps.
#[test]
fn the_cursor_knows_the_last_flush() {
    let folder = tempfile::tempdir().unwrap();
    let mut queue = Queue::open(folder.path(), ROOMY).unwrap();
    queue.push(0, vec![batch(0, 7_000, 10), batch(0, 6_000, 10)]);
    queue.save_cursor().unwrap();
    drop(queue);
    for file in segments(folder.path()) {
        fs::remove_file(file).unwrap();
    }
    let queue = Queue::open(folder.path(), ROOMY).unwrap();
    assert_eq!(queue.last_flush(), Some(7_000));
}

/// A file goes as soon as nothing of it waits.
#[test]
fn files_go_with_what_they_hold() {
    let folder = tempfile::tempdir().unwrap();
    let limits = Limits {
        segment_bytes: 2 * RECORD,
        ..ROOMY
    };
    let mut queue = Queue::open(folder.path(), limits).unwrap();
    for timestamp in 1..=3 {
        queue.push(0, flush(2, timestamp));
    }
    for left in [3, 2, 1, 0] {
        assert_eq!(segments(folder.path()).len(), left);
        for shard in 0..2 {
            if let Some((seq, _)) = queue.front(shard) {
                queue.acknowledge(shard, seq);
            }
        }
    }
}
