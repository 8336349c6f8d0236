//! Leader election among replicas by a Lease (`coordination.k8s.io/v1`).

mod election;

use std::time::Duration;

pub use election::{Action, Election, LEASE_DURATION, Leadership, RENEW_DEADLINE, Record};
use k8s_openapi::api::coordination::v1::{Lease as Object, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::api::Api;
use crate::connection::ClusterError;

/// Interval at which the Lease is read.
const RETRY_PERIOD: Duration = Duration::from_secs(2);

/// Deadline for one request, short enough to retry a renewal before [`RENEW_DEADLINE`].
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// A Lease and a candidate for it.
#[derive(Debug)]
pub struct Lease {
    pub namespace: String,
    pub name: String,
    /// The name of this replica, which no other has: the pod's.
    pub identity: String,
}

/// A Lease that is kept if it can be had.
#[derive(Debug)]
pub struct LeaseHandle {
    pub leadership: watch::Receiver<Leadership>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

// === impl LeaseHandle ===

impl LeaseHandle {
    /// Releases the Lease, so that another replica can acquire it at once.
    pub async fn release(self) {
        self.stop.cancel();
        let _ = self.task.await;
    }
}

// === impl Lease ===

impl Lease {
    /// Acquires the Lease when it is free and renews it, in a task of its own.
    pub fn spawn(self, client: Client) -> LeaseHandle {
        let (sender, leadership) = watch::channel(Leadership::Unknown);
        let stop = CancellationToken::new();
        let ending = stop.clone();
        let task = tokio::spawn(async move {
            let clock = monotonic();
            let mut election = Election::new(&self.identity);
            loop {
                // A slow response must not delay the announcement that the Lease has expired:
                // another replica may acquire it soon after.
                let left = election.remaining(clock()).unwrap_or(LEASE_DURATION);
                let renewal = self.once(&client, &clock, &mut election);
                if let Ok(Err(error)) = timeout(left, renewal).await {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        lease = self.name,
                        "lease not renewed"
                    );
                }
                announce(&sender, election.leadership(clock()), &self.name);
                let left = election.remaining(clock()).unwrap_or(RETRY_PERIOD);
                tokio::select! {
                    () = ending.cancelled() => break,
                    () = sleep(RETRY_PERIOD.min(left)) => {}
                }
            }
            if election.is_leader(clock()) {
                self.give_back(&client, &election).await;
            }
        });
        LeaseHandle {
            leadership,
            stop,
            task,
        }
    }

    async fn once(
        &self,
        client: &Client,
        clock: &(impl Fn() -> Duration + Send + Sync),
        election: &mut Election,
    ) -> Result<(), ClusterError> {
        let read = within(self.leases(client).get(&self.name), "the lease").await?;
        let began = clock();
        let spec = read.as_ref().and_then(|read| read.spec.as_ref());
        let acquired = spec.and_then(|spec| spec.acquire_time.clone());
        let step = election.step(began, read.map(Record::from));
        if step == Action::Follow {
            return Ok(());
        }
        let record = election.record(step);
        let acquired = acquired.filter(|_| step == Action::Renew);
        match within(self.write(client, &record, acquired), "the lease").await {
            Ok(()) => {
                election.wrote(began);
                Ok(())
            }
            Err(error) if error.status() == Some(409) => {
                election.lost();
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn write(
        &self,
        client: &Client,
        record: &Record,
        acquired: Option<MicroTime>,
    ) -> Result<(), ClusterError> {
        let object = self.object(record, acquired);
        let leases = self.leases(client);
        if record.version.is_empty() {
            leases.create(&object).await.map(drop)
        } else {
            leases.replace(&self.name, &object).await
        }
    }

    async fn give_back(&self, client: &Client, election: &Election) {
        let leases = self.leases(client);
        let Ok(Some(read)) = within(leases.get(&self.name), "the lease").await else {
            return;
        };
        let read = Record::from(read);
        if read.holder != self.identity {
            return;
        }
        let record = Record {
            version: read.version,
            holder: String::new(),
            ..election.record(Action::Renew)
        };
        match within(self.write(client, &record, None), "the lease").await {
            Ok(()) => tracing::info!(lease = self.name, "lease released"),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    lease = self.name,
                    "lease not released"
                );
            }
        }
    }

    fn object(&self, record: &Record, acquired: Option<MicroTime>) -> Object {
        let now = MicroTime(Timestamp::now());
        let managed = ("app.kubernetes.io/managed-by", "meshmeter");
        Object {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                namespace: Some(self.namespace.clone()),
                resource_version: Some(record.version.clone()).filter(|known| !known.is_empty()),
                labels: Some(
                    [managed]
                        .map(|(name, value)| (name.to_owned(), value.to_owned()))
                        .into(),
                ),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(record.holder.clone()),
                lease_duration_seconds: i32::try_from(record.duration.as_secs()).ok(),
                lease_transitions: Some(record.transitions),
                acquire_time: acquired.or_else(|| Some(now.clone())),
                renew_time: Some(now),
                ..LeaseSpec::default()
            }),
        }
    }

    fn leases<'a>(&self, client: &'a Client) -> Api<'a, Object> {
        Api::namespaced(client, &self.namespace)
    }
}

impl From<Object> for Record {
    fn from(Object { metadata, spec }: Object) -> Self {
        let spec = spec.unwrap_or_default();
        let seconds = spec.lease_duration_seconds.unwrap_or_default();
        Self {
            holder: spec.holder_identity.unwrap_or_default(),
            version: metadata.resource_version.unwrap_or_default(),
            duration: Duration::from_secs(u64::try_from(seconds).unwrap_or(0)),
            transitions: spec.lease_transitions.unwrap_or_default(),
        }
    }
}

fn announce(leadership: &watch::Sender<Leadership>, now: Leadership, name: &str) {
    leadership.send_if_modified(|held| {
        if *held == now {
            return false;
        }
        tracing::info!(lease = name, role = ?now, "lease");
        *held = now;
        true
    });
}

async fn within<T>(
    request: impl Future<Output = Result<T, ClusterError>>,
    what: &str,
) -> Result<T, ClusterError> {
    match timeout(ANSWER_WITHIN, request).await {
        Ok(answered) => answered,
        Err(_) => Err(ClusterError::Late {
            what: what.to_owned(),
            within: ANSWER_WITHIN,
        }),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "time that only goes forward, for the deadlines of a lease"
)]
fn monotonic() -> impl Fn() -> Duration + Send + Sync {
    let begun = Instant::now();
    move || begun.elapsed()
}
