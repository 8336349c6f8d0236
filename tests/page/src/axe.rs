//! What axe-core finds in a page.

use anyhow::{Context, Result};

use crate::Tab;

/// Where `cargo xtask browser` puts it, relative to the workspace.
const AXE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../target/axe/package/axe.min.js"
);

const RUN: &str = "axe.run(document, { resultTypes: ['violations'] }).then((result) => result.violations
  .filter((found) => ['serious', 'critical'].includes(found.impact))
  .map((found) => `${found.id}: ${found.help}: ${found.nodes.map((node) => node.html).join(' | ')}`))";

/// Everything serious or critical, a sentence each.
pub async fn findings(tab: &Tab) -> Result<Vec<String>> {
    let axe = std::fs::read_to_string(AXE)
        .with_context(|| format!("{AXE} is not there: cargo xtask browser makes it"))?;
    tab.eval::<()>(&format!("{axe}; null")).await?;
    tab.eval(RUN).await
}
