//! The injector's webhook.

use super::objects::WebhookConfiguration;
use super::{Probe, Report, word};
use crate::ConnectionError;

const GROUP: &str = "Webhook";
/// The injector's `MutatingWebhookConfiguration`; only App Mesh has one.
pub(super) const NAME: &str = "aa-meshmeter-injector";

/// Whether it is there; false if that is not known.
pub(super) async fn is_installed(probe: &Probe<'_>) -> bool {
    read(probe).await.is_ok()
}

async fn read(probe: &Probe<'_>) -> Result<WebhookConfiguration, ConnectionError> {
    const PATH: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
    probe.connection.read(&format!("{PATH}/{NAME}"), &[]).await
}

pub(super) async fn check(probe: &Probe<'_>, report: &mut Report) {
    const CHECK: &str = "webhook";
    let found = read(probe).await;
    let mut report = report.group(GROUP);
    let found = match found {
        Ok(found) => found,
        Err(ConnectionError::NotFound { .. }) => {
            return report.skip(
                CHECK,
                format!("{NAME} is not here (only mesh: app-mesh has it)"),
            );
        }
        Err(error) if error.status() == Some(403) => {
            return report.skip(
                CHECK,
                format!("{NAME}: you may not get mutatingwebhookconfigurations"),
            );
        }
        Err(error) => return report.unknown(CHECK, format!("{NAME}: {error}"), ""),
    };
    let Some(webhook) = found.webhooks.first() else {
        let fix = "upgrade the chart";
        return report.fail(CHECK, format!("{NAME} has no webhook"), fix);
    };
    let service = webhook.client_config.service.clone().unwrap_or_default();
    let consequence = match webhook.failure_policy.as_str() {
        "Ignore" => "pods start without the filter",
        _ => "pods do not start",
    };
    if webhook.client_config.ca_bundle.is_empty() {
        let namespace = word(&service.namespace);
        return report.fail(
            CHECK,
            format!("{NAME} has no caBundle: kube-apiserver calls nobody, and {consequence}"),
            format!("the injector writes it when it runs: `kubectl -n {namespace} logs deployment/meshmeter-injector` says why it does not"),
        );
    }
    report.ok(
        CHECK,
        format!(
            "{NAME} has its caBundle and calls {} in namespace {}",
            service.name, service.namespace
        ),
    );
}
