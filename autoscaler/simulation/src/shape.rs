//! Series without a recording: how load usually changes.

use std::time::Duration;

use crate::series::Series;

common_names::named! {
    /// A course of load between a low and a high rate.
    pub enum Shape {
        /// Low for 5 minutes, then high for 15, then low for 10.
        Step = "step",
        /// Low, from the fifth minute to the fifteenth up to high, and down again by the thirtieth.
        Ramp = "ramp",
        /// A day: lowest at its start and end, highest in the middle.
        Diurnal = "diurnal",
        /// Low for 30 minutes, with a minute of high load each five.
        Burst = "burst",
    }
}

const MINUTE: f64 = 60.0;
const DAY: f64 = 24.0 * 60.0 * MINUTE;
/// How long a step takes.
const EDGE: f64 = 0.1;

// === impl Shape ===

impl Shape {
    /// The series of this shape. Rates must be finite and not negative.
    pub fn series(self, low: f64, high: f64) -> Series {
        let points = match self {
            Self::Step => edges(&[(0.0, low), (5.0, high), (20.0, low)], 30.0),
            Self::Ramp => [
                (0.0, low),
                (5.0, low),
                (15.0, high),
                (20.0, high),
                (30.0, low),
            ]
            .map(|(minute, rate)| (minute * MINUTE, rate))
            .into(),
            Self::Diurnal => (0..=288_u16)
                .map(|part| {
                    let day = f64::from(part) / 288.0;
                    let height = (1.0 - (day * std::f64::consts::TAU).cos()) / 2.0;
                    (day * DAY, low + (high - low) * height)
                })
                .collect(),
            Self::Burst => {
                let bursts = (0..6_u8).flat_map(|number| {
                    let start = f64::from(number) * 5.0;
                    [(start, low), (start + 2.0, high), (start + 3.0, low)]
                });
                edges(&bursts.collect::<Vec<_>>(), 30.0)
            }
        };
        Series::of_points(points).unwrap_or_else(|_| flat())
    }

    /// Its length.
    pub fn length(self) -> Duration {
        self.series(0.0, 1.0).length()
    }
}

/// Levels that begin at these minutes, up to `end`.
fn edges(levels: &[(f64, f64)], end: f64) -> Vec<(f64, f64)> {
    let mut points: Vec<(f64, f64)> = Vec::new();
    for (minute, rate) in levels {
        let at = minute * MINUTE;
        if let Some((_, before)) = points.last().copied() {
            points.push((at, before));
            points.push((at + EDGE, *rate));
        } else {
            points.push((at, *rate));
        }
    }
    let last = points.last().map_or(0.0, |(_, rate)| *rate);
    points.push((end * MINUTE, last));
    points
}

/// For rates that are no numbers: no requests.
fn flat() -> Series {
    Series::of_points(vec![(0.0, 0.0), (MINUTE, 0.0)]).unwrap_or_else(|_| unreachable!())
}
