//! One pair of axes with what is drawn between them.

use std::fmt::Write as _;

use maud::{Markup, html};

use super::Span;
use super::scale::Scale;
use crate::shown::Shown;

/// Width of the drawing in its own units: tenths of a percent.
const WIDTH: f64 = 1_000.0;

/// What is drawn over one y axis.
#[derive(Debug)]
pub(crate) struct Panel {
    /// Such as `requests/s`.
    pub(crate) unit: String,
    /// In pixels.
    pub(crate) height: u32,
    /// Whole numbers only.
    pub(crate) integers: bool,
    pub(crate) lines: Vec<Line>,
    pub(crate) levels: Vec<Level>,
    pub(crate) marks: Vec<Mark>,
}

#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) label: String,
    /// Of the stylesheet, such as `c0`.
    pub(crate) class: &'static str,
    pub(crate) shape: Shape,
    /// By time; `None` is a gap.
    pub(crate) points: Vec<(u64, Option<f64>)>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Shape {
    Straight,
    /// A value holds until the next one.
    Step,
}

/// A value that holds for all of the time.
#[derive(Debug)]
pub(crate) struct Level {
    pub(crate) label: String,
    pub(crate) class: &'static str,
    pub(crate) value: f64,
}

/// A point with a link.
#[derive(Debug)]
pub(crate) struct Mark {
    pub(crate) at: u64,
    pub(crate) value: f64,
    pub(crate) kind: MarkKind,
    pub(crate) href: String,
    pub(crate) label: String,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum MarkKind {
    Read,
    Refusal,
    Up,
    Down,
}

// === impl Panel ===

impl Panel {
    /// The panel as SVG with its legend; `with_times` for the lowest one of a chart.
    pub(super) fn to_markup(
        &self,
        id: &str,
        span: Span,
        times: &[(f64, String)],
        with_times: bool,
    ) -> Markup {
        let scale = Scale::new(self.highest(), self.integers);
        let height = f64::from(self.height);
        let y = |value: f64| height * (1.0 - scale.part(value));
        html! {
            (self.legend())
            div.plot {
                svg width="100%" height=(self.height + if with_times { 22 } else { 6 }) role="group"
                    aria-labelledby={ (id) "-title" } {
                    title id={ (id) "-title" } { (Shown(&self.unit)) " over time" }
                    g aria-hidden="true" {
                        @for (value, label) in scale.ticks() {
                            line.grid x1="0" x2="100%" y1=(pixels(y(value))) y2=(pixels(y(value))) {}
                            text.tick x="-8" y=(pixels(y(value) + 4.0)) text-anchor="end" { (label) }
                        }
                        @for (index, (part, label)) in times.iter().enumerate() {
                            line.grid x1=(percent(*part)) x2=(percent(*part)) y1="0" y2=(self.height) {}
                            @if with_times {
                                text class=(if index % 2 == 0 { "tick" } else { "tick wide" }) x=(percent(*part)) y=(self.height + 17) text-anchor="middle" { (label) }
                            }
                        }
                        svg width="100%" height=(self.height) viewBox=(format!("0 0 {WIDTH} {height}"))
                            preserveAspectRatio="none" {
                            @for line in &self.lines {
                                path class={ "line " (line.class) } d=(line.path(span, y)) {}
                            }
                        }
                        @for level in &self.levels {
                            line class={ "level " (level.class) } x1="0" x2="100%"
                                y1=(pixels(y(level.value))) y2=(pixels(y(level.value))) {}
                        }
                    }
                    @for mark in &self.marks {
                        @if let Some(part) = span.part(mark.at) {
                            (mark.to_markup(part, y(mark.value)))
                        }
                    }
                }
            }
        }
    }

    fn legend(&self) -> Markup {
        html! {
            div.legend {
                span.unit { (Shown(&self.unit)) }
                ul {
                    @for line in &self.lines {
                        li { span class={ "key " (line.class) } {} (Shown(&line.label)) }
                    }
                    @for level in &self.levels {
                        li { span class={ "key dashed " (level.class) } {} (Shown(&level.label)) }
                    }
                    @for kind in [MarkKind::Read, MarkKind::Refusal, MarkKind::Up] {
                        @if self.marks.iter().any(|mark| mark.kind.legend() == kind.legend()) {
                            li { span class={ "key mark " (kind.class()) } {} (kind.legend()) }
                        }
                    }
                }
            }
        }
    }

    fn highest(&self) -> f64 {
        let lines = self.lines.iter().flat_map(|line| &line.points);
        let values = lines.filter_map(|(_, value)| *value);
        let levels = self.levels.iter().map(|level| level.value);
        let marks = self.marks.iter().map(|mark| mark.value);
        let all = values.chain(levels).chain(marks);
        all.filter(|value| value.is_finite()).fold(0.0, f64::max)
    }
}

// === impl Line ===

impl Line {
    fn path(&self, span: Span, y: impl Fn(f64) -> f64) -> String {
        let mut path = String::new();
        let mut is_drawing = false;
        for (at, value) in &self.points {
            let point = value.filter(|value| value.is_finite());
            let (Some(value), Some(part)) = (point, span.part(*at)) else {
                is_drawing = false;
                continue;
            };
            let x = pixels(part * WIDTH);
            let y = pixels(y(value));
            // Writing into a string cannot fail.
            let _ = match (is_drawing, self.shape) {
                (false, _) => write!(path, "M{x} {y}h.1"),
                (true, Shape::Straight) => write!(path, "L{x} {y}"),
                (true, Shape::Step) => write!(path, "H{x}V{y}"),
            };
            is_drawing = true;
        }
        path
    }
}

// === impl Mark ===

impl Mark {
    fn to_markup(&self, part: f64, y: f64) -> Markup {
        let y = pixels(y);
        html! {
            a href=(self.href) aria-label=(Shown(&self.label)) class=(self.kind.class()) {
                title { (Shown(&self.label)) }
                // A place to hit with a finger.
                circle.hit cx=(percent(part)) cy=(y) r="10" {}
                @match self.kind {
                    MarkKind::Read | MarkKind::Refusal => circle.dot cx=(percent(part)) cy=(y) r="4" {},
                    MarkKind::Up => svg.arrow x=(percent(part)) y=(y) overflow="visible" {
                        path d="M-5.5 4.5L0-5.5L5.5 4.5z" {}
                    },
                    MarkKind::Down => svg.arrow x=(percent(part)) y=(y) overflow="visible" {
                        path d="M-5.5-4.5L0 5.5L5.5-4.5z" {}
                    },
                }
            }
        }
    }
}

// === impl MarkKind ===

impl MarkKind {
    fn class(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Refusal => "refusal",
            Self::Up | Self::Down => "decision",
        }
    }

    fn legend(self) -> &'static str {
        match self {
            Self::Read => "read by an autoscaler",
            Self::Refusal => "refused",
            Self::Up | Self::Down => "decision",
        }
    }
}

fn percent(part: f64) -> String {
    format!("{}%", pixels(part * 100.0))
}

/// One decimal, and none where it would be 0.
fn pixels(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}
