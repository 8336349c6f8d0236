//! Text of documents on its way into HTML.

use maud::Render;

/// Characters of one text; messages of Kubernetes are shorter.
const CHARS_MAX: usize = 1_024;

/// Text that others chose: names, labels, messages. Escaped; what would not show or would change
/// the direction of what follows is replaced, and what is too long is cut.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shown<'a>(pub(crate) &'a str);

// === impl Shown ===

impl Render for Shown<'_> {
    fn render_to(&self, buffer: &mut String) {
        plain(self.0).as_str().render_to(buffer);
    }
}

/// The same without the escaping, for use in a longer text.
pub(crate) fn plain(text: &str) -> String {
    let mut shown: String = text
        .chars()
        .take(CHARS_MAX)
        .map(|c| if is_hidden(c) { '\u{fffd}' } else { c })
        .collect();
    if text.chars().nth(CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

/// Control characters, line and paragraph separators, marks of direction, spaces of no width.
pub(crate) fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{feff}' | '\u{200b}'..='\u{200f}')
        || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
}

#[cfg(test)]
mod tests {
    use super::plain;

    /// What a reader would not see is seen; what is too long is cut, and says so.
    #[test]
    fn hides_nothing() {
        assert_eq!(plain("a\u{202e}b\u{0}c\nd"), "a\u{fffd}b\u{fffd}c\u{fffd}d");
        assert_eq!(plain("größer: ja/é"), "größer: ja/é");
        assert_eq!(plain(&"x".repeat(2_000)).chars().count(), 1_025);
    }
}
