//! A history as a line of bars.

use ratatui::symbols::bar;

/// What stands for a value that is not known.
const UNKNOWN: char = '·';
/// Levels from the lowest to the highest.
const LEVELS: [&str; 8] = [
    bar::ONE_EIGHTH,
    bar::ONE_QUARTER,
    bar::THREE_EIGHTHS,
    bar::HALF,
    bar::FIVE_EIGHTHS,
    bar::THREE_QUARTERS,
    bar::SEVEN_EIGHTHS,
    bar::FULL,
];

/// The newest values in `room` columns, each the highest of as many as fall together; the highest
/// of all is a full bar, 0 the lowest.
pub(crate) fn line(history: &[Option<f64>], room: usize) -> String {
    if history.is_empty() || room == 0 {
        return String::new();
    }
    let together = history.len().div_ceil(room);
    let highest = history.iter().flatten().copied().fold(0.0, f64::max);
    // From the end, so that only the oldest column holds fewer.
    let columns = history.rchunks(together).rev();
    columns
        .map(|values| {
            let value = values.iter().flatten().copied().reduce(f64::max);
            value.map_or_else(|| UNKNOWN.to_string(), |value| level(value, highest))
        })
        .collect()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to the number of levels"
)]
fn level(value: f64, highest: f64) -> String {
    let last = LEVELS.len() - 1;
    let share = if highest > 0.0 { value / highest } else { 0.0 };
    let steps = (share * 7.0).ceil().clamp(0.0, 7.0) as usize;
    LEVELS[steps.min(last)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 0 is a bar of its own, apart from what is not known; the newest value is the last.
    #[test]
    fn unknown_is_not_zero() {
        let history = [None, Some(0.0), Some(1.0), Some(50.0), Some(100.0)];
        assert_eq!(line(&history, 5), "·▁▂▅█");
        assert_eq!(line(&history, 3), "·▂█");
        assert_eq!(line(&[None, None], 9), "··");
        assert_eq!(line(&[Some(0.0)], 9), "▁");
        assert_eq!(line(&[], 9), "");
    }
}
