use std::sync::Arc;

use parking_lot::Mutex;

use super::*;

/// What a peer may send as a name: each tries to end the line, to colour or erase it, or to turn it
/// around.
const HOSTILE: [&str; 10] = [
    "a\nINFO forged=true",
    "a\r\nforged",
    "a\u{1b}[2J\u{1b}[31mred",
    "a\u{7}\u{8}\u{b}\u{c}\u{0}",
    "a\u{7f}",
    "a\u{85}forged\u{9b}31m",
    "a\u{2028}forged\u{2029}forged",
    "a\u{202e}desrever\u{2066}\u{2069}",
    "a\u{200b}\u{feff}\u{200f}hidden",
    "{\"forged\":\"\\\n\t\"}",
];

#[derive(Clone, Debug, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn log(json: bool, text: &str) -> String {
    let sink = Sink::default();
    let lines = Lines({
        let sink = sink.clone();
        move || sink.clone()
    });
    let builder = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(lines);
    let events = || {
        let span = tracing::info_span!("span", pod = text);
        let _entered = span.enter();
        tracing::info!(display = %text, debug = ?text, plain = text, "{text}");
    };
    if json {
        tracing::subscriber::with_default(builder.json().finish(), events);
    } else {
        tracing::subscriber::with_default(builder.finish(), events);
    }
    let bytes = sink.0.lock().clone();
    String::from_utf8(bytes).unwrap()
}

/// An event is one line without a character that a terminal obeys, whatever stands in its message,
/// its fields and its spans.
#[test]
fn an_event_is_one_line() {
    for text in HOSTILE {
        for json in [false, true] {
            let logged = log(json, text);
            let line = logged.strip_suffix('\n').unwrap();
            assert!(!line.contains(is_interpreted), "{text:?}: {line:?}");
        }
    }
}

/// JSON holds what was logged, and is still JSON.
#[test]
fn json_keeps_what_was_logged() {
    for text in HOSTILE {
        let value: serde_json::Value = serde_json::from_str(&log(true, text)).unwrap();
        // Those that tracing-subscriber itself escapes in text are not there any more.
        if !text.contains(|c: char| c == '\u{1b}' || c.is_control()) {
            assert_eq!(value["fields"]["display"], text);
        }
    }
}

/// What is harmless stays as it is.
#[test]
fn harmless_text_stays() {
    for text in ["plain", "größer λ 猫", "\\n", ""] {
        assert!(matches!(escaped(text), Cow::Borrowed(same) if same == text));
    }
    assert_eq!(escaped("a\n\t\u{1b}[0m"), "a\\n\\t\\u001b[0m");
}
