//! Two servers in rounds: each round measures both, and who goes first takes turns, so that what
//! the machine does meanwhile falls on both.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use super::run::{Accounts, Measure, SATURATING, measure, real};
use super::server::{Setting, Subject};
use super::size::memory_limit;
use crate::cpus::Cpus;
use crate::interval::Interval;

/// Two servers that are compared, and how.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pair<'a> {
    pub(super) bench: &'a Path,
    pub(super) ours: Subject<'a>,
    pub(super) other: Subject<'a>,
    pub(super) cpus: Cpus,
    pub(super) tls: bool,
    pub(super) rounds: usize,
}

/// The rounds with so many sidecars.
#[derive(Debug, Serialize)]
pub(super) struct Rounds {
    pub(super) sidecars: u32,
    rounds: Vec<Round>,
}

#[derive(Clone, Copy, Debug, Serialize)]
struct Round {
    ours: Accounts,
    other: Accounts,
}

// === impl Pair ===

impl Pair<'_> {
    /// One report a second from each of `sidecars`.
    pub(super) async fn steady(&self, sidecars: u32, time: Duration) -> Result<Rounds> {
        self.measure(sidecars, Measure::Steady(time)).await
    }

    /// As many reports as either takes.
    pub(super) async fn saturated(&self) -> Result<Rounds> {
        self.measure(SATURATING, Measure::Saturated).await
    }

    async fn measure(&self, sidecars: u32, what: Measure) -> Result<Rounds> {
        let setting = Setting {
            cpus: self.cpus,
            tls: self.tls,
            sidecars,
            memory_limit: memory_limit(sidecars),
        };
        let one = async |subject| measure(self.bench, subject, setting, what).await;
        let mut rounds = Vec::new();
        for number in 0..self.rounds {
            let round = if number % 2 == 0 {
                let ours = one(self.ours).await?;
                let other = one(self.other).await?;
                Round { ours, other }
            } else {
                let other = one(self.other).await?;
                let ours = one(self.ours).await?;
                Round { ours, other }
            };
            eprintln!("{sidecars} sidecars, {what:?}: {round:?}");
            rounds.push(round);
        }
        Ok(Rounds { sidecars, rounds })
    }
}

// === impl Rounds ===

impl Rounds {
    /// Ours as a multiple of the other's, round by round.
    pub(super) fn ratio(&self, of: fn(&Accounts) -> f64) -> Option<Interval> {
        let ratios = self.rounds.iter();
        let ratios = ratios.map(|round| of(&round.ours) / of(&round.other));
        Interval::of(&ratios.collect::<Vec<_>>())
    }

    pub(super) fn ours(&self, of: fn(&Accounts) -> f64) -> Option<Interval> {
        Interval::of(&self.each(|round| of(&round.ours)))
    }

    pub(super) fn other(&self, of: fn(&Accounts) -> f64) -> Option<Interval> {
        Interval::of(&self.each(|round| of(&round.other)))
    }

    fn each(&self, of: impl Fn(&Round) -> f64) -> Vec<f64> {
        self.rounds.iter().map(of).collect()
    }
}

pub(super) fn cpu(accounts: &Accounts) -> f64 {
    accounts.cpu_us_per_report
}

/// What all sidecars together take: the program itself is not compared.
pub(super) fn growth(accounts: &Accounts) -> f64 {
    real(
        accounts
            .resident_bytes
            .saturating_sub(accounts.resident_before),
    )
}

pub(super) fn memory(accounts: &Accounts) -> f64 {
    real(accounts.resident_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ratio is that of each round, not of the medians: a machine that slows down both at once
    /// changes nothing.
    #[test]
    fn ratios_are_those_of_rounds() {
        let accounts = |cpu: f64| Accounts {
            reports_per_s: 1.0,
            cores: 1.0,
            cpu_us_per_report: cpu,
            resident_bytes: 3 << 20,
            resident_before: 1 << 20,
        };
        let slow = [1.0, 1.0, 5.0, 9.0, 2.0, 1.0];
        let rounds = slow.map(|slow| Round {
            ours: accounts(30.0 * slow),
            other: accounts(20.0 * slow),
        });
        let rounds = Rounds {
            sidecars: 1,
            rounds: rounds.to_vec(),
        };
        let ratio = rounds.ratio(cpu).unwrap();
        assert!((ratio.low - 1.5).abs() < 1e-9 && (ratio.high - 1.5).abs() < 1e-9);
        assert!((rounds.ratio(growth).unwrap().median - 1.0).abs() < 1e-9);
        let ours = rounds.ours(cpu).unwrap();
        assert!((ours.median - 45.0).abs() < 1e-9, "{ours:?}");
        assert!((rounds.other(cpu).unwrap().high - 180.0).abs() < 1e-9);
    }
}
