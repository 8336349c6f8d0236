//! Text of others in cells: escaped, and no wider than there is room.

use std::borrow::Cow;

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

const CUT: char = '…';

/// Columns that `text` takes in a terminal.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// `text` of a peer, without anything that a terminal interprets.
pub(crate) fn shown(text: &str) -> Cow<'_, str> {
    common_log::escaped(text)
}

/// `text` in at most `room` columns: what is too much is cut out of the middle, since names differ
/// at both ends.
pub(crate) fn fit(text: &str, room: usize) -> Cow<'_, str> {
    if width(text) <= room {
        return Cow::Borrowed(text);
    }
    if room < 3 {
        return Cow::Owned(begin(text, room).to_owned());
    }
    let left = (room - 1).div_ceil(2);
    let right = room - 1 - left;
    let fitted = format!("{}{CUT}{}", begin(text, left), end(text, right));
    Cow::Owned(fitted)
}

/// What fits of the beginning.
fn begin(text: &str, room: usize) -> &str {
    let mut used = 0;
    for (at, character) in text.char_indices() {
        used += character.width().unwrap_or(0);
        if used > room {
            return &text[..at];
        }
    }
    text
}

/// What fits of the end.
fn end(text: &str, room: usize) -> &str {
    let mut used = 0;
    let mut from = text.len();
    for (at, character) in text.char_indices().rev() {
        used += character.width().unwrap_or(0);
        if used > room {
            break;
        }
        from = at;
    }
    &text[from..]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No result is wider than the room, and both ends stay.
    #[test]
    fn cuts_the_middle() {
        for (text, room, expected) in [
            ("jazz-v1", 7, "jazz-v1"),
            ("jazz-v1-7d4b9c-x2x4q", 11, "jazz-…x2x4q"),
            ("jazz-v1-7d4b9c-x2x4q", 10, "jazz-…2x4q"),
            ("jazz", 2, "ja"),
            ("jazz", 0, ""),
            // Two columns each.
            ("ジャズのポッド", 7, "ジ…ッド"),
        ] {
            let fitted = fit(text, room);
            assert!(width(&fitted) <= room, "{fitted}");
            if text.is_ascii() {
                assert_eq!(fitted, expected);
            }
        }
    }
}
