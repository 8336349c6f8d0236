//! The timeline as a chart, drawn into a buffer and taken as lines. Pure.

use aggregator_view::documents::{Entry, EntryKind, Timeline};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::symbols::Marker;
use ratatui::text::Line as Text;
use ratatui::widgets::{Axis, Chart, Dataset, GraphType, Widget as _};

use crate::clock::Clock;
use crate::numbers;
use crate::table::{Cell, Line, Tone};

const HEIGHT: u16 = 12;
const ROOM_MIN: u16 = 40;
const ROOM_MAX: u16 = 160;
/// Points of one line at most: more are not told apart.
const POINTS_MAX: usize = 2000;

/// Load over pods' target, and replicas: two charts, one above the other. None without two points.
pub(super) fn lines(timeline: &Timeline, from: u64, clock: &Clock, room: usize) -> Vec<Line> {
    let to = clock.unix_ms();
    let first = timeline
        .entries
        .first()
        .map_or(from, |entry| entry.at_unix_ms);
    let from = first.max(from).min(to);
    let spans = Spans { from, to, room };
    let reads = points(&timeline.entries, EntryKind::Read, |entry| {
        entry.sum_milli.map(thousandths)
    });
    let decided = steps(
        &points(&timeline.entries, EntryKind::Decision, count),
        spans.end(),
    );
    let serving = steps(
        &points(&timeline.entries, EntryKind::Ready, count),
        spans.end(),
    );
    let mut lines = Vec::new();
    if reads.len() > 1 {
        // What the pods that were decided on should take.
        let capacity = timeline.target_milli.map(|target| {
            let scaled = decided.iter();
            scaled
                .map(|(at, pods)| (*at, pods * thousandths(target)))
                .collect::<Vec<_>>()
        });
        let capacity = capacity.unwrap_or_default();
        let names = if capacity.len() > 1 {
            "read (•) and target times replicas (line)"
        } else {
            "read"
        };
        lines.extend(spans.draw(names, &reads, &capacity, clock));
    }
    if decided.len() > 1 || serving.len() > 1 {
        lines.extend(spans.draw(
            "replicas decided (line), pods ready (•)",
            &serving,
            &decided,
            clock,
        ));
    }
    lines
}

/// Both ends of the time, and the columns there are.
#[derive(Clone, Copy, Debug)]
struct Spans {
    from: u64,
    to: u64,
    room: usize,
}

type Points = Vec<(f64, f64)>;

fn points(entries: &[Entry], kind: EntryKind, value: impl Fn(&Entry) -> Option<f64>) -> Points {
    let points = entries.iter().filter(|entry| entry.kind == kind);
    let points = points.filter_map(|entry| Some((seconds(entry.at_unix_ms), value(entry)?)));
    let points: Points = points.collect();
    let beyond = points.len().saturating_sub(POINTS_MAX);
    points[beyond..].to_vec()
}

fn count(entry: &Entry) -> Option<f64> {
    entry.count.map(f64::from)
}

/// Each value holds until the next one, and the last one until `end`.
fn steps(points: &Points, end: f64) -> Points {
    let ends = points.iter().skip(1).map(|(at, _)| *at).chain([end]);
    let held = points.iter().zip(ends);
    held.flat_map(|((at, value), until)| [(*at, *value), (until, *value)])
        .collect()
}

#[expect(
    clippy::cast_precision_loss,
    reason = "milliseconds and thousandths are far below 2^52"
)]
fn thousandths(value: u64) -> f64 {
    value as f64 / 1000.0
}

fn seconds(unix_ms: u64) -> f64 {
    thousandths(unix_ms)
}

// === impl Spans ===

impl Spans {
    fn end(self) -> f64 {
        seconds(self.to)
    }

    fn draw(self, title: &str, dots: &Points, line: &Points, clock: &Clock) -> Vec<Line> {
        let values = dots.iter().chain(line).map(|(_, value)| *value);
        let highest = values.fold(0.0, f64::max);
        let highest = if highest > 0.0 { highest * 1.05 } else { 1.0 };
        let width = u16::try_from(self.room).unwrap_or(ROOM_MAX);
        let area = Rect::new(0, 0, width.clamp(ROOM_MIN, ROOM_MAX), HEIGHT);
        let middle = self.from.midpoint(self.to);
        let times = [self.from, middle, self.to].map(|at| Text::from(clock.time_of_day(at)));
        let levels = [0.0, highest / 2.0, highest].map(|at| Text::from(numbers::rate(Some(at))));
        let of = |points, marker, kind| {
            Dataset::default()
                .data(points)
                .marker(marker)
                .graph_type(kind)
        };
        let datasets = vec![
            of(line, Marker::Braille, GraphType::Line),
            of(dots, Marker::Dot, GraphType::Scatter),
        ];
        let x = Axis::default().bounds([seconds(self.from), self.end()]);
        let y = Axis::default().bounds([0.0, highest]);
        let chart = Chart::new(datasets)
            .x_axis(x.labels(times))
            .y_axis(y.labels(levels));
        let mut buffer = Buffer::empty(area);
        chart.render(area, &mut buffer);
        let heading = vec![Cell::new(title).toned(Tone::Faint)];
        std::iter::once(heading).chain(taken(&buffer)).collect()
    }
}

/// The lines of a buffer.
fn taken(buffer: &Buffer) -> impl Iterator<Item = Line> {
    let area = buffer.area;
    (0..area.height).map(move |y| {
        let symbols = (0..area.width).filter_map(|x| buffer.cell((x, y)));
        let line: String = symbols.map(ratatui::buffer::Cell::symbol).collect();
        vec![Cell::new(line.trim_end())]
    })
}
