//! The Envoys that the mesh is tested on.

use std::path::PathBuf;

use anyhow::Result;
use tests_support::artifacts;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Version {
    /// The oldest that is supported here.
    Old,
    /// The default one.
    New,
}

// === impl Version ===

impl Version {
    /// Its program, as [`tests_support::envoy::Options`] takes it.
    pub fn binary(self) -> Result<Option<PathBuf>> {
        match self {
            Self::Old => artifacts::old_envoy().map(Some),
            Self::New => Ok(None),
        }
    }
}

/// Runs the async function `$name(Version)` as a test on each version.
#[macro_export]
macro_rules! on_each_version {
    ($($name:ident),* $(,)?) => {
        $(mod $name {
            use tests_mesh::versions::Version;

            #[tokio::test(flavor = "multi_thread")]
            async fn on_the_old_envoy() {
                Box::pin(super::$name(Version::Old)).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn on_the_new_envoy() {
                Box::pin(super::$name(Version::New)).await;
            }
        })*
    };
}
