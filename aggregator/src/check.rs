//! `meshmeter check`: whether kube-apiserver answers for the metrics API.

use std::time::Duration;

use common_kubernetes::ClusterError;
use common_kubernetes::connection::{connect, get};
use kube::Client;
use serde::Deserialize;
use thiserror::Error;
use tokio::time::{sleep, timeout};

use crate::args::CheckArgs;

const JSON: &str = "application/json";
/// Time between two attempts.
const AGAIN_AFTER: Duration = Duration::from_secs(2);

/// What discovery says of a group's version.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Discovered {
    group_version: String,
}

#[derive(Debug, Error)]
pub enum CheckError {
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    #[error("{asked}: the answer is about {answered}")]
    Other { asked: String, answered: String },
}

/// Asks for every group, again and again while there is time; what it was answered, or why not.
pub async fn check(args: &CheckArgs) -> Result<String, CheckError> {
    let client = connect(args.kubeconfig.as_deref()).await?;
    let mut last = ask(&client, &args.group).await;
    let until_answered = async {
        while last.is_err() {
            sleep(AGAIN_AFTER).await;
            last = ask(&client, &args.group).await;
        }
    };
    let _ = timeout(Duration::from_secs(args.wait_seconds), until_answered).await;
    last
}

async fn ask(client: &Client, groups: &[String]) -> Result<String, CheckError> {
    let mut answered = Vec::new();
    for group in groups {
        let found: Discovered = get(client, &format!("/apis/{group}"), JSON).await?;
        if found.group_version != *group {
            return Err(CheckError::Other {
                asked: group.clone(),
                answered: found.group_version,
            });
        }
        answered.push(format!("{group}: answered"));
    }
    Ok(answered.join("\n"))
}
