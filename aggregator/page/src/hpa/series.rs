//! A timeline's entries as lines and marks.

use aggregator_view::documents::{Entry, EntryKind, Timeline};

use super::explanation;
use crate::address::Address;
use crate::chart::{Line, Mark, MarkKind, Shape, Span};
use crate::figures;
use crate::moment;

/// Points of a line: a day of reads each 15 s is thinned out to this.
const POINTS_MAX: usize = 480;
/// Reads with marks of their own: more of them would be a thick line.
const READ_MARKS_MAX: usize = 60;

/// The mean per pod of a read.
pub(super) fn per_pod_milli(entry: &Entry) -> Option<u64> {
    entry.sum_milli?.checked_div(entry.count?.into())
}

/// The mean per pod of each read within `span`; a refusal is a gap.
pub(super) fn reads(timeline: &Timeline, span: Span) -> Line {
    let value = |entry: &Entry| match entry.kind {
        EntryKind::Read => {
            let value = per_pod_milli(entry).map(figures::from_milli);
            Some((entry.at_unix_ms, value))
        }
        EntryKind::Refusal => Some((entry.at_unix_ms, None)),
        _ => None,
    };
    let shown = timeline
        .entries
        .iter()
        .filter(|entry| entry.at_unix_ms >= span.from);
    Line {
        label: "mean per pod, as read".to_owned(),
        class: "c0",
        shape: Shape::Straight,
        points: thinned(shown.filter_map(value).collect()),
    }
}

/// At most [`POINTS_MAX`]: of each bucket its highest and its lowest, and gaps stay.
fn thinned(points: Vec<(u64, Option<f64>)>) -> Vec<(u64, Option<f64>)> {
    if points.len() <= POINTS_MAX {
        return points;
    }
    let bucket = points.len().div_ceil(POINTS_MAX / 2);
    let mut kept = Vec::with_capacity(POINTS_MAX);
    for points in points.chunks(bucket) {
        let by_value = |a: &&(u64, Option<f64>), b: &&(u64, Option<f64>)| {
            let value = |point: &(u64, Option<f64>)| point.1.unwrap_or(f64::NEG_INFINITY);
            value(a).total_cmp(&value(b))
        };
        let ends = [
            points.iter().min_by(by_value),
            points.iter().max_by(by_value),
        ];
        let mut ends: Vec<_> = ends.into_iter().flatten().copied().collect();
        ends.sort_by_key(|point| point.0);
        ends.dedup();
        kept.extend(ends);
    }
    kept
}

/// Wanted replicas and ready pods, each held until the next change.
pub(super) fn replicas(timeline: &Timeline, span: Span) -> Vec<Line> {
    [
        (EntryKind::Decision, "wanted", "c1"),
        (EntryKind::Ready, "ready", "c2"),
    ]
    .map(|(kind, label, class)| Line {
        label: label.to_owned(),
        class,
        shape: Shape::Step,
        points: steps(timeline, kind, span),
    })
    .into()
}

fn steps(timeline: &Timeline, kind: EntryKind, span: Span) -> Vec<(u64, Option<f64>)> {
    let changes = timeline.entries.iter().filter(|entry| entry.kind == kind);
    let mut points: Vec<(u64, Option<f64>)> = changes
        .map(|entry| {
            // What was before the beginning holds at it.
            (entry.at_unix_ms.max(span.from), entry.count.map(f64::from))
        })
        .collect();
    if let Some(last) = points.last().map(|point| point.1) {
        points.push((span.to, last));
    }
    points
}

pub(super) fn read_marks(
    address: &Address,
    now: u64,
    timeline: &Timeline,
    span: Span,
) -> Vec<Mark> {
    let shown = timeline.entries.iter().filter(|entry| {
        entry.at_unix_ms >= span.from && matches!(entry.kind, EntryKind::Read | EntryKind::Refusal)
    });
    let reads = shown.clone().filter(|entry| entry.kind == EntryKind::Read);
    let with_reads = reads.count() <= READ_MARKS_MAX;
    let shown = shown.filter(|entry| with_reads || entry.kind == EntryKind::Refusal);
    shown
        .rev()
        .take(READ_MARKS_MAX)
        .map(|entry| {
            let value = per_pod_milli(entry);
            let is_read = entry.kind == EntryKind::Read;
            Mark {
                at: entry.at_unix_ms,
                value: value.map_or(0.0, figures::from_milli),
                kind: if is_read {
                    MarkKind::Read
                } else {
                    MarkKind::Refusal
                },
                href: address.link(&explanation(address, entry.at_unix_ms)),
                label: match value {
                    Some(milli) if is_read => format!(
                        "{}: read {} per pod. Why it did what it did",
                        moment::clock(entry.at_unix_ms, now),
                        figures::thousandths_text(milli)
                    ),
                    _ => format!("{}: {}", moment::clock(entry.at_unix_ms, now), entry.text),
                },
            }
        })
        .collect()
}

pub(super) fn decision_marks(address: &Address, now: u64, timeline: &Timeline) -> Vec<Mark> {
    let decisions = timeline
        .entries
        .iter()
        .filter(|entry| entry.kind == EntryKind::Decision);
    let counted = decisions.filter_map(|entry| Some((entry, entry.count?)));
    let mut before: Option<u32> = None;
    let mut marks = Vec::new();
    for (entry, wanted) in counted {
        let is_down = before.is_some_and(|before| wanted < before);
        marks.push(Mark {
            at: entry.at_unix_ms,
            value: f64::from(wanted),
            kind: if is_down {
                MarkKind::Down
            } else {
                MarkKind::Up
            },
            href: address.link(&explanation(address, entry.at_unix_ms)),
            label: format!(
                "{}: wanted {wanted} replicas. Why",
                moment::clock(entry.at_unix_ms, now)
            ),
        });
        before = Some(wanted);
    }
    marks
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A long line is thinned out; its highest, its lowest and its gaps stay.
    #[test]
    fn thinning_keeps_what_stands_out() {
        let mut points: Vec<(u64, Option<f64>)> = (0..5_760).map(|at| (at, Some(10.0))).collect();
        points[100].1 = Some(99.0);
        points[2_000].1 = Some(1.0);
        points[4_000].1 = None;
        let thin = thinned(points.clone());
        assert!(thin.len() <= POINTS_MAX, "{}", thin.len());
        for index in [100, 2_000, 4_000] {
            assert!(thin.contains(&points[index]), "{index}");
        }
        assert!(thin.is_sorted_by_key(|point| point.0));
    }
}
