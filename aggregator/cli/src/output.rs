//! Where lines go: stdout, with colours if they are wanted, and errors to stderr.

use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use serde::Serialize;

use crate::ConnectionError;
use crate::args::ColorWhen;
use crate::table::{Cell, Line, Tone};
use crate::text;

/// Why a command ended without its answer; the code says whether it was refused (1) or could not be
/// known (2).
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) message: String,
    pub(crate) code: u8,
}

/// Standard output.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    pub(crate) colors: bool,
    pub(crate) is_terminal: bool,
}

/// The exit code, after the error was said.
pub(crate) fn ended(outcome: Result<ExitCode, Failure>) -> ExitCode {
    outcome.unwrap_or_else(|failure| {
        report(&failure.message);
        ExitCode::from(failure.code)
    })
}

/// Says an error on stderr.
pub(crate) fn report(message: &str) {
    // Escaped, since the text quotes peers. A closed stderr is no error.
    let _ = writeln!(io::stderr(), "error: {}", text::shown(message));
}

/// Says on stderr what is no error.
pub(crate) fn note(message: &str) {
    let _ = writeln!(io::stderr(), "{}", text::shown(message));
}

/// A document as indented JSON, one escaped line each.
pub(crate) fn json(document: &impl Serialize) -> Result<Vec<Line>, Failure> {
    let text = serde_json::to_string_pretty(document);
    let text = text.map_err(|error| Failure::new(&error))?;
    Ok(lines_of(&text))
}

/// A document as YAML.
pub(crate) fn yaml(document: &impl Serialize) -> Result<Vec<Line>, Failure> {
    let text = serde_saphyr::to_string(document);
    let text = text.map_err(|error| Failure::new(&error))?;
    Ok(lines_of(&text))
}

fn lines_of(text: &str) -> Vec<Line> {
    text.lines().map(|line| vec![Cell::new(line)]).collect()
}

fn style(tone: Tone) -> Style {
    let color = |color: AnsiColor| Style::new().fg_color(Some(color.into()));
    match tone {
        Tone::Plain => Style::new(),
        Tone::Heading => Style::new().bold(),
        Tone::Good => color(AnsiColor::Green),
        Tone::Warning => color(AnsiColor::Yellow),
        Tone::Bad => color(AnsiColor::Red),
        Tone::Faint => Style::new().dimmed(),
    }
}

// === impl Output ===

impl Output {
    /// What is wanted and what stdout is.
    pub(crate) fn new(when: ColorWhen) -> Self {
        let is_terminal = io::stdout().is_terminal();
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let colors = match when {
            ColorWhen::Always => true,
            ColorWhen::Never => false,
            ColorWhen::Auto => is_terminal && !refused && !is_dumb,
        };
        Self {
            colors,
            is_terminal,
        }
    }

    /// Columns of the terminal, if stdout is one.
    pub(crate) fn room(self) -> Option<usize> {
        let size = self.is_terminal.then(ratatui::crossterm::terminal::size);
        let (columns, _) = size?.ok()?;
        (columns > 0).then_some(columns.into())
    }

    /// Prints lines; false if nobody reads them any more.
    pub(crate) fn print(self, lines: &[Line]) -> bool {
        let text: String = lines.iter().map(|line| self.painted(line) + "\n").collect();
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())
            .and_then(|()| out.flush())
            .is_ok()
    }

    fn painted(self, line: &Line) -> String {
        let parts = line.iter().map(|part| {
            let style = style(part.tone);
            if self.colors && part.tone != Tone::Plain {
                format!("{style}{}{style:#}", part.text)
            } else {
                part.text.clone()
            }
        });
        parts.collect()
    }
}

// === impl Failure ===

impl Failure {
    /// Refused, or wrong.
    pub(crate) fn new(message: &impl fmt::Display) -> Self {
        Self {
            message: message.to_string(),
            code: 1,
        }
    }

    /// It cannot be known.
    pub(crate) fn unknown(message: &impl fmt::Display) -> Self {
        Self {
            message: message.to_string(),
            code: 2,
        }
    }
}

impl From<ConnectionError> for Failure {
    fn from(error: ConnectionError) -> Self {
        Self::new(&error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Colours only where they are wanted, and documents that move no cursor.
    #[test]
    fn colours_and_documents() {
        let line = vec![Cell::new("jazz"), Cell::new("held").toned(Tone::Warning)];
        let output = |colors| Output {
            colors,
            is_terminal: false,
        };
        assert_eq!(output(false).painted(&line), "jazzheld");
        let painted = output(true).painted(&line);
        assert_eq!(painted, "jazz\u{1b}[33mheld\u{1b}[0m");
        let document = serde_json::json!({"name": "a\u{9b}2J\u{202e}b"});
        let texts = |lines: Vec<Line>| -> Vec<String> {
            lines.into_iter().map(|line| line[0].text.clone()).collect()
        };
        let lines = texts(json(&document).unwrap());
        assert_eq!(lines, ["{", "  \"name\": \"a\\u009b2J\\u202eb\"", "}"]);
        let read: serde_json::Value = serde_json::from_str(&lines.concat()).unwrap();
        assert_eq!(read, document);
        let lines = texts(yaml(&document).unwrap());
        assert!(
            !lines.concat().contains(['\u{9b}', '\u{202e}']),
            "{lines:?}"
        );
    }
}
