use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::super::tests::{args, pods};
use super::*;
use crate::testing::hold;

fn view(words: &str) -> View {
    let args = args(words);
    let shape = shape(&args, true);
    let mut view = View::of(
        "pods of namespace prod".to_owned(),
        shape,
        args.sort_by,
        true,
    );
    view.answered(rows_of(&pods(), &args).unwrap(), "14:10:00");
    view
}

fn press(view: &mut View, keys: &str) -> bool {
    keys.chars().all(|key| {
        let code = match key {
            '\n' => KeyCode::Enter,
            '\u{1b}' => KeyCode::Esc,
            '↓' => KeyCode::Down,
            '↑' => KeyCode::Up,
            key => KeyCode::Char(key),
        };
        view.key(KeyEvent::new(code, KeyModifiers::NONE))
    })
}

/// The screen as text; the selected row is marked.
fn screen(view: &mut View, columns: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(columns, 9)).unwrap();
    terminal.draw(|frame| view.draw(frame)).unwrap();
    let buffer = terminal.backend().buffer();
    let rows = (0..buffer.area.height).map(|y| {
        let row = (0..buffer.area.width).map(|x| &buffer[(x, y)]);
        let is_selected = row
            .clone()
            .any(|cell| cell.modifier.contains(Modifier::REVERSED));
        let text: String = row.map(ratatui::buffer::Cell::symbol).collect();
        let mark = if is_selected { "> " } else { "  " };
        format!("{mark}{}\n", text.trim_end())
    });
    rows.collect()
}

/// Keys do what the last line says.
#[test]
fn keys_move_sort_and_filter() {
    let mut text = String::new();
    let mut view = view("pods");
    for (keys, columns) in [
        ("", 120),
        ("↓↓↓", 120),
        ("s", 80),
        ("/jazz", 80),
        ("\n", 80),
        ("\u{1b}GGGk", 60),
    ] {
        assert!(press(&mut view, keys));
        let screen = screen(&mut view, columns);
        text += &[
            &format!("keys {keys:?}, {columns} columns\n"),
            &*screen,
            "\n",
        ]
        .concat();
    }
    view.error = "https://c:6443 does not answer\u{1b}[2J".to_owned();
    text += &["an answer that failed\n", &*screen(&mut view, 60)].concat();
    assert!(!text.contains('\u{202e}'), "{text}");
    hold("top/screen", &text);
    assert!(press(&mut view, "/q"), "a q in a filter is a letter");
    assert!(press(&mut view, "\n"));
    assert!(!press(&mut view, "q"));
    let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
    assert!(!view.key(interrupt));
}

/// Small or empty, it draws.
#[test]
fn draws_at_any_size() {
    let mut view = view("pods");
    for columns in [1, 5, 20] {
        screen(&mut view, columns);
    }
    view.answered(Vec::new(), "14:10:00");
    press(&mut view, "↓↑G");
    screen(&mut view, 80);
}
