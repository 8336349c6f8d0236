//! What the log says of resources that are refused.

use crate::mesh::{Meshes, RefusedObject};

/// Lines for one change: whoever writes manifests could have thousands.
const LINES_MAX: usize = 50;

/// Logs what is new among `refused`.
pub(crate) fn log(meshes: &Meshes, refused: &[RefusedObject], before: &[RefusedObject]) {
    let new: Vec<_> = refused.iter().filter(|one| !before.contains(one)).collect();
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
        tracing::error!(
            resource.count = more,
            "more resources are refused than are named here"
        );
    }
}
