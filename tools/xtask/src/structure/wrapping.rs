//! Checks how text is wrapped: comments at the width of the code, documents not at all (an editor
//! wraps them, and a change of one word is a change of one line).

/// Columns of a comment, as rustfmt has it for code.
const COMMENT_COLUMNS_MAX: usize = 100;

/// Comment lines wider than code. A link cannot be wrapped.
pub(super) fn wide_comments(file: &str, text: &str) -> Vec<String> {
    let wide = |line: &str| {
        line.trim_start().starts_with("//")
            && line.chars().count() > COMMENT_COLUMNS_MAX
            && !line.contains("https://")
    };
    let lines = text.lines().enumerate().filter(|(_, line)| wide(line));
    let findings = lines.map(|(index, _)| {
        let line = index + 1;
        format!("{file}:{line}: a comment wider than {COMMENT_COLUMNS_MAX} columns")
    });
    findings.collect()
}

/// Lines of Markdown that go on with the paragraph or list item of the line before.
pub(super) fn wrapped_paragraphs(file: &str, text: &str) -> Vec<String> {
    let (mut in_code, mut in_paragraph) = (false, false);
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.starts_with("```") {
            (in_code, in_paragraph) = (!in_code, false);
            continue;
        }
        let item = is_list_item(line);
        let other = line.is_empty() || line.starts_with(['#', '|', '<', '>']) || line == "---";
        if in_code || other {
            in_paragraph = false;
        } else if in_paragraph && !item {
            findings.push(format!(
                "{file}:{}: goes on with the paragraph of the line before; write it on one line",
                index + 1
            ));
        } else {
            in_paragraph = true;
        }
    }
    findings
}

fn is_list_item(line: &str) -> bool {
    let number = line.trim_start_matches(|c: char| c.is_ascii_digit());
    line.starts_with("- ")
        || line.starts_with("* ")
        || (number.len() < line.len() && number.starts_with(". "))
}
