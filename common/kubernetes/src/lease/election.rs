//! Decides who holds a Lease, without clock or network, by the rules of client-go's leader
//! election: a Lease that this process has seen unchanged for its duration is free. Clocks of
//! different processes are never compared.

use std::time::Duration;

/// How long a Lease is valid after its last change.
pub const LEASE_DURATION: Duration = Duration::from_secs(15);

/// A holder that could not renew for this long stops acting, well before another may acquire it.
pub const RENEW_DEADLINE: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Record {
    /// The holder's identity; "" if it is free.
    pub holder: String,
    /// The `resourceVersion`, which changes with every write.
    pub version: String,
    /// How long it is valid after its last change.
    pub duration: Duration,
    /// How often the holder changed.
    pub transitions: i32,
}

/// What to do after reading the Lease.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Action {
    Create,
    /// It is ours: renew it.
    Renew,
    /// It is free: acquire it.
    Take,
    Follow,
}

/// The state of one candidate. Times are of any monotonic clock.
#[derive(Clone, Debug)]
pub struct Election {
    identity: String,
    seen: Option<(Record, Duration)>,
    renewed: Option<Duration>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Leadership {
    /// Not known at the moment: nobody could be asked.
    Unknown,
    Leads,
    Follows,
}

// === impl Election ===

impl Election {
    /// For the candidate with the unique `identity`.
    pub fn new(identity: &str) -> Self {
        Self {
            identity: identity.to_owned(),
            seen: None,
            renewed: None,
        }
    }

    /// What to do after `read` was read at `now`; `None` if there is no Lease.
    pub fn step(&mut self, now: Duration, read: Option<Record>) -> Action {
        let Some(record) = read else {
            self.seen = None;
            return Action::Create;
        };
        let same = matches!(&self.seen, Some((seen, _)) if seen.version == record.version);
        let since = match &self.seen {
            Some((_, since)) if same => *since,
            _ => now,
        };
        let step = if record.holder == self.identity {
            Action::Renew
        } else if record.holder.is_empty() || now.saturating_sub(since) >= record.duration {
            Action::Take
        } else {
            self.renewed = None;
            Action::Follow
        };
        self.seen = Some((record, since));
        step
    }

    /// True if this process acts at `now`.
    pub fn is_leader(&self, now: Duration) -> bool {
        self.leadership(now) == Leadership::Leads
    }

    /// How long from `now` this process may still act without a renewal; `None` if it may not.
    pub fn remaining(&self, now: Duration) -> Option<Duration> {
        let deadline = self.renewed? + RENEW_DEADLINE;
        deadline.checked_sub(now).filter(|left| !left.is_zero())
    }

    /// The write that began at `began` succeeded. The begin counts: the server may have stored it
    /// at any time since.
    pub fn wrote(&mut self, began: Duration) {
        self.renewed = Some(began);
    }

    pub fn lost(&mut self) {
        self.renewed = None;
    }

    /// Whether this process acts at `now`.
    pub fn leadership(&self, now: Duration) -> Leadership {
        match (&self.renewed, &self.seen) {
            _ if self.remaining(now).is_some() => Leadership::Leads,
            (None, Some((record, _)))
                if !record.holder.is_empty() && record.holder != self.identity =>
            {
                Leadership::Follows
            }
            _ => Leadership::Unknown,
        }
    }

    /// The Lease to write for `step`.
    pub fn record(&self, step: Action) -> Record {
        let seen = self.seen.as_ref().map(|(record, _)| record.clone());
        let seen = seen.unwrap_or_default();
        let taken = i32::from(step == Action::Take && !seen.version.is_empty());
        Record {
            holder: self.identity.clone(),
            duration: LEASE_DURATION,
            transitions: seen.transitions.saturating_add(taken),
            version: seen.version,
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng as _, SeedableRng as _};

    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn held_by(holder: &str, version: u32) -> Record {
        Record {
            holder: holder.to_owned(),
            version: version.to_string(),
            duration: LEASE_DURATION,
            transitions: 3,
        }
    }

    #[test]
    fn a_lease_is_free_when_it_did_not_change_for_its_duration() {
        let mut election = Election::new("b");
        assert_eq!(
            election.step(seconds(100), Some(held_by("a", 1))),
            Action::Follow
        );
        assert_eq!(election.leadership(seconds(100)), Leadership::Follows);
        assert_eq!(
            election.step(seconds(114), Some(held_by("a", 1))),
            Action::Follow
        );
        // A renewal begins the time anew.
        assert_eq!(
            election.step(seconds(115), Some(held_by("a", 2))),
            Action::Follow
        );
        assert_eq!(
            election.step(seconds(129), Some(held_by("a", 2))),
            Action::Follow
        );
        assert_eq!(
            election.step(seconds(130), Some(held_by("a", 2))),
            Action::Take
        );
        assert_eq!(election.record(Action::Take).transitions, 4);
        election.wrote(seconds(130));
        assert_eq!(election.leadership(seconds(139)), Leadership::Leads);
        assert_eq!(election.remaining(seconds(139)), Some(seconds(1)));
        assert_eq!(election.remaining(seconds(140)), None);
        assert_eq!(
            election.leadership(seconds(140)),
            Leadership::Unknown,
            "renewed too long ago"
        );
    }

    #[test]
    fn what_was_released_or_is_ours_is_taken_at_once() {
        let mut election = Election::new("b");
        assert_eq!(election.step(seconds(1), None), Action::Create);
        assert_eq!(
            election.step(seconds(1), Some(held_by("", 1))),
            Action::Take
        );
        assert_eq!(
            election.step(seconds(1), Some(held_by("b", 2))),
            Action::Renew
        );
        election.wrote(seconds(1));
        assert_eq!(election.leadership(seconds(2)), Leadership::Leads);
    }

    /// Three processes whose requests are slow, fail and cross one another: never do two lead at
    /// once.
    #[test]
    fn two_never_lead_at_once() {
        for seed in 0..500 {
            let mut random = StdRng::seed_from_u64(seed);
            let names = ["a", "b", "c"];
            let mut processes: Vec<_> = names.map(Election::new).into();
            // What each process last asked for and has not been answered: (answered at, began at,
            // record).
            let mut writes: Vec<Option<(u64, u64, Record)>> = vec![None; 3];
            let (mut lease, mut version): (Option<Record>, u32) = (None, 0);
            let (mut led, mut outage) = (0, 0);
            for now in (0..400_000_u64).step_by(250) {
                if random.random_ratio(1, 200) {
                    outage = now + random.random_range(0..40_000);
                }
                for (index, process) in processes.iter_mut().enumerate() {
                    if let Some((due, began, record)) = writes[index].take() {
                        if now < due {
                            writes[index] = Some((due, began, record));
                            continue;
                        }
                        let held = lease.as_ref().map(|lease| lease.version.clone());
                        if held.unwrap_or_default() != record.version {
                            process.lost();
                            continue;
                        }
                        version += 1;
                        let version = version.to_string();
                        lease = Some(Record { version, ..record });
                        if random.random_ratio(9, 10) {
                            process.wrote(Duration::from_millis(began));
                        }
                    } else if now >= outage && random.random_ratio(1, 6) {
                        let step = process.step(Duration::from_millis(now), lease.clone());
                        if step != Action::Follow {
                            let due = now + random.random_range(0..3_000);
                            writes[index] = Some((due, now, process.record(step)));
                        }
                    }
                }
                let leaders = processes
                    .iter()
                    .filter(|process| process.is_leader(Duration::from_millis(now)));
                let leaders = leaders.count();
                assert!(leaders < 2, "seed {seed}, {now} ms: two lead");
                led += leaders;
            }
            assert!(led > 100, "seed {seed}: hardly ever did anyone lead");
        }
    }
}
