//! `meshmeter remote-write check`: one sample, and what the receiver thinks of it.

use aggregator_core::time::Clock;
use aggregator_remote_write::answer::Class;
use aggregator_remote_write::block::Kind;
use aggregator_remote_write::encoder::{Encoder, SeriesLabels};
use aggregator_remote_write::pieces::Piece;
use aggregator_remote_write::protocol::Version;
use aggregator_remote_write::receiver::Receiver as _;
use anyhow::{Context as _, Result, bail};

use super::{receiver, signed};
use crate::config::{AuthConfig, RemoteWriteConfig};

/// Signs and sends one sample, and says what the receiver thinks of it.
pub async fn check(config: &RemoteWriteConfig, clock: &Clock) -> Result<String> {
    let receiver = receiver(config, clock).await?;
    let external = &config.naming.external_labels;
    let labels = external
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    let labels = SeriesLabels::new("meshmeter_remote_write_check", labels)?;
    let mut encoder = Encoder::new(0, Kind::Plain, signed(clock.wall().0));
    encoder.push(&labels, 1.0)?;
    let blocks = encoder.finish()?;
    let block = blocks.first().context("no block")?;
    let version = config.version;
    let body = Piece::from(block.clone()).body_in(version);
    let answer = receiver.send(body, version, 0).await;
    let url = config.endpoint.url();
    let said = match answer.text() {
        "" => String::new(),
        text => format!("; the receiver says: {text}"),
    };
    let skew = receiver.clock_skew();
    match answer.class() {
        Class::Stored => Ok(format!(
            "{url}: one sample of meshmeter_remote_write_check was stored"
        )),
        Class::Deduplicated => Ok(format!(
            "{url}: answered, and another replica's samples are stored at the moment"
        )),
        class => bail!(
            "{url}: not stored ({}){said}\n{}",
            class.as_str(),
            explained(class, answer.text(), skew, config)
        ),
    }
}

/// What to do about it.
fn explained(class: Class, text: &str, skew: f64, config: &RemoteWriteConfig) -> String {
    if skew.abs() > 300.0 {
        return format!(
            "The receiver's clock is {skew:.0} s ahead of this machine's: AWS takes requests within 300 s. Set the clock."
        );
    }
    if class == Class::Unsupported && config.version == Version::V2 {
        return "The receiver does not know Remote-Write 2.0: leave out --remote-write-protocol."
            .to_owned();
    }
    let lower = text.to_lowercase();
    match class {
        Class::Unauthorised if lower.contains("credential should be scoped") || lower.contains("region") => {
            "The request is signed for another region than the workspace's: give --remote-write-region.".to_owned()
        }
        Class::Unauthorised if lower.contains("signature") => {
            "The signature is not that of the key: check the secret key, and that no proxy changes the request.".to_owned()
        }
        Class::Unauthorised if lower.contains("no aws credentials") => {
            "None of environment, profile, service account, Pod Identity and instance has credentials.".to_owned()
        }
        Class::Unauthorised if matches!(config.auth, AuthConfig::SigV4 { .. }) => {
            "Check that the role has aps:RemoteWrite for this workspace, the workspace id, and the role's trust.".to_owned()
        }
        Class::Unauthorised => "Check user, password or token.".to_owned(),
        Class::Misdirected => "There is no receiver at this path: check the URL and the workspace id.".to_owned(),
        Class::Failed => "The receiver cannot be reached or failed: check the host, the network and its health.".to_owned(),
        _ => "The receiver was reached and refused the sample.".to_owned(),
    }
}
