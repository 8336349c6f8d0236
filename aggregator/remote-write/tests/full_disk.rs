//! A disk that is full: files of this process cannot grow beyond 64 KiB, so that writes are cut
//! short, as by `ENOSPC`.

use std::env;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use aggregator_remote_write::batch::{Batch, Kind};
use aggregator_remote_write::queue::{DropReason, Limits, Queue};

const FOLDER: &str = "FULL_DISK_FOLDER";
/// Folder in that one, with the files as they were when the disk first refused a flush.
const REFUSED: &str = "refused";
/// Batches of a flush: of the one that the disk refuses some would fit.
const FLUSH: usize = 5;
const FLUSHES: i64 = 12;
const SAMPLES: u64 = 3 * 5 * 12;
const LIMITS: Limits = Limits {
    bytes: 1 << 30,
    memory_bytes: 100_000,
    age: None,
    segment_bytes: 1 << 20,
};

fn batch(timestamp: i64) -> Batch {
    Batch {
        shard: 0,
        kind: Kind::Marks,
        samples: 3,
        timestamp,
        body: vec![u8::try_from(timestamp % 251).unwrap_or_default(); 5_000].into(),
    }
}

/// In a process of its own, since the limit is one of the process.
#[test]
fn a_full_disk_costs_nothing_that_fits_memory_and_what_does_not_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let script = "trap '' XFSZ; ulimit -f 128; exec \"$0\" --exact --ignored --nocapture in_a_process_with_small_files";
    let status = Command::new("sh")
        .args(["-c", script])
        .arg(env::current_exe().unwrap())
        .env(FOLDER, folder.path())
        .status()
        .unwrap();
    assert!(status.success(), "{status}");
    // What the disk took is whole, and nothing of what it did not take is there.
    let queue = Queue::open(&folder.path().join(REFUSED), LIMITS).unwrap();
    assert_eq!(queue.totals().damaged_bytes, 0);
    assert_eq!(queue.waiting().batches, 2 * FLUSH);
}

/// Keeps the first copy.
fn copy_segments(folder: &Path) -> io::Result<()> {
    let refused = folder.join(REFUSED);
    if refused.exists() {
        return Ok(());
    }
    fs::create_dir(&refused)?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().ends_with(".seg") {
            fs::copy(entry.path(), refused.join(entry.file_name()))?;
        }
    }
    Ok(())
}

#[test]
#[ignore = "run by the other test, under its limit"]
fn in_a_process_with_small_files() {
    let folder = env::var_os(FOLDER).unwrap();
    let large = Path::new(&folder).join("large");
    assert!(fs::write(&large, vec![0; 100_000]).is_err());
    let _ = fs::remove_file(large);
    let mut queue = Queue::open(folder.as_ref(), LIMITS).unwrap();
    for timestamp in 0..FLUSHES {
        queue.push(timestamp, vec![batch(timestamp); FLUSH]);
        if queue.totals().write_errors == 1 {
            copy_segments(folder.as_ref()).unwrap();
        }
    }
    let totals = queue.totals().clone();
    assert!(totals.write_errors > 0, "the disk took everything");
    let dropped = totals.dropped.get(&DropReason::Full).copied().unwrap_or(0);
    assert_eq!(totals.dropped(), dropped);
    assert_eq!(dropped + queue.waiting().samples, SAMPLES);
    assert!(dropped > 0 && dropped < SAMPLES, "{dropped} dropped");
    // In order, byte for byte, and the newest is there.
    let mut read = Vec::new();
    for pending in 0..6 {
        let (seq, front) = queue.front(0).unwrap();
        assert_eq!(front, batch(front.timestamp), "{pending}");
        read.push(front.timestamp);
        queue.acknowledge(0, seq);
    }
    assert!(read.is_sorted(), "{read:?}");
}
