//! Commands of others that make a release public: they run only where they have an identity, in a
//! workflow.

use std::path::PathBuf;
use std::process::Command;

use crate::version::Version;

/// Signs what was pushed, by digest, with the identity of the workflow.
#[must_use]
pub fn signature(reference: &str) -> Command {
    let mut cosign = Command::new("cosign");
    cosign.args(["sign", "--yes", reference]);
    cosign
}

/// Makes the release of a tag that is there, with its files.
#[must_use]
pub fn release(version: &Version, notes: &str, files: &[PathBuf]) -> Command {
    let tag = version.tag();
    let mut gh = Command::new("gh");
    gh.args(["release", "create", &tag, "--verify-tag"]);
    gh.args(["--title", &tag, "--notes", notes]);
    if version.is_before_release() {
        gh.arg("--prerelease");
    }
    gh.args(files);
    gh
}

#[cfg(test)]
mod tests {
    use super::{release, signature};

    #[test]
    fn what_is_signed_is_named_by_its_digest() {
        let arguments = signature("ghcr.io/owner/mesh@sha256:00");
        let arguments: Vec<_> = arguments.get_args().collect();
        assert_eq!(arguments, ["sign", "--yes", "ghcr.io/owner/mesh@sha256:00"]);
    }

    /// A tag that is not there fails instead of being made, and what comes before a release is not
    /// the newest one.
    #[test]
    fn a_release_is_of_a_tag_that_is_there() {
        for (version, is_before) in [("1.2.3", false), ("1.2.3-rc.1", true)] {
            let gh = release(&version.parse().unwrap(), "A bell.", &["a.tgz".into()]);
            let arguments: Vec<_> = gh.get_args().filter_map(|word| word.to_str()).collect();
            let tag = format!("v{version}");
            assert_eq!(arguments[..4], ["release", "create", &tag, "--verify-tag"]);
            assert_eq!(arguments.contains(&"--prerelease"), is_before);
            assert_eq!(arguments.last(), Some(&"a.tgz"));
        }
    }
}
