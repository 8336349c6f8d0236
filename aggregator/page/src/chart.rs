//! Charts over time as SVG. Text keeps its size and lines their width at any width of the screen: x
//! is in percent, y in pixels, and all colours come from the stylesheet by class.

mod panel;
mod scale;

use maud::{Markup, html};

use crate::moment;
use crate::shown::Shown;
pub(crate) use panel::{Level, Line, Mark, MarkKind, Panel, Shape};

/// A figure: one panel or several over the same time.
#[derive(Debug)]
pub(crate) struct Chart<'a> {
    /// Begins the ids of its elements.
    pub(crate) id: &'a str,
    pub(crate) title: &'a str,
    /// What the chart shows, in a sentence; where the same figures are in a table.
    pub(crate) description: &'a str,
    pub(crate) span: Span,
    pub(crate) panels: Vec<Panel>,
}

/// The time that a chart shows, in Unix milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) from: u64,
    pub(crate) to: u64,
}

// === impl Span ===

impl Span {
    /// Where `at` is, from 0 to 1; `None` outside, and in more than 49 days.
    fn part(self, at: u64) -> Option<f64> {
        if at < self.from || at > self.to || self.to <= self.from {
            return None;
        }
        let length = u32::try_from(self.to - self.from).ok()?;
        Some(f64::from(u32::try_from(at - self.from).ok()?) / f64::from(length))
    }

    /// Round times within, four to seven.
    fn ticks(self) -> Vec<u64> {
        const STEPS_S: [u64; 13] = [
            5, 10, 20, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 14_400,
        ];
        let length = self.to.saturating_sub(self.from);
        let step = STEPS_S.into_iter().map(|seconds| seconds * 1_000);
        let step = step.clone().find(|step| length / step <= 6).or(step.max());
        let Some(step) = step else {
            return Vec::new();
        };
        let first = self.from.div_ceil(step);
        (first..=self.to / step).map(|index| index * step).collect()
    }
}

// === impl Chart ===

impl Chart<'_> {
    pub(crate) fn to_markup(&self) -> Markup {
        let ticks: Vec<(f64, String)> = self.ticks();
        let last = self.panels.len().saturating_sub(1);
        html! {
            figure.chart id=(self.id) {
                figcaption { (Shown(self.title)) }
                p.sr { (Shown(self.description)) }
                @for (index, panel) in self.panels.iter().enumerate() {
                    (panel.to_markup(&format!("{}-{index}", self.id), self.span, &ticks, index == last))
                }
            }
        }
    }

    /// Places and labels of the times on the x axis.
    fn ticks(&self) -> Vec<(f64, String)> {
        let ticks = self.span.ticks();
        let seconds = ticks.iter().any(|at| at % 60_000 != 0);
        let label = |at: u64| {
            if seconds {
                moment::clock(at, at)
            } else {
                moment::minutes(at)
            }
        };
        ticks
            .into_iter()
            .filter_map(|at| Some((self.span.part(at)?, label(at))))
            .collect()
    }
}

#[cfg(test)]
mod tests;
