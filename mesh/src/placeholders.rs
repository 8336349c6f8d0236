//! The flags of placeholders in manifests.

use mesh_control_plane::lint::Placeholders;

#[expect(clippy::doc_markdown, reason = "these are texts of --help")]
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub(crate) struct PlaceholderArgs {
    /// Replace each ${NAME} and $NAME in the manifests by VALUE. May be given several times.
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    set: Vec<(String, String)>,

    /// Let every other ${NAME} stand for itself: ${MESH_NAME} is read as mesh-name.
    #[arg(long)]
    tolerate_placeholders: bool,
}

// === impl PlaceholderArgs ===

impl PlaceholderArgs {
    pub(crate) fn read(&self) -> Placeholders {
        Placeholders {
            values: self.set.iter().cloned().collect(),
            tolerated: self.tolerate_placeholders,
        }
    }
}

/// Parses `NAME=VALUE`.
fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text
        .split_once('=')
        .ok_or_else(|| format!("{text:?} is not NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}
