//! Output: a table redrawn in place on a terminal, plain lines into a pipe, and only the document
//! on standard output in JSON mode.

use std::io::{self, IsTerminal, Write};

/// Back to the top of a frame of so many lines, and clear below.
const UP_AND_CLEAR: (&str, &str) = ("\x1b[", "A\x1b[J");
/// Long lines are cut, not wrapped: a wrapped frame could not be redrawn in place.
const NO_WRAP: &str = "\x1b[?7l";
const WRAP: &str = "\x1b[?7h";

/// Standard output and error, by mode.
#[derive(Debug)]
pub(crate) struct Screen {
    mode: Mode,
    /// Lines of the frame on the terminal.
    lines: usize,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Mode {
    Json,
    Terminal,
    Lines,
}

// === impl Screen ===

impl Screen {
    /// The screen for JSON mode or not.
    pub(crate) fn new(json: bool) -> Self {
        let mode = match (json, io::stdout().is_terminal()) {
            (true, _) => Mode::Json,
            (false, true) => Mode::Terminal,
            (false, false) => Mode::Lines,
        };
        Self { mode, lines: 0 }
    }

    /// Prints progress.
    pub(crate) fn progress(&mut self, text: &str) {
        self.lines = 0;
        match self.mode {
            Mode::Json => complain(text),
            Mode::Terminal | Mode::Lines => write_out(text, true),
        }
    }

    /// Shows the state: on a terminal `frame` replaces the last one, elsewhere `line` is appended.
    pub(crate) fn show(&mut self, frame: &str, line: &str) {
        match self.mode {
            Mode::Json => {}
            Mode::Lines => write_out(line, true),
            Mode::Terminal => {
                let up = match self.lines {
                    0 => String::new(),
                    lines => format!("{}{lines}{}", UP_AND_CLEAR.0, UP_AND_CLEAR.1),
                };
                self.lines = frame.lines().count();
                write_out(&format!("{up}{NO_WRAP}{frame}{WRAP}"), false);
            }
        }
    }

    /// The result: the document in JSON mode, the text elsewhere.
    pub(crate) fn result(&mut self, document: &str, text: &str) {
        match self.mode {
            Mode::Json => write_out(document, true),
            Mode::Terminal | Mode::Lines => write_out(text, true),
        }
    }
}

/// Writes a line to standard error.
pub(crate) fn complain(text: &str) {
    // Nobody is left to be told when standard error is gone.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

fn write_out(text: &str, newline: bool) {
    let mut out = io::stdout().lock();
    let end = if newline { "\n" } else { "" };
    // A reader that went away (`demo | head`) is no reason to leave processes behind.
    let _ = write!(out, "{text}{end}");
    let _ = out.flush();
}
