//! Checks the flags by which replicas ask each other.

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use crate::args::PeersArgs;

/// How to reach the other replicas.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PeersConfig {
    /// Names with ports, each of one or more replicas.
    pub hosts: Vec<(String, u16)>,
    /// Address of this replica.
    pub own: Option<IpAddr>,
    /// `None`: the CA that this program keeps.
    pub ca_file: Option<PathBuf>,
    pub token_file: PathBuf,
}

impl PeersConfig {
    /// `None` without other replicas. `has_files`: the API's certificate is from files.
    pub(super) fn check(args: PeersArgs, has_files: bool) -> Result<Option<Self>> {
        let PeersArgs {
            peers,
            pod_ip,
            peers_ca_file,
            peers_token_file,
            replica_name: _,
        } = args;
        if peers.is_empty() {
            return Ok(None);
        }
        let hosts: Result<Vec<_>> = peers.iter().map(|peer| host(peer)).collect();
        let hosts = hosts?;
        if has_files && peers_ca_file.is_none() {
            bail!(
                "--peers with --api-cert-file needs --peers-ca-file: the CA behind certificates from files is not \
                 known here"
            );
        }
        Ok(Some(Self {
            hosts,
            own: pod_ip,
            ca_file: peers_ca_file,
            token_file: peers_token_file,
        }))
    }
}

fn host(peer: &str) -> Result<(String, u16)> {
    let parts = peer.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    let (host, port) = parts.with_context(|| format!("--peers {peer:?}: HOST:PORT is expected"))?;
    let port = port
        .parse()
        .with_context(|| format!("--peers {peer:?}: {port:?} is not a port"))?;
    Ok((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(peers: &[&str]) -> PeersArgs {
        PeersArgs {
            replica_name: String::new(),
            peers: peers.iter().map(|peer| (*peer).to_owned()).collect(),
            pod_ip: None,
            peers_ca_file: None,
            peers_token_file: "t".into(),
        }
    }

    /// Names with ports; without a CA to verify them by they are refused at once.
    #[test]
    fn names_have_ports() {
        let config = PeersConfig::check(args(&["a.b:443", "c:1"]), false).unwrap();
        let hosts = config.unwrap().hosts;
        assert_eq!(hosts, [("a.b".to_owned(), 443), ("c".to_owned(), 1)]);
        assert_eq!(PeersConfig::check(args(&[]), true).unwrap(), None);
        for (peers, has_files, expected) in [
            ("a", false, "--peers \"a\": HOST:PORT is expected"),
            (":1", false, "--peers \":1\": HOST:PORT is expected"),
            ("a:b", false, "--peers \"a:b\": \"b\" is not a port"),
            (
                "a:1",
                true,
                "--peers with --api-cert-file needs --peers-ca-file",
            ),
        ] {
            let error = PeersConfig::check(args(&[peers]), has_files).unwrap_err();
            assert!(error.to_string().starts_with(expected), "{error}");
        }
    }
}
