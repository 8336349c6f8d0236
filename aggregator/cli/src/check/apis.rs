//! Whether kube-apiserver answers for APIs, as an autoscaler asks for them.

use super::objects::Resources;
use super::{Probe, Report};

const GROUP: &str = "APIs";

/// One check for each of `groups`, as `GROUP/VERSION`.
pub(super) async fn check(probe: &Probe<'_>, groups: &[String], report: &mut Report) {
    let mut report = report.group(GROUP);
    for group in groups {
        let path = format!("/apis/{group}");
        let found = probe.connection.read::<Resources>(&path, &[]).await;
        match found {
            Ok(found) if found.group_version == *group => {
                report.ok("api", format!("{group}: answered"));
            }
            Ok(found) => report.fail(
                "api",
                format!("{group}: the answer is about {}", found.group_version),
                "ask whoever runs what is between here and kube-apiserver",
            ),
            Err(error) if error.status() == Some(404) => report.fail(
                "api",
                format!("{group}: not registered"),
                "install what serves it, or take the value api.custom or api.external of the chart",
            ),
            Err(error) if error.status().is_some() => report.fail(
                "api",
                format!("{group}: {error}"),
                format!("run `{} check` without --group", probe.connection.program()),
            ),
            Err(error) => report.unknown("api", format!("{group}: {error}"), ""),
        }
    }
}
