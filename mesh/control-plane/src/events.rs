//! Logs refused resources.

use crate::mesh::{Meshes, RefusedObject};

/// Log lines per change at most: one change may refuse thousands of resources.
const LINES_MAX: usize = 50;

/// Logs refusals that are not in `before`.
pub(crate) fn log(meshes: &Meshes, refused: &[RefusedObject], before: &[RefusedObject]) {
    let is_new = |refused: &&RefusedObject| !before.contains(refused);
    let new: Vec<_> = refused.iter().filter(is_new).collect();
    for refused in new.iter().take(LINES_MAX) {
        let RefusedObject {
            what, object, why, ..
        } = refused;
        let served = object.as_ref().map(|(kind, key)| meshes.serves(*kind, key));
        match served {
            Some(true) => tracing::warn!(
                resource = what,
                reason = why,
                "resource refused in part; serving the rest, or its last good state"
            ),
            Some(false) => tracing::error!(resource = what, reason = why, "not served"),
            None => tracing::error!(
                file = what,
                reason = why,
                "file not read; serving its last good content"
            ),
        }
    }
    if let Some(more) = new.len().checked_sub(LINES_MAX).filter(|more| *more > 0) {
        tracing::error!(resource.count = more, "further resources are refused");
    }
}
