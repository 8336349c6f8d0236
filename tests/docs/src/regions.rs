//! Regions of a document that a program fills: `<!-- generated: NAME -->` up to `<!-- end -->`.

use anyhow::{Context as _, Result, bail};

const OPENING: &str = "<!-- generated: ";
const CLOSING: &str = "<!-- end -->";

/// The document with each region filled by what `content` has for its name.
pub fn fill(document: &str, content: impl Fn(&str) -> Option<String>) -> Result<String> {
    let mut out = String::new();
    let mut rest = document;
    while let Some((before, after)) = rest.split_once(OPENING) {
        let (name, after) = after
            .split_once(" -->")
            .context("a region's name has no end")?;
        let Some((_, after)) = after.split_once(CLOSING) else {
            bail!("the region {name:?} has no {CLOSING}");
        };
        let content =
            content(name).with_context(|| format!("nothing generates the region {name:?}"))?;
        out.push_str(before);
        out.push_str(OPENING);
        out.push_str(name);
        out.push_str(" -->\n");
        out.push_str(&content);
        out.push_str(CLOSING);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

/// The first lines that differ, for people.
pub fn difference(committed: &str, generated: &str) -> String {
    let (old, new): (Vec<_>, Vec<_>) = (committed.lines().collect(), generated.lines().collect());
    let gone = old
        .iter()
        .filter(|line| !new.contains(line))
        .map(|line| format!("- {line}"));
    let come = new
        .iter()
        .filter(|line| !old.contains(line))
        .map(|line| format!("+ {line}"));
    gone.chain(come).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What stands between the marks is replaced, the rest stays; twice is once.
    #[test]
    fn fills_regions() {
        let document = "a\n<!-- generated: x -->\nold\n<!-- end -->\nb\n";
        let content = |name: &str| (name == "x").then(|| "new\n".to_owned());
        let filled = fill(document, content).unwrap();
        assert_eq!(filled, "a\n<!-- generated: x -->\nnew\n<!-- end -->\nb\n");
        assert_eq!(fill(&filled, content).unwrap(), filled);
        assert_eq!(difference("a\nb\n", "a\nc\n"), "- b\n+ c");
    }

    /// A region that nothing fills, or that has no end, is an error that names it.
    #[test]
    fn refuses_unknown_regions() {
        for document in [
            "<!-- generated: y -->\n<!-- end -->",
            "<!-- generated: y -->\n",
        ] {
            let error = fill(document, |_| None).unwrap_err().to_string();
            assert!(error.contains("\"y\""), "{error}");
        }
    }
}
