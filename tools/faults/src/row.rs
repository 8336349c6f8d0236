//! What a scenario found.

use std::fmt::Write as _;

use serde::Serialize;
use tests_envoy::watch::Verdict;

/// Wrong values shown per scenario at most.
const WRONG_SHOWN: usize = 10;

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub scenario: &'static str,
    /// `requests` or `attempts`.
    pub what: &'static str,
    pub sent: u64,
    pub counted: u64,
    /// Sent and not counted.
    pub lost: u64,
    /// Counted and not sent.
    pub doubled: u64,
    /// Values that were wrong, and answers without one where there had to be one.
    pub wrong: usize,
    /// Loss that the fault allows: 0 except for SIGKILL of an Envoy and the death of a VM.
    pub lost_max: u64,
    /// Oldest value that the API served, in milliseconds.
    pub worst_age_ms: Option<u64>,
    /// Longest time from an aggregator listening to its first value, in milliseconds.
    pub worst_blind_ms: Option<u64>,
    pub note: String,
    /// Promises that were broken, beside the numbers.
    pub broken: Vec<String>,
}

// === impl Row ===

impl Row {
    /// A row about `sent` by the oracle and `counted` by the aggregator.
    pub fn new(scenario: &'static str, what: &'static str, sent: u64, counted: u64) -> Self {
        Self {
            scenario,
            what,
            sent,
            counted,
            lost: sent.saturating_sub(counted),
            doubled: counted.saturating_sub(sent),
            wrong: 0,
            lost_max: 0,
            worst_age_ms: None,
            worst_blind_ms: None,
            note: String::new(),
            broken: Vec::new(),
        }
    }

    /// Records a broken promise unless `kept`.
    pub fn promise(&mut self, kept: bool, broken: impl FnOnce() -> String) {
        if !kept {
            self.broken.push(broken());
        }
    }

    /// Judges values that were read all the time: each is what was sent, or not there.
    pub fn watched(&mut self, verdict: &Verdict) {
        self.note = format!(
            "{} values, worst {:.0} % off, {} unknown",
            verdict.values,
            verdict.worst * 100.0,
            verdict.unknown
        );
        self.wrong += verdict.wrong.len();
        for wrong in verdict.wrong.iter().take(WRONG_SHOWN) {
            self.promise(false, || format!("wrong value: {wrong}"));
        }
    }

    /// Whether every promise was kept.
    pub fn holds(&self) -> bool {
        self.is_true() && self.broken.is_empty()
    }

    /// Whether all that was read is what was sent: values by the way, and the totals at the end.
    pub fn is_true(&self) -> bool {
        self.is_exact() && self.wrong == 0
    }

    /// Whether nothing was lost or doubled.
    pub fn is_exact(&self) -> bool {
        self.sent > 0 && self.lost <= self.lost_max && self.doubled == 0
    }
}

pub fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<28} {:<9} {:>8} {:>8} {:>5} {:>8} {:>8} {:>9}  {}\n",
        "scenario", "what", "sent", "counted", "lost", "doubled", "age ms", "blind ms", "verdict"
    );
    let or_none =
        |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
    for row in rows {
        let verdict = if row.holds() { "ok" } else { "BROKEN" };
        let lost = if row.lost_max > 0 {
            format!("{}/{}", row.lost, row.lost_max)
        } else {
            row.lost.to_string()
        };
        let _ = writeln!(
            text,
            "{:<28} {:<9} {:>8} {:>8} {:>5} {:>8} {:>8} {:>9}  {verdict}{}{}",
            row.scenario,
            row.what,
            row.sent,
            row.counted,
            lost,
            row.doubled,
            or_none(row.worst_age_ms),
            or_none(row.worst_blind_ms),
            if row.note.is_empty() { "" } else { "; " },
            row.note,
        );
        for broken in &row.broken {
            let _ = writeln!(text, "    {broken}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::Row;

    #[test]
    fn a_row_holds_only_if_nothing_is_lost_or_doubled() {
        assert!(Row::new("x", "requests", 5, 5).holds());
        assert!(!Row::new("x", "requests", 5, 4).holds());
        assert!(!Row::new("x", "requests", 5, 6).holds());
        assert!(
            !Row::new("x", "requests", 0, 0).holds(),
            "a scenario without traffic shows nothing"
        );
        let mut killed = Row::new("x", "requests", 5, 4);
        killed.lost_max = 1;
        assert!(killed.holds());
        killed.promise(false, || "said so".to_owned());
        assert!(!killed.holds());
        let mut watched = Row::new("x", "requests", 5, 5);
        watched.wrong = 1;
        assert!(!watched.is_true() && !watched.holds());
    }
}
