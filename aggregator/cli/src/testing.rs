//! What tests share: snapshots of what is printed, in `tests/snapshots`.
//!
//! `MESHMETER_WRITE_SNAPSHOTS=1 cargo test -p aggregator-cli` writes them anew.

use std::path::PathBuf;

use jiff::tz::TimeZone;

use crate::clock::{self, Clock};
use crate::table::Line;

const WRITE: &str = "MESHMETER_WRITE_SNAPSHOTS";

/// 2026-11-30 14:10:00 in Berlin, in milliseconds since 1970.
pub(crate) const NOW: u64 = 1_796_044_200_000;

/// The clock at [`NOW`], in a zone without files.
pub(crate) fn clock() -> Clock {
    Clock {
        now: clock::at(NOW),
        zone: TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap(),
    }
}

/// Lines without tones.
pub(crate) fn texts(lines: Vec<Line>) -> String {
    let lines = lines.into_iter().map(|line| {
        let parts = line.into_iter().map(|part| part.text);
        parts.collect::<String>() + "\n"
    });
    lines.collect()
}

/// Fails unless the snapshot `name` is `text`.
pub(crate) fn hold(name: &str, text: &str) {
    let folder = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/snapshots"));
    let file = folder.join(format!("{name}.txt"));
    if std::env::var_os(WRITE).is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, text).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        expected == text,
        "{name}: expected\n{expected}\nand got\n{text}\n{WRITE}=1 writes it anew"
    );
}
