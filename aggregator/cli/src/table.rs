//! Tables: rows of cells become lines of parts with a tone each. Pure.

use std::iter;

use crate::text;

/// Columns between two columns.
const GAP: usize = 2;
/// A name is not cut shorter than this.
const NAME_MIN: usize = 8;

/// What a part says, for colours.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) enum Tone {
    #[default]
    Plain,
    Heading,
    Good,
    Warning,
    Bad,
    Faint,
}

/// One cell; its text is escaped.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Cell {
    pub(crate) text: String,
    pub(crate) tone: Tone,
}

/// How a column is laid out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// To the left; cut in the middle if there is no room.
    Name,
    /// To the right.
    Number,
    /// To the left; left out if there is no room.
    Extra,
}

/// A table.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    pub(crate) columns: Vec<(&'static str, Kind)>,
    pub(crate) rows: Vec<Vec<Cell>>,
}

/// One line: parts with their tones.
pub(crate) type Line = Vec<Cell>;

// === impl Cell ===

impl Cell {
    /// Text of a peer.
    pub(crate) fn new(text: &str) -> Self {
        Self {
            text: text::shown(text).into_owned(),
            tone: Tone::Plain,
        }
    }

    pub(crate) fn toned(self, tone: Tone) -> Self {
        Self { tone, ..self }
    }
}

// === impl Table ===

impl Table {
    /// The lines, in `room` columns if that is known; the first one has the columns' names.
    pub(crate) fn lines(&self, room: Option<usize>) -> Vec<Line> {
        let widths = self.widths(room);
        let names = self.columns.iter().map(|(name, _)| Cell {
            text: (*name).to_owned(),
            tone: Tone::Heading,
        });
        let heading: Vec<Cell> = names.collect();
        let rows = iter::once(&heading).chain(&self.rows);
        rows.map(|row| self.line(row, &widths)).collect()
    }

    /// The width of each column; `None` for those that are left out.
    fn widths(&self, room: Option<usize>) -> Vec<Option<usize>> {
        let columns = self.columns.iter().enumerate();
        let mut widths: Vec<Option<usize>> = columns
            .map(|(at, (name, _))| {
                let cells = self.rows.iter().filter_map(|row| row.get(at));
                let widest = cells.map(|cell| text::width(&cell.text)).max();
                Some(widest.unwrap_or(0).max(text::width(name)))
            })
            .collect();
        let Some(room) = room else {
            return widths;
        };
        for at in (0..widths.len()).rev() {
            if total(&widths) > room && self.columns[at].1 == Kind::Extra {
                widths[at] = None;
            }
        }
        while total(&widths) > room {
            let names = (0..widths.len()).filter(|at| self.columns[*at].1 == Kind::Name);
            let least = |at: usize| NAME_MIN.max(text::width(self.columns[at].0));
            let wide = names.filter(|at| widths[*at].is_some_and(|width| width > least(*at)));
            let Some(at) = wide.max_by_key(|at| widths[*at]) else {
                break;
            };
            widths[at] = widths[at].map(|width| width - 1);
        }
        widths
    }

    fn line(&self, row: &[Cell], widths: &[Option<usize>]) -> Line {
        let mut line = Vec::new();
        let columns = row.iter().zip(&self.columns).zip(widths);
        let columns =
            columns.filter_map(|((cell, (_, kind)), width)| Some((cell, kind, (*width)?)));
        for (cell, kind, width) in columns {
            let fitted = text::fit(&cell.text, width);
            let blank = " ".repeat(width.saturating_sub(text::width(&fitted)));
            let padded = match kind {
                Kind::Number => blank + &fitted,
                Kind::Name | Kind::Extra => fitted.into_owned() + &blank,
            };
            if !line.is_empty() {
                line.push(Cell {
                    text: " ".repeat(GAP),
                    tone: Tone::Plain,
                });
            }
            line.push(Cell {
                text: padded,
                tone: cell.tone,
            });
        }
        while let Some(last) = line.last_mut() {
            last.text.truncate(last.text.trim_end().len());
            if !last.text.is_empty() {
                break;
            }
            line.pop();
        }
        line
    }
}

fn total(widths: &[Option<usize>]) -> usize {
    let shown = widths.iter().flatten();
    let gaps = shown.clone().count().saturating_sub(1) * GAP;
    shown.sum::<usize>() + gaps
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(table: &Table, room: Option<usize>) -> Vec<String> {
        let lines = table.lines(room).into_iter();
        lines
            .map(|line| line.into_iter().map(|part| part.text).collect())
            .collect()
    }

    /// First what can be spared goes, then the middle of the longest names; numbers stay whole, and
    /// nothing of a peer's moves the cursor.
    #[test]
    fn a_narrow_table_keeps_its_numbers() {
        let table = Table {
            columns: vec![
                ("NAME", Kind::Name),
                ("REQ/S", Kind::Number),
                ("LAST", Kind::Extra),
            ],
            rows: vec![
                ["jazz-v1-7d4b9c5f6d-x2x4q", "41.2", "▁▂▅█"]
                    .map(Cell::new)
                    .into(),
                ["a\u{1b}[2Jb", "-", ""].map(Cell::new).into(),
            ],
        };
        assert_eq!(
            texts(&table, None),
            [
                "NAME                      REQ/S  LAST",
                "jazz-v1-7d4b9c5f6d-x2x4q   41.2  ▁▂▅█",
                "a\\u001b[2Jb                   -",
            ]
        );
        assert_eq!(
            texts(&table, Some(20)),
            [
                "NAME           REQ/S",
                "jazz-v…-x2x4q   41.2",
                "a\\u001b[2Jb        -"
            ]
        );
        let narrow = texts(&table, Some(5));
        assert_eq!(narrow[1], "jazz…x4q   41.2");
    }
}
