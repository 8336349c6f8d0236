//! A rate's last two minutes in a table's cell.

use std::fmt::Write as _;

use maud::{Markup, html};

/// Windows whose mean is one point: the line is some hundred pixels wide.
const WINDOWS: usize = 2;
/// Units from one point to the next.
const STEP: usize = 4;
const HEIGHT: f64 = 20.0;

/// The line of `history`, oldest first, scaled to its highest value; a gap where it is unknown. The
/// row's numbers say the same, so it is hidden from screen readers.
pub(crate) fn sparkline(history: &[Option<f64>]) -> Markup {
    let points: Vec<Option<f64>> = history.chunks(WINDOWS).map(mean).collect();
    let width = points.len().saturating_sub(1) * STEP;
    if width == 0 {
        return html! {};
    }
    html! {
        svg.spark viewBox=(format!("0 -1 {width} 22")) preserveAspectRatio="none" aria-hidden="true" {
            path d=(line(&points)) {}
        }
    }
}

/// The mean of those that are known.
fn mean(windows: &[Option<f64>]) -> Option<f64> {
    let known = windows.iter().flatten().filter(|value| value.is_finite());
    let (sum, count) = known.fold((0.0, 0_u32), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

fn line(points: &[Option<f64>]) -> String {
    let known = points.iter().flatten().copied();
    let highest = known.filter(|value| value.is_finite()).fold(0.0, f64::max);
    let y = |value: f64| {
        let part = if highest > 0.0 { value / highest } else { 0.0 };
        (HEIGHT * (1.0 - part)).round().clamp(0.0, HEIGHT)
    };
    let mut path = String::new();
    // Height of the value before, if it is known.
    let mut pen: Option<f64> = None;
    for (index, value) in points.iter().enumerate() {
        let at = value.filter(|value| value.is_finite()).map(y);
        // Writing into a string cannot fail.
        let _ = match (pen, at) {
            (_, None) => Ok(()),
            // Without a neighbour it would have no length.
            (None, Some(at)) => write!(path, "M{} {at}h.1", index * STEP),
            (Some(before), Some(at)) => write!(path, "l{STEP} {}", at - before),
        };
        pen = at;
    }
    path.replace("h.1l4", "l4").replace(" -", "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Unknown values are gaps, not zeros; one between gaps is a dot; no request is a line below.
    #[test]
    fn gaps_are_gaps() {
        let history = [
            Some(0.0),
            Some(10.0),
            None,
            Some(5.0),
            None,
            Some(10.0),
            Some(10.0),
        ];
        assert_eq!(line(&history), "M0 20l4-20M12 10h.1M20 0l4 0");
        assert_eq!(line(&[Some(0.0), Some(0.0)]), "M0 20l4 0");
        assert_eq!(line(&[None, None]), "");
        assert_eq!(line(&[Some(f64::NAN), Some(1.0)]), "M4 0h.1");
        assert_eq!(mean(&[Some(1.0), None]), Some(1.0));
        assert_eq!(mean(&[Some(1.0), Some(2.0)]), Some(1.5));
        assert_eq!(mean(&[None, Some(f64::NAN)]), None);
        assert!(sparkline(&[]).0.is_empty());
    }
}
