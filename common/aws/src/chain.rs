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

/// What the chain finds for `region`; with `role` (an ARN), that role's instead. Nothing is asked
/// before the first use, but for files and the environment.
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

/// Stands where the chain has nothing to offer.
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
        let none = CredentialsError::not_loaded("no provider in the chain");
        aws_credential_types::provider::future::ProvideCredentials::ready(Err(none))
    }
}
