//! The table cells of a fragment, found in its HTML.
//!
//! `maud` writes tags in one way and escapes texts and attributes, so that `<td` is a cell wherever
//! it stands. No cell has a table in it.

/// What is around the cells of `html`, tags included, and what is inside each, in the order in
/// which the script finds them (`querySelectorAll("td, th")`).
pub(crate) fn split(html: &str) -> (Vec<&str>, Vec<&str>) {
    let (mut frame, mut cells) = (Vec::new(), Vec::new());
    let mut rest = html;
    while let Some((before, inside, after)) = first(rest) {
        frame.push(before);
        cells.push(inside);
        rest = after;
    }
    frame.push(rest);
    (frame, cells)
}

/// The first cell: what is before its inside, the inside, and what is after that.
fn first(html: &str) -> Option<(&str, &str, &str)> {
    let mut from = 0;
    loop {
        let tag = from + html.get(from..)?.find("<t")?;
        let close = match html.get(tag + 2..tag + 4)? {
            "d>" | "d " => "</td>",
            "h>" | "h " => "</th>",
            _ => {
                from = tag + 2;
                continue;
            }
        };
        let begin = tag + html.get(tag..)?.find('>')? + 1;
        let (before, rest) = html.split_at_checked(begin)?;
        let (inside, after) = rest.split_at_checked(rest.find(close)?)?;
        return Some((before, inside, after));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn are_found_among_other_tags() {
        let html = "<table><thead><tr><th scope=\"col\">A</th><th>B</th></tr></thead><tbody><tr><th \
                    class=\"x\"><time>1</time></th><td></td><td><svg><title>&lt;td&gt;</title></svg></td></tr>\
                    </tbody></table>";
        let (frame, cells) = split(html);
        let svg = "<svg><title>&lt;td&gt;</title></svg>";
        assert_eq!(cells, ["A", "B", "<time>1</time>", "", svg]);
        assert_eq!(frame.len(), cells.len() + 1);
        assert_eq!(frame[0], "<table><thead><tr><th scope=\"col\">");
        assert_eq!(frame[5], "</td></tr></tbody></table>");
        assert_eq!(split("<p>none</p>"), (vec!["<p>none</p>"], vec![]));
        assert_eq!(split("<td>cut"), (vec!["<td>cut"], vec![]));
    }
}
