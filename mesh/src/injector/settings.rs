//! Settings of injection, rebuilt when files change.

use std::sync::Arc;

use anyhow::Result;
use common_tls::files;
use mesh_injector::settings::Settings;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::metrics::Metrics;

pub(super) type SettingsReceiver = watch::Receiver<Arc<Settings>>;

/// Builds the settings and polls their files until `stop`. If a rebuild fails, the last settings
/// stay.
pub(super) fn follow(
    make: impl Fn() -> Result<Settings> + Send + 'static,
    metrics: &Metrics,
    stop: CancellationToken,
) -> Result<SettingsReceiver> {
    let (sender, receiver) = watch::channel(Arc::new(make()?));
    let metrics = metrics.clone();
    tokio::spawn(async move {
        let reload = move || renew(&make, &sender, &metrics);
        files::poll("settings of pods", stop, reload).await;
    });
    Ok(receiver)
}

/// True if the settings changed.
fn renew(
    make: &impl Fn() -> Result<Settings>,
    sender: &watch::Sender<Arc<Settings>>,
    metrics: &Metrics,
) -> Result<bool> {
    let renewed = make().inspect_err(|_| metrics.settings_failed())?;
    Ok(sender.send_if_modified(|current| {
        let changed = **current != renewed;
        if changed {
            *current = Arc::new(renewed);
        }
        changed
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(image: &str) -> Settings {
        Settings {
            image: image.to_owned(),
            ..Settings::default()
        }
    }

    /// A changed file changes the settings; an unreadable one changes nothing and is counted.
    #[test]
    fn settings_change_with_their_files() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("image");
        let make = || -> Result<Settings> { Ok(settings(&std::fs::read_to_string(&file)?)) };
        std::fs::write(&file, "a").unwrap();
        let (sender, followed) = watch::channel(Arc::new(make().unwrap()));
        let metrics = Metrics::default();
        assert!(!renew(&make, &sender, &metrics).unwrap());
        std::fs::remove_file(&file).unwrap();
        assert!(renew(&make, &sender, &metrics).is_err());
        assert_eq!(followed.borrow().image, "a");
        std::fs::write(&file, "b").unwrap();
        assert!(renew(&make, &sender, &metrics).unwrap());
        assert_eq!(followed.borrow().image, "b");
        assert_eq!(metrics.settings_failures(), 1);
    }
}
