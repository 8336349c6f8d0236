//! Damage and foreign entries in the queue's folder: they cost what is damaged, are counted, and
//! never keep the queue from opening.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;

use super::{ROOMY, assert_nothing_unaccounted, batch, drain, segments};
use crate::queue::cursor::Cursor;
use crate::queue::{DropReason, Queue};

const RECORD: u64 = 64 + 100;

/// Makes an entry at a path; the second path is a file outside.
type Make = fn(&Path, &Path);

/// A folder with `batches` records in one segment.
fn folder_of(batches: i64) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let limits = crate::queue::Limits {
        segment_bytes: 1 << 20,
        ..ROOMY
    };
    let mut queue = Queue::open(folder.path(), limits).unwrap();
    queue.push(0, (1..=batches).map(|i| batch(0, i, 100)).collect());
    folder
}

fn flip(path: &Path, at: u64) {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

/// Timestamps of what is sent after opening `folder`, and the queue afterwards.
fn sent(folder: &Path) -> (Vec<i64>, Queue) {
    let mut queue = Queue::open(folder, ROOMY).unwrap();
    let sent = drain(&mut queue, 0);
    (sent.iter().map(|batch| batch.timestamp).collect(), queue)
}

/// One flipped bit anywhere in any record of the last segment costs that record, whether the header
/// or the body is hit.
#[test]
fn a_flipped_bit_costs_its_record_only() {
    for record in 0..3 {
        for at in (0..RECORD).step_by(7) {
            let folder = folder_of(3);
            flip(&segments(folder.path())[0], record * RECORD + at);
            let (timestamps, queue) = sent(folder.path());
            let expected: Vec<_> = (1..=3).filter(|i| *i != record.cast_signed() + 1).collect();
            assert_eq!(timestamps, expected, "record {record}, byte {at}");
            let totals = queue.totals();
            let corrupt = totals.dropped.get(&DropReason::Corrupt) == Some(&3);
            assert!(corrupt || totals.damaged_bytes == RECORD, "{totals:?}");
            assert_nothing_unaccounted(&queue);
        }
    }
}

/// A stretch of damage over several records, as from a bad sector, costs the records that it
/// touches.
#[test]
fn a_bad_sector_costs_the_records_it_touches() {
    for (from, to, lost) in [(0, 1, 1), (10, 3 * RECORD + 1, 4), (RECORD, 2 * RECORD, 1)] {
        let folder = folder_of(8);
        let path = segments(folder.path()).remove(0);
        let file = OpenOptions::new().write(true).open(path).unwrap();
        let zeros = vec![0; usize::try_from(to - from).unwrap()];
        file.write_all_at(&zeros, from).unwrap();
        let (timestamps, queue) = sent(folder.path());
        assert_eq!(timestamps.len(), 8 - lost, "{from} to {to}");
        assert_nothing_unaccounted(&queue);
    }
}

/// Numbers rise: a record that lies there once more is no record.
#[test]
fn a_record_counts_once() {
    let record = usize::try_from(RECORD).unwrap();
    let folder = folder_of(3);
    let path = segments(folder.path()).remove(0);
    let mut bytes = fs::read(&path).unwrap();
    bytes.extend_from_within(2 * record..);
    bytes.extend_from_within(..record);
    fs::write(&path, bytes).unwrap();
    let (timestamps, queue) = sent(folder.path());
    assert_eq!(timestamps, [1, 2, 3]);
    assert_eq!(queue.totals().damaged_bytes, 2 * RECORD);
}

/// However much lies between two records that is none, the second one is found.
#[test]
fn a_record_behind_garbage_is_found() {
    let record = usize::try_from(RECORD).unwrap();
    for garbage in [1, 2, 63, 65_535, 65_536, 65_537] {
        let folder = folder_of(3);
        let path = segments(folder.path()).remove(0);
        let mut bytes = fs::read(&path).unwrap();
        bytes.splice(record..record, std::iter::repeat_n(b'm', garbage));
        fs::write(&path, bytes).unwrap();
        let (timestamps, queue) = sent(folder.path());
        assert_eq!(timestamps, [1, 2, 3], "{garbage} bytes");
        let damaged = queue.totals().damaged_bytes;
        assert_eq!(damaged, u64::try_from(garbage).unwrap());
    }
}

/// What was pushed after damage was found is not lost with it.
#[test]
fn the_queue_goes_on_behind_damage() {
    let folder = folder_of(3);
    flip(&segments(folder.path())[0], 2 * RECORD);
    let mut queue = Queue::open(folder.path(), ROOMY).unwrap();
    queue.push(0, vec![batch(0, 9, 50)]);
    drop(queue);
    assert_eq!(sent(folder.path()).0, [1, 2, 9]);
}

/// A damaged cursor means that everything is sent again, and says so; no number in it can drop or
/// panic.
#[test]
fn a_damaged_cursor_drops_nothing() {
    let written = {
        let folder = folder_of(3);
        let mut queue = Queue::open(folder.path(), ROOMY).unwrap();
        let (seq, _) = queue.front(0).unwrap();
        queue.acknowledge(0, seq);
        queue.save_cursor().unwrap();
        fs::read_to_string(folder.path().join("cursor")).unwrap()
    };
    assert!(written.contains("\n0 1\n"), "{written}");
    let version = written.lines().next().unwrap();
    let impossible = Cursor {
        acknowledged: [(0, u64::MAX)].into(),
        flush: None,
    };
    let damaged = [
        written.replace("\n0 1\n", "\n0 3\n"),
        written.replace("\n0 1\n", "\n0 18446744073709551615\n"),
        written.replace("\n0 1\n", "\n0 18446744073709551616\n"),
        format!("{version}\n0 18446744073709551615\n"),
        written[..written.len() - 3].to_owned(),
        impossible.encode(),
        String::new(),
    ];
    for cursor in damaged {
        let folder = folder_of(3);
        fs::write(folder.path().join("cursor"), &cursor).unwrap();
        let (timestamps, queue) = sent(folder.path());
        assert_eq!(timestamps, [1, 2, 3], "{cursor:?}");
        let bytes = cursor.len() as u64;
        assert_eq!(queue.totals().damaged_bytes, bytes, "{cursor:?}");
    }
}

/// What a crash left half written is removed at the start, and replaces nothing.
#[test]
fn unfinished_files_are_removed() {
    let folder = folder_of(3);
    let unfinished = ["cursor.new", "state.new", "0000000000000001.new"];
    for name in unfinished {
        fs::write(folder.path().join(name), "half").unwrap();
    }
    assert_eq!(sent(folder.path()).0, [1, 2, 3]);
    for name in unfinished {
        assert!(!folder.path().join(name).exists(), "{name}");
    }
}

/// What lies under a name of the queue and is not the queue's file: set aside, whatever it is.
#[test]
fn foreign_entries_are_set_aside() {
    let outside = tempfile::tempdir().unwrap();
    let precious = outside.path().join("precious");
    let kinds: [(&str, Make); 3] = [
        ("folder", |at, _| fs::create_dir(at).unwrap()),
        ("dangling link", |at, _| {
            symlink("/nowhere/at/all", at).unwrap();
        }),
        ("link to a file", |at, target| symlink(target, at).unwrap()),
    ];
    let names = [
        "LOCK",
        "cursor",
        "cursor.new",
        "state",
        "state.new",
        "0000000000000009.seg",
        "0000000000000001.new",
    ];
    for (kind, make) in kinds {
        for name in names {
            fs::write(&precious, "precious").unwrap();
            let folder = folder_of(3);
            let at = folder.path().join(name);
            if at.exists() {
                fs::remove_file(&at).unwrap();
            }
            make(&at, &precious);
            let mut queue = Queue::open(folder.path(), ROOMY)
                .unwrap_or_else(|error| panic!("{kind} {name}: {error}"));
            queue.save_state(b"sums").unwrap();
            queue.push(0, vec![batch(0, 4, 10)]);
            queue.save_cursor().unwrap();
            let timestamps: Vec<_> = drain(&mut queue, 0).iter().map(|b| b.timestamp).collect();
            assert_eq!(timestamps, [1, 2, 3, 4], "{kind} {name}");
            assert_eq!(queue.totals().write_errors, 0, "{kind} {name}");
            assert_eq!(
                fs::read_to_string(&precious).unwrap(),
                "precious",
                "{kind} {name}"
            );
            let aside = folder.path().join(format!("{name}.foreign"));
            assert!(
                aside.symlink_metadata().is_ok(),
                "{kind} {name} is not set aside"
            );
        }
    }
}

/// Files whose names are not the queue's are left alone.
#[test]
fn other_files_are_left_alone() {
    let names = [
        "a.seg",
        "lost+found",
        "00000000000000ZZ.seg",
        "000000000000000A.seg",
        "notes.txt",
    ];
    let folder = folder_of(2);
    for name in names {
        fs::write(folder.path().join(name), "foreign").unwrap();
    }
    let (timestamps, queue) = sent(folder.path());
    assert_eq!(timestamps, [1, 2]);
    assert_eq!(queue.totals().damaged_bytes, 0);
    for name in names {
        assert_eq!(
            fs::read_to_string(folder.path().join(name)).unwrap(),
            "foreign"
        );
    }
}

/// A segment full of bytes that are no records, however long, is passed over.
#[test]
fn a_segment_of_garbage_is_passed_over() {
    let folder = folder_of(2);
    let garbage = File::create(folder.path().join("0000000000000000.seg")).unwrap();
    garbage.write_all_at(&b"mmrw".repeat(10_000), 0).unwrap();
    garbage.set_len(1 << 40).unwrap();
    let (timestamps, queue) = sent(folder.path());
    assert_eq!(timestamps, [1, 2]);
    assert_eq!(queue.totals().damaged_bytes, 1 << 40);
}

/// A header whose number is the highest there can be does not end the queue.
#[test]
fn the_highest_number_is_not_believed() {
    let folder = folder_of(2);
    let path = segments(folder.path()).remove(0);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    let mut header = [0; 64];
    file.read_exact_at(&mut header, RECORD).unwrap();
    header[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    let crc = crc32fast::hash(&header[..60]);
    header[60..].copy_from_slice(&crc.to_le_bytes());
    file.write_all_at(&header, RECORD).unwrap();
    let (timestamps, mut queue) = sent(folder.path());
    assert_eq!(timestamps, [1]);
    queue.push(0, vec![batch(0, 9, 10)]);
    assert_eq!(drain(&mut queue, 0), [batch(0, 9, 10)]);
}
