//! `CHANGELOG.md`: sections of releases, and the open one.

use anyhow::{Result, ensure};
use time::Date;

use crate::version::Version;

const OPEN: &str = "## Unreleased";

/// What a version's section says, without its heading.
#[must_use]
pub fn section<'a>(text: &'a str, version: &Version) -> Option<&'a str> {
    let heading = format!("\n## {version} - ");
    let (_, rest) = text.split_once(&heading)?;
    let (_date, body) = rest.split_once('\n')?;
    Some(up_to_next(body))
}

/// What stands in the open section.
#[must_use]
pub fn open(text: &str) -> &str {
    text.split_once(OPEN)
        .map_or("", |(_, body)| up_to_next(body))
}

/// The open section becomes that of `version`, and an empty one opens.
pub fn close(text: &str, version: &Version, date: Date) -> Result<String> {
    ensure!(
        section(text, version).is_none(),
        "CHANGELOG.md has a section {version} already"
    );
    ensure!(
        !open(text).is_empty(),
        "CHANGELOG.md: nothing stands under {OPEN:?}"
    );
    let heading = format!("{OPEN}\n\n## {version} - {date}");
    Ok(text.replacen(OPEN, &heading, 1))
}

fn up_to_next(body: &str) -> &str {
    let end = body.find("\n## ").unwrap_or(body.len());
    body[..end].trim()
}

#[cfg(test)]
mod tests {
    use time::macros::date;

    use super::{close, open, section};

    const TEXT: &str = "# Changelog\n\n## Unreleased\n\n### Added\n- A bell.\n\n## 0.1.0 - 2026-01-02\n\n- First.\n";

    /// A closed section holds what the open one held, and the others stay as they were.
    #[test]
    fn the_open_section_becomes_that_of_a_release() {
        let version = "0.2.0".parse().unwrap();
        assert_eq!(section(TEXT, &version), None);
        let closed = close(TEXT, &version, date!(2026 - 12 - 01)).unwrap();
        assert!(closed.contains("\n## 0.2.0 - 2026-12-01\n"), "{closed}");
        assert_eq!(section(&closed, &version), Some("### Added\n- A bell."));
        assert_eq!(open(&closed), "");
        let first = "0.1.0".parse().unwrap();
        assert_eq!(section(&closed, &first), Some("- First."));
    }

    #[test]
    fn a_section_is_closed_once_and_not_empty() {
        let date = date!(2026 - 12 - 01);
        let error = close(TEXT, &"0.1.0".parse().unwrap(), date).unwrap_err();
        assert!(error.to_string().contains("has a section 0.1.0 already"));
        let empty = "## Unreleased\n\n## 0.1.0 - 2026-01-02\n";
        let error = close(empty, &"0.2.0".parse().unwrap(), date).unwrap_err();
        assert!(error.to_string().contains("nothing stands under"));
    }
}
