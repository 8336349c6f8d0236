//! Reads on disk against restarts, SIGKILL, damage, a small limit and a disk that fails.

#![expect(clippy::unwrap_used, reason = "a test helper may panic")]

use std::fs::{self, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use aggregator_core::query::Milli;
use aggregator_journal::{BYTES_MIN, Counts, Disk, LossReason, Writer};
use aggregator_ledger::{
    Answer, Each, Journal as _, Ledger, Object, PodState, PodValue, Query, Read, ReadSource, Reader,
};
use aggregator_view::documents::Change;
use common_time::{Clock, Monotonic, UnixMillis};
use tokio_util::sync::CancellationToken;

const START: u64 = 1_764_500_000_000;

fn at(millis: u64) -> UnixMillis {
    UnixMillis(START + millis)
}

fn ledger() -> Ledger {
    Ledger::new(8 << 20)
}

/// Opens `folder` into a new ledger.
fn open(folder: &Path, limit: u64, now: UnixMillis) -> (Ledger, Disk) {
    let ledger = ledger();
    let disk = Disk::open(folder, limit, now, &ledger).unwrap();
    (ledger, disk)
}

/// What a ledger writes of a read at `millis`, whose pod has a long name.
fn entry(millis: u64) -> Vec<u8> {
    #[derive(Debug, Default)]
    struct Last(std::sync::Mutex<Vec<u8>>);
    impl aggregator_ledger::Journal for Last {
        fn write(&self, entry: Vec<u8>) {
            *self.0.lock().unwrap() = entry;
        }
    }
    let last = Arc::new(Last::default());
    let name: Arc<str> = format!("{millis}-").repeat(50).into();
    ledger().with_journal(last.clone()).record(&Read {
        at: at(millis),
        reader: Reader {
            user: "system:kube-controller-manager",
            user_agent: "",
        },
        namespace: "prod",
        hpa: Some("jazz"),
        metric: "rate",
        object: Object {
            resource: "pods",
            name: "",
        },
        selector: "",
        metric_selector: "",
        answer: Answer::Value {
            sum: Milli(millis),
            source: ReadSource::Pods,
            pods: 1,
            age: Duration::ZERO,
            window: Duration::from_secs(5),
        },
        each: Each::Pods(&[PodValue {
            name: &name,
            state: PodState::Live,
            value: Milli(millis),
            window: Duration::from_secs(5),
            age: Duration::ZERO,
            pending: false,
        }]),
        computed_replicas: None,
    });
    let entry = last.0.lock().unwrap();
    entry.clone()
}

/// The sums of the reads in `ledger`, which are their numbers.
fn numbers(ledger: &Ledger) -> Vec<u64> {
    let reads = ledger.reads(&Query::of("prod"));
    reads.map(|read| read.sum_milli.unwrap()).collect()
}

fn range(numbers: Range<u64>) -> Vec<u64> {
    numbers.collect()
}

fn lost(counts: &Counts, reason: LossReason) -> u64 {
    counts
        .lost()
        .into_iter()
        .find(|(of, _)| *of == reason)
        .unwrap()
        .1
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "seg"));
    paths.sort();
    paths
}

/// What was written is there after a restart, and again after another; what is older than a day is
/// removed.
#[test]
fn outlives_restarts() {
    let folder = tempfile::tempdir().unwrap();
    for restart in 0..3 {
        let (ledger, mut disk) = open(folder.path(), BYTES_MIN, at(restart));
        assert_eq!(numbers(&ledger), range(0..restart * 2));
        assert_eq!(disk.counts().restored(), restart * 2);
        let entries = [entry(restart * 2), entry(restart * 2 + 1)];
        disk.append(at(restart), &entries).unwrap();
        let refused = Disk::open(folder.path(), BYTES_MIN, at(0), &ledger).unwrap_err();
        assert_eq!(refused.to_string(), "another process has this ledger open");
    }
    assert_eq!(segments(folder.path()).len(), 3);
    drop(open(folder.path(), BYTES_MIN, at(25 * 60 * 60 * 1000)));
    assert_eq!(segments(folder.path()).len(), 0);
}

/// A flipped byte costs its batch, wherever it is; a torn end costs what is torn. Both are counted.
#[test]
fn damage_costs_what_is_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let (_, mut disk) = open(folder.path(), BYTES_MIN, at(0));
    for number in 0..5 {
        disk.append(at(number), &[entry(number)]).unwrap();
    }
    drop(disk);
    let path = &segments(folder.path())[0];
    let whole = fs::read(path).unwrap();
    let second = 1 + whole[1..]
        .windows(4)
        .position(|bytes| bytes == b"mmrd")
        .unwrap();
    for offset in [0, 9, 40, 64, second - 1] {
        fs::write(path, &whole).unwrap();
        let file = OpenOptions::new().write(true).open(path).unwrap();
        let damaged = [whole[offset] ^ 0x10];
        file.write_all_at(&damaged, offset as u64).unwrap();
        let (ledger, disk) = open(folder.path(), BYTES_MIN, at(9));
        assert_eq!(numbers(&ledger), [1, 2, 3, 4], "byte {offset}");
        assert_eq!(
            lost(&disk.counts(), LossReason::Damaged),
            1,
            "byte {offset}"
        );
    }
    fs::write(path, &whole[..whole.len() - 1]).unwrap();
    let (ledger, mut disk) = open(folder.path(), BYTES_MIN, at(9));
    assert_eq!(numbers(&ledger), [0, 1, 2, 3]);
    assert_eq!(lost(&disk.counts(), LossReason::Damaged), 1);
    disk.append(at(9), &[entry(9)]).unwrap();
    drop(disk);
    assert_eq!(
        numbers(&open(folder.path(), BYTES_MIN, at(9)).0),
        [0, 1, 2, 3, 9]
    );
}

/// The folder never exceeds its limit: the oldest reads make room.
#[test]
fn is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let (_, mut disk) = open(folder.path(), 0, at(0));
    // Random bytes do not compress: they stand for reads.
    let mut seed = 7_u64;
    let mut noise = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        seed.to_le_bytes()[7]
    };
    for number in 0..40 {
        let filler: Vec<u8> = (0..500_000).map(|_| noise()).collect();
        disk.append(at(number), &[entry(number), filler]).unwrap();
        let sizes = segments(folder.path())
            .into_iter()
            .map(|path| path.metadata().unwrap().len());
        let bytes: u64 = sizes.sum();
        assert!(bytes <= BYTES_MIN, "{bytes}");
        assert_eq!(bytes, disk.counts().bytes());
    }
    drop(disk);
    let (ledger, disk) = open(folder.path(), 0, at(40));
    assert_eq!(numbers(&ledger), range(32..40));
    assert_eq!(lost(&disk.counts(), LossReason::Damaged), 8, "the fillers");
}

/// A disk that takes nothing costs the reads of the meantime, which are counted.
#[test]
fn a_failing_disk_is_tried_again() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("reads");
    let (_, mut disk) = open(&folder, BYTES_MIN, at(0));
    fs::rename(&folder, parent.path().join("away")).unwrap();
    assert!(disk.append(at(1), &[entry(1), entry(2)]).is_err());
    fs::rename(parent.path().join("away"), &folder).unwrap();
    disk.append(at(3), &[entry(3)]).unwrap();
    let counts = disk.counts();
    assert_eq!((counts.written(), lost(&counts, LossReason::Disk)), (1, 2));
    drop(disk);
    assert_eq!(numbers(&open(&folder, BYTES_MIN, at(3)).0), [3]);
}

/// The queue takes what it has room for and never waits; what it holds is written at the end.
#[tokio::test]
async fn the_queue_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let (ledger, disk) = open(folder.path(), BYTES_MIN, at(0));
    let counts = disk.counts();
    let (sender, writer) = Writer::new(disk, Clock::new(Monotonic::default, || at(0)));
    let sender = Arc::new(sender);
    let ledger = ledger.with_journal(sender.clone());
    let change = Change {
        at_unix_ms: START,
        hpa: "jazz".to_owned(),
        ..Change::default()
    };
    ledger.changed("prod", change.clone());
    ledger.changed("prod", change.clone());
    for number in 0..10_000 {
        sender.write(entry(number));
    }
    let refused = lost(&counts, LossReason::Queue);
    assert!((1..10_000).contains(&refused), "{refused}");
    let stop = CancellationToken::new();
    stop.cancel();
    writer.run(stop).await;
    assert_eq!(counts.written(), 1 + 10_000 - refused);
    let (ledger, _disk) = open(folder.path(), BYTES_MIN, at(0));
    assert_eq!(numbers(&ledger), range(0..10_000 - refused));
    assert_eq!(ledger.changes(&Query::of("prod")), [change]);
}

/// Set for the child of [`survives_sigkill`]: the folder it writes to.
const FOLDER: &str = "MESHMETER_TEST_JOURNAL";

/// A process that is killed while it writes loses at most what it had not written.
#[test]
fn survives_sigkill() {
    let folder = tempfile::tempdir().unwrap();
    for _ in 0..3 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "writes_until_killed", "--ignored", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let written = lines.map_while(Result::ok).filter_map(|line| {
            let number = line.strip_prefix("written ")?;
            number.parse::<u64>().ok()
        });
        let written = written.take(50).last().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let (ledger, _disk) = open(folder.path(), BYTES_MIN, at(0));
        let numbers = numbers(&ledger);
        assert!(numbers.len() as u64 > written, "{written}");
        assert_eq!(numbers, range(0..numbers.len() as u64));
    }
}

#[test]
#[ignore = "runs as a child of survives_sigkill"]
fn writes_until_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let (ledger, mut disk) = open(Path::new(&folder), BYTES_MIN, at(0));
    let mut stdout = std::io::stdout();
    for number in numbers(&ledger).len() as u64.. {
        disk.append(at(0), &[entry(number)]).unwrap();
        writeln!(stdout, "written {number}").unwrap();
        stdout.flush().unwrap();
    }
}
