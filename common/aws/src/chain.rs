//! Credentials of AWS: the chain of its SDK (environment, profile, web identity of a service
//! account, Pod Identity and containers, instance metadata), and from there into another role if
//! asked.

use std::sync::Arc;

use aws_config::sts::AssumeRoleProvider;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::provider::SharedCredentialsProvider;

use crate::credentials::CredentialCache;
use crate::http_client;

/// Name of our sessions in other roles, as `CloudTrail` shows it.
const SESSION: &str = "meshmeter";

/// Credentials of the chain for `region`, or of `role` (an ARN), assumed by them. Reads only files
/// and the environment; the first network request is made on first use.
pub async fn credentials(region: &str, role: Option<&str>) -> Arc<CredentialCache> {
    let config = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http_client::new())
        .region(Region::new(region.to_owned()))
        .load()
        .await;
    let provider = match (role, config.credentials_provider()) {
        (None, Some(provider)) => provider,
        (None, None) => SharedCredentialsProvider::new(NoProvider),
        (Some(role), _) => {
            let assumed = AssumeRoleProvider::builder(role)
                .session_name(SESSION)
                .configure(&config)
                .build()
                .await;
            SharedCredentialsProvider::new(assumed)
        }
    };
    CredentialCache::new(provider)
}

/// Always fails; used where the chain has no provider.
#[derive(Debug)]
struct NoProvider;

impl aws_credential_types::provider::ProvideCredentials for NoProvider {
    fn provide_credentials<'a>(
        &'a self,
    ) -> aws_credential_types::provider::future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        use aws_credential_types::provider::error::CredentialsError;
        let error = CredentialsError::not_loaded("no provider in the chain");
        aws_credential_types::provider::future::ProvideCredentials::ready(Err(error))
    }
}
