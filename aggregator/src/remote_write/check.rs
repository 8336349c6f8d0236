//! `meshmeter remote-write check`: sends one sample and explains the response.

use aggregator_remote_write::batch::Kind;
use aggregator_remote_write::encoder::{Encoder, SeriesLabels};
use aggregator_remote_write::protocol::Version;
use aggregator_remote_write::receiver::Receiver as _;
use aggregator_remote_write::sub_batch::SubBatch;
use aggregator_remote_write::write_response::{Class, WriteResponse};
use anyhow::{Context as _, Result, bail};
use common_time::Clock;

use super::{receiver, signed};
use crate::config::{AuthConfig, RemoteWriteConfig};

/// Signs and sends one sample, and explains the response.
pub async fn check(config: &RemoteWriteConfig, clock: &Clock) -> Result<String> {
    let receiver = receiver(config, clock).await?;
    let external = &config.naming.external_labels;
    let labels = external
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    let labels = SeriesLabels::new("meshmeter_remote_write_check", labels)?;
    let mut encoder = Encoder::new(0, Kind::Plain, signed(clock.wall().0));
    encoder.push(&labels, 1.0)?;
    let batches = encoder.finish()?;
    let batch = batches.first().context("no batch")?;
    let version = config.version;
    let body = SubBatch::from(batch.clone()).body_in(version);
    let response = receiver.send(body, version, 0).await;
    let url = config.endpoint.url();
    let skew = receiver.clock_skew();
    match response.class() {
        Class::Stored => Ok(format!(
            "{url}: one sample of meshmeter_remote_write_check was stored"
        )),
        Class::Deduplicated => Ok(format!(
            "{url}: answered, and another replica's samples are stored at the moment"
        )),
        class => bail!(
            "{url}: {}\n{}",
            outcome(class, &response),
            advice(&response, skew, config)
        ),
    }
}

/// What happened, with the error text of the receiver.
fn outcome(class: Class, response: &WriteResponse) -> String {
    match (response, response.text()) {
        (WriteResponse::Unsigned(error), _) => format!("not sent: {error}"),
        (WriteResponse::None(error), _) => format!("no response: {error}"),
        (_, "") => format!("not stored ({})", class.as_str()),
        (_, text) => format!("not stored ({}); the receiver says: {text}", class.as_str()),
    }
}

/// How to fix it.
fn advice(response: &WriteResponse, skew: f64, config: &RemoteWriteConfig) -> String {
    let class = response.class();
    let lower = response.text().to_lowercase();
    if let WriteResponse::Unsigned(_) = response {
        return without_credentials(&lower, &config.auth).to_owned();
    }
    if skew.abs() > 300.0 {
        return format!(
            "The receiver's clock is {skew:.0} s ahead of this machine's: AWS takes requests within 300 s. Set the clock."
        );
    }
    if class == Class::Unsupported && config.version == Version::V2 {
        return "The receiver does not know Remote-Write 2.0: leave out --remote-write-protocol."
            .to_owned();
    }
    let fix = match class {
        Class::Unauthorised => unauthorised(&lower, &config.auth),
        Class::SeriesLimit => {
            "The receiver has reached its limit of active series: have it raised, or write fewer."
        }
        Class::Misdirected => {
            "There is no receiver at this path: check the URL and the workspace id."
        }
        Class::Failed => {
            "The receiver cannot be reached or failed: check the host, the network, HTTPS_PROXY and NO_PROXY, and the receiver's health."
        }
        _ => "The receiver was reached and refused the sample.",
    };
    fix.to_owned()
}

/// How to fix refused credentials. `text` is the receiver's, in lower case.
fn unauthorised(text: &str, auth: &AuthConfig) -> &'static str {
    match auth {
        AuthConfig::SigV4 { .. }
            if text.contains("credential should be scoped") || text.contains("region") =>
        {
            "The request is signed for another region than the workspace's: give --remote-write-region."
        }
        AuthConfig::SigV4 { .. } if text.contains("signature") => {
            "The signature is not that of the key: check the secret key, and that no proxy changes the request."
        }
        AuthConfig::SigV4 { .. } => {
            "Check that the role has aps:RemoteWrite for this workspace, and the workspace id."
        }
        AuthConfig::Basic { .. } => {
            "Check --remote-write-user and the password in --remote-write-secret-file."
        }
        AuthConfig::Bearer { .. } => "Check the token in --remote-write-secret-file.",
        AuthConfig::None => {
            "The receiver asks who sends, and requests do not say: give --remote-write-auth."
        }
    }
}

/// How to fix missing credentials. `error` is in lower case.
fn without_credentials(error: &str, auth: &AuthConfig) -> &'static str {
    let has = |words: &[&str]| words.iter().any(|word| error.contains(word));
    if !matches!(auth, AuthConfig::SigV4 { .. }) {
        return "Check --remote-write-secret-file.";
    }
    if has(&[
        "dispatch failure",
        "timeout",
        "timed out",
        "no response within",
    ]) {
        return "What gives out the credentials (STS, the Pod Identity agent or the instance) cannot be reached; the receiver was not asked. Check DNS, network policies, HTTPS_PROXY and NO_PROXY, and AWS_ENDPOINT_URL_STS if it is set.";
    }
    if has(&[
        "accessdenied",
        "not authorized",
        "invalididentitytoken",
        "expiredtoken",
    ]) {
        return "The role cannot be assumed: check its trust policy (OIDC provider, service account, namespace), the role's ARN, and of --remote-write-role-arn that the first role has sts:AssumeRole.";
    }
    if has(&[
        "no provider in the chain",
        "not loaded",
        "not enabled",
        "no credentials",
    ]) {
        return "None of environment, profile, service account, Pod Identity and instance has credentials.";
    }
    "The credentials could not be had; the receiver was not asked."
}

#[cfg(test)]
mod tests {
    use aggregator_remote_write::write_response::{Class, WriteResponse};

    use super::{outcome, unauthorised, without_credentials};
    use crate::config::AuthConfig;

    fn sigv4() -> AuthConfig {
        AuthConfig::SigV4 {
            region: "eu-west-1".to_owned(),
            role: None,
        }
    }

    #[test]
    fn only_the_receivers_words_are_said_to_be_its() {
        let unsigned = WriteResponse::Unsigned("no AWS credentials: dns error".to_owned());
        assert_eq!(
            outcome(Class::Unauthorised, &unsigned),
            "not sent: no AWS credentials: dns error"
        );
        let none = WriteResponse::None("connection refused".to_owned());
        assert_eq!(
            outcome(Class::Failed, &none),
            "no response: connection refused"
        );
        let refused = WriteResponse::Status {
            code: 403,
            retry_after: None,
            body: "no".to_owned(),
            written: None,
        };
        assert_eq!(
            outcome(Class::Unauthorised, &refused),
            "not stored (unauthorised); the receiver says: no"
        );
    }

    #[test]
    fn each_way_of_signing_has_its_own_advice() {
        for (auth, text, expected) in [
            (
                sigv4(),
                "credential should be scoped to a valid region",
                "--remote-write-region",
            ),
            (sigv4(), "the request signature we calculated", "secret key"),
            (
                sigv4(),
                "user is not authorized to perform",
                "aps:RemoteWrite",
            ),
            (AuthConfig::None, "region", "--remote-write-auth"),
            (
                AuthConfig::Bearer { file: "x".into() },
                "signature",
                "token",
            ),
            (
                AuthConfig::Basic {
                    user: "u".to_owned(),
                    file: "x".into(),
                },
                "",
                "--remote-write-user",
            ),
        ] {
            let advice = unauthorised(text, &auth);
            assert!(advice.contains(expected), "{text}: {advice}");
        }
        for (error, expected) in [
            (
                "no aws credentials: dispatch failure: io error: dns error",
                "cannot be reached",
            ),
            (
                "no aws credentials: no response within 20s",
                "cannot be reached",
            ),
            (
                "service error: accessdenied: not authorized to perform sts:assumerole",
                "trust policy",
            ),
            (
                "no aws credentials: no provider in the chain",
                "None of environment",
            ),
            ("service error: unhandled", "could not be had"),
        ] {
            let advice = without_credentials(error, &sigv4());
            assert!(advice.contains(expected), "{error}: {advice}");
        }
    }
}
