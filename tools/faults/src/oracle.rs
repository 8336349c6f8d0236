//! Envoy's own records for scenarios in which it ends and its `/stats` are lost.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tests_support::plugin::AGGREGATOR_CLUSTER;
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// Bytes of a datagram: Envoy's statsd sink sends one statistic each.
const DATAGRAM_BYTES_MAX: usize = 2048;

/// A statsd server that adds up counters. Envoy flushes to it as it ends.
#[derive(Debug)]
pub(crate) struct Statsd {
    address: SocketAddr,
    counters: Arc<Mutex<BTreeMap<String, u64>>>,
    task: JoinHandle<()>,
}

// === impl Statsd ===

impl Statsd {
    pub(crate) async fn start() -> Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .context("bind the statsd port")?;
        let address = socket.local_addr()?;
        let counters: Arc<Mutex<BTreeMap<String, u64>>> = Arc::default();
        let sums = Arc::clone(&counters);
        let task = tokio::spawn(async move {
            let mut buffer = [0; DATAGRAM_BYTES_MAX];
            while let Ok(len) = socket.recv(&mut buffer).await {
                let text =
                    String::from_utf8_lossy(buffer.get(..len).unwrap_or_default()).into_owned();
                let mut sums = sums.lock();
                for (name, count) in text.lines().filter_map(counter) {
                    *sums.entry(name.to_owned()).or_default() += count;
                }
            }
        });
        Ok(Self {
            address,
            counters,
            task,
        })
    }

    /// Fields of a bootstrap that make Envoy send its statistics here.
    pub(crate) fn fields(&self) -> [(String, Value); 2] {
        let sink = json!([{
            "name": "envoy.stat_sinks.statsd",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.config.metrics.v3.StatsdSink",
                "address": {"socket_address": {
                    "protocol": "UDP",
                    "address": self.address.ip().to_string(),
                    "port_value": self.address.port(),
                }},
            },
        }]);
        [
            ("stats_sinks".to_owned(), sink),
            ("stats_flush_interval".to_owned(), json!("1s")),
        ]
    }

    /// Attempts that reached an upstream connection, but those to the aggregator.
    pub(crate) fn attempts(&self) -> u64 {
        let counters = self.counters.lock();
        let of = |name: &str| {
            let cluster = name
                .strip_prefix("envoy.cluster.")?
                .strip_suffix(".upstream_rq_total")?;
            (cluster != AGGREGATOR_CLUSTER).then_some(())
        };
        counters
            .iter()
            .filter(|(name, _)| of(name).is_some())
            .map(|(_, sum)| sum)
            .sum()
    }
}

impl Drop for Statsd {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn counter(line: &str) -> Option<(&str, u64)> {
    let (name, value) = line.split_once(':')?;
    Some((name, value.strip_suffix("|c")?.parse().ok()?))
}

/// Lines of an access log: one for each request, those that the end cut off too.
pub(crate) fn logged(file: &Path) -> Result<u64> {
    let text = fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    u64::try_from(text.lines().count()).context("count lines")
}
