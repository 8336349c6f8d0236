//! Signals that stop the program.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that SIGTERM or SIGINT cancels.
pub fn on_signal() -> CancellationToken {
    let token = CancellationToken::new();
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let token = token.clone();
        let mut signal = match signal(kind) {
            Ok(signal) => signal,
            Err(error) => {
                tracing::warn!(signal = kind.as_raw_value(), %error, "signal not handled");
                continue;
            }
        };
        tokio::spawn(async move {
            if signal.recv().await.is_some() {
                tracing::info!(signal = kind.as_raw_value(), "signal received");
                token.cancel();
            }
        });
    }
    token
}
