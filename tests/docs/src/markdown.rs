//! Just enough of Markdown: fenced blocks, links, anchors, cells of tables.

#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Block {
    /// Number of the line with the fence.
    pub line: usize,
    pub language: String,
    /// What is between the fences.
    pub text: String,
}

/// The text in one cell of a table: what is not code is no markup.
pub fn cell(text: &str) -> String {
    let text = text.replace('|', "\\|").replace('\n', " ");
    let parts = text
        .split('`')
        .enumerate()
        .map(|(nth, part)| match nth % 2 {
            0 => part.replace("__", "\\_\\_").replace('<', "&lt;"),
            _ => part.to_owned(),
        });
    parts.collect::<Vec<_>>().join("`")
}

pub fn blocks(document: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (index, line) in document.lines().enumerate() {
        let fence = line.trim_start().strip_prefix("```");
        match (fence, open.take()) {
            (Some(language), None) => {
                open = Some(Block {
                    line: index + 1,
                    language: language.trim().to_owned(),
                    text: String::new(),
                });
            }
            (Some(_), Some(block)) => blocks.push(block),
            (None, Some(mut block)) => {
                block.text.push_str(line);
                block.text.push('\n');
                open = Some(block);
            }
            (None, None) => {}
        }
    }
    blocks
}

/// The document without what is fenced.
pub fn prose(document: &str) -> String {
    let mut fenced = false;
    let lines = document.lines().map(|line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        if fenced || fence { "" } else { line }
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Targets of `[text](target)` that lead into the tree, with the number of their line.
pub fn links(document: &str) -> Vec<(usize, String)> {
    let prose = prose(document);
    let numbered = prose.lines().enumerate();
    let links = numbered.flat_map(|(index, line)| {
        let targets = line
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split_once(')'));
        targets.map(move |(target, _)| (index + 1, target.to_owned()))
    });
    links
        .filter(|(_, target)| !target.contains("://") && !target.starts_with("mailto:"))
        .collect()
}

/// Anchors of a document's headings, as GitHub makes them.
pub fn anchors(document: &str) -> Vec<String> {
    let prose = prose(document);
    let headings = prose.lines().filter(|line| line.starts_with('#'));
    let mut anchors: Vec<String> = Vec::new();
    for heading in headings {
        let base = anchor(heading.trim_start_matches('#').trim());
        let same = anchors.iter().filter(|known| {
            known
                .strip_prefix(&base)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        });
        let same = same.filter(|known| {
            known[base.len()..]
                .trim_start_matches('-')
                .chars()
                .all(|c| c.is_ascii_digit())
        });
        let count = same.count();
        anchors.push(if count == 0 {
            base
        } else {
            format!("{base}-{count}")
        });
    }
    anchors
}

fn anchor(heading: &str) -> String {
    let kept = heading.to_lowercase();
    let kept = kept
        .chars()
        .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// Rows of the tables: the cells, trimmed.
pub fn rows(document: &str) -> Vec<Vec<String>> {
    let prose = prose(document);
    let lines = prose
        .lines()
        .filter_map(|line| line.strip_prefix('|')?.strip_suffix('|'));
    lines
        .map(|line| line.split('|').map(|cell| cell.trim().to_owned()).collect())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = "# Wide `--x` and (y)\n[a](b.md#c) [e](https://e)\n```yaml\n# no heading\na: 1\n```\n## Same\n## Same\n| a | b |\n";

    /// Fences hide headings and links; anchors are GitHub's, doubled ones numbered.
    #[test]
    fn reads_markdown() {
        assert_eq!(anchors(DOCUMENT), ["wide---x-and-y", "same", "same-1"]);
        assert_eq!(links(DOCUMENT), [(2, "b.md#c".to_owned())]);
        let blocks = blocks(DOCUMENT);
        assert_eq!(
            (blocks[0].language.as_str(), blocks[0].text.as_str()),
            ("yaml", "# no heading\na: 1\n")
        );
        assert_eq!(rows(DOCUMENT), [["a", "b"]]);
        assert_eq!(cell("a|b `__c__` __d__"), "a\\|b `__c__` \\_\\_d\\_\\_");
    }
}
