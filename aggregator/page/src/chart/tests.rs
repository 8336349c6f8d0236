use super::*;

/// Four to seven round times, whatever the length.
#[test]
fn times_are_round() {
    let from = 1_764_511_351_250;
    for (minutes, step_s) in [(2, 20), (15, 300), (60, 600), (360, 3_600), (1_440, 14_400)] {
        let span = Span {
            from,
            to: from + minutes * 60_000,
        };
        let ticks = span.ticks();
        assert!((3..=7).contains(&ticks.len()), "{minutes}: {ticks:?}");
        assert!(
            ticks.iter().all(|at| at % (step_s * 1_000) == 0),
            "{ticks:?}"
        );
    }
    let none = Span { from, to: from };
    assert_eq!(none.part(from), None);
}

fn panel(points: Vec<(u64, Option<f64>)>, shape: Shape) -> String {
    let panel = Panel {
        unit: "requests/s".to_owned(),
        height: 100,
        integers: false,
        lines: vec![Line {
            label: "jazz".to_owned(),
            class: "c0",
            shape,
            points,
        }],
        levels: vec![Level {
            label: "target".to_owned(),
            class: "target",
            value: 20.0,
        }],
        marks: Vec::new(),
    };
    let span = Span { from: 0, to: 100 };
    panel.to_markup("x", span, &[], true).into_string()
}

/// Unknown is a gap, what is outside the time is not drawn, and the highest value has room.
#[test]
fn lines_are_where_their_values_are() {
    let points = vec![
        (0, Some(0.0)),
        (50, Some(20.0)),
        (60, None),
        (70, Some(10.0)),
        (500, Some(1.0)),
    ];
    let straight = panel(points.clone(), Shape::Straight);
    assert!(
        straight.contains(r#"d="M0 100h.1L500 0M700 50h.1""#),
        "{straight}"
    );
    let steps = panel(points, Shape::Step);
    assert!(
        steps.contains(r#"d="M0 100h.1H500V0M700 50h.1""#),
        "{steps}"
    );
    assert!(steps.contains(r#"class="level target""#));
}

/// The axis ends at a round number that is not below the highest value.
#[test]
fn scales_are_round() {
    for (highest, integers, expected) in [
        (0.0, false, vec!["0", "1"]),
        (41.3, false, vec!["0", "20", "40", "60"]),
        (400.0, false, vec!["0", "100", "200", "300", "400"]),
        (0.3, false, vec!["0.0", "0.1", "0.2", "0.3"]),
        (3.0, true, vec!["0", "1", "2", "3"]),
        (10.0, true, vec!["0", "5", "10"]),
    ] {
        let scale = scale::Scale::new(highest, integers);
        let labels: Vec<_> = scale.ticks().map(|(_, label)| label).collect();
        assert_eq!(labels, expected, "{highest}");
        assert!(highest == 0.0 || scale.part(highest) > 0.5, "{highest}");
    }
}
