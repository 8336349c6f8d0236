//! Log lines: to standard error, as text or JSON, one line for each event.
//!
//! ```text
//! event ── tracing-subscriber ──> bytes of one event ── Lines (escapes) ──> one line
//! ```
//!
//! Names, errors and texts of peers stand in fields. What could end a line, move a cursor or turn
//! text around is escaped here, behind every field of every event, so that none can forge a line or
//! hide one.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    Text,
    /// For machines: one JSON object a line.
    Json,
}

/// Starts logging what `filter` lets through to standard error. Later calls have no effect.
pub fn init(format: Format, filter: &str) {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        // Colours are control characters.
        .with_ansi(false)
        .with_writer(Lines(io::stderr));
    // Fails only if something else logs already, as in tests.
    let _ = match format {
        Format::Text => builder.with_target(false).try_init(),
        Format::Json => builder.json().flatten_event(true).try_init(),
    };
}

/// `text` without any character that a terminal or a reader of lines obeys: each is written as JSON
/// escapes it, which leaves JSON what it was.
pub fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let mut whole = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '\n' => whole.push_str("\\n"),
            '\r' => whole.push_str("\\r"),
            '\t' => whole.push_str("\\t"),
            // All of them are below U+10000: four digits are enough.
            obeyed if is_obeyed(obeyed) => {
                // Writing to a string cannot fail.
                let _ = write!(whole, "\\u{:04x}", u32::from(obeyed));
            }
            other => whole.push(other),
        }
    }
    Cow::Owned(whole)
}

/// Control characters (C0, DEL, C1), separators of lines and paragraphs, and what sets the
/// direction of text or shows nothing at all.
fn is_obeyed(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        )
}

/// Escapes each event, which `tracing-subscriber` writes at once, and writes it as one line.
#[derive(Clone, Copy, Debug)]
struct Lines<M>(M);

/// The writer of one event.
#[derive(Debug)]
struct Line<W>(W);

// === impl Lines ===

impl<'a, M: MakeWriter<'a>> MakeWriter<'a> for Lines<M> {
    type Writer = Line<M::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Line(self.0.make_writer())
    }
}

// === impl Line ===

impl<W: io::Write> io::Write for Line<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(event);
        let mut line = escaped(text.strip_suffix('\n').unwrap_or(&text)).into_owned();
        line.push('\n');
        self.0.write_all(line.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests;
