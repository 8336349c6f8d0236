//! The y axis: from 0 to a round number above the highest value.

use crate::figures;

/// Lines of the grid above 0, at most.
const STEPS_MAX: u32 = 4;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scale {
    step: f64,
    steps: u32,
}

// === impl Scale ===

impl Scale {
    /// A scale for values up to `highest`; of whole numbers if `integers`.
    pub(super) fn new(highest: f64, integers: bool) -> Self {
        let highest = if highest.is_finite() {
            highest.max(0.0)
        } else {
            0.0
        };
        let mut step = round_up(highest / f64::from(STEPS_MAX));
        if integers {
            step = step.ceil().max(1.0);
        }
        let reaches = |steps: &u32| f64::from(*steps) * step >= highest * (1.0 - 1e-9);
        let steps = (1..=STEPS_MAX).find(reaches).unwrap_or(STEPS_MAX);
        Self { step, steps }
    }

    /// Where `value` is, from 0 at the bottom to 1.
    pub(super) fn part(self, value: f64) -> f64 {
        (value / (self.step * f64::from(self.steps))).clamp(0.0, 1.0)
    }

    /// Values and labels of the grid's lines.
    pub(super) fn ticks(self) -> impl Iterator<Item = (f64, String)> {
        let decimals = if self.step >= 1.0 && self.step.fract() == 0.0 {
            0
        } else if self.step >= 0.1 {
            1
        } else {
            3
        };
        (0..=self.steps).map(move |index| {
            let value = self.step * f64::from(index);
            (value, figures::decimal(value, decimals).unwrap_or_default())
        })
    }
}

/// The next of 1, 2, 5 times a power of ten. Nothing at all has a scale to 1.
fn round_up(value: f64) -> f64 {
    if value <= 1e-6 {
        return 1.0;
    }
    let magnitude = 10_f64.powf(value.log10().floor());
    let factors = [1.0, 2.0, 5.0, 10.0];
    let fits = factors
        .into_iter()
        .find(|factor| factor * magnitude >= value * (1.0 - 1e-9));
    fits.unwrap_or(10.0) * magnitude
}
