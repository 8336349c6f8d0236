//! Logs to standard error, as text or JSON, one line per event.
//!
//! ```text
//! event ── tracing-subscriber ──> bytes of one event ── Lines (escapes) ──> one line
//! ```
//!
//! Fields may hold text from peers. Characters that could end a line, move the cursor or change the
//! text direction are escaped in the formatted event, so that no field can forge or hide a line.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    Text,
    /// One JSON object per line.
    Json,
}

/// Starts to log the events that pass `filter` to standard error. Later calls have no effect.
pub fn init(format: Format, filter: &str) {
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        // Colours are control characters, which `Lines` would escape.
        .with_ansi(false)
        .with_writer(Lines(io::stderr));
    // Fails only if a subscriber is installed already, as in tests.
    let _ = match format {
        Format::Text => builder.with_target(false).try_init(),
        Format::Json => builder.json().flatten_event(true).try_init(),
    };
}

/// `text` with every character that a terminal or a line reader interprets escaped as in JSON, so
/// that JSON stays equivalent.
pub fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(is_interpreted) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\t' => escaped.push_str("\\t"),
            // All of them are below U+10000: four digits are enough.
            control if is_interpreted(control) => {
                // Writing to a string cannot fail.
                let _ = write!(escaped, "\\u{:04x}", u32::from(control));
            }
            other => escaped.push(other),
        }
    }
    Cow::Owned(escaped)
}

/// Control characters (C0, DEL, C1), line and paragraph separators, and characters that set the
/// text direction or are invisible.
fn is_interpreted(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        )
}

/// Escapes each event and writes it as one line; `tracing-subscriber` passes it in one `write`.
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
