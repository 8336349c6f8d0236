//! What a scenario found.

use std::fmt::Write as _;

use serde::Serialize;

use crate::ledger::Sums;

/// One line of the table.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Row {
    pub scenario: &'static str,
    pub seconds: f64,
    /// Requests that the load sent.
    pub sent: u64,
    /// Of those, answered with 200.
    pub answered: u64,
    /// Of those, answered otherwise or not at all.
    pub failed: u64,
    #[serde(flatten)]
    pub sums: Sums,
    /// Answers of the metrics API with a value for each item, and others.
    pub api_good: u64,
    pub api_bad: u64,
    /// What was timed or seen.
    pub notes: Vec<String>,
    /// Promises that were broken.
    pub broken: Vec<String>,
    /// Why it did not run.
    pub skipped: Option<String>,
}

/// What a fault may cost; nothing unless a scenario says more.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allowed {
    pub failed: u64,
    pub lost: u64,
    pub api_bad: u64,
}

// === impl Row ===

impl Row {
    pub fn skipped(scenario: &'static str, why: &str) -> Self {
        Self {
            scenario,
            skipped: Some(why.to_owned()),
            ..Self::default()
        }
    }

    /// Holds the numbers against what the scenario allows.
    pub fn judge(&mut self, allowed: Allowed) {
        let mut at_most = |what: &str, found: u64, allowed: u64| {
            if found > allowed {
                self.broken
                    .push(format!("{found} {what}, allowed are {allowed}"));
            }
        };
        at_most("requests failed", self.failed, allowed.failed);
        at_most("requests lost", self.sums.lost, allowed.lost);
        at_most("requests counted twice", self.sums.doubled, 0);
        at_most(
            "answers of the API without a value",
            self.api_bad,
            allowed.api_bad,
        );
        if self.sent != self.answered + self.failed {
            let open = self.sent.saturating_sub(self.answered + self.failed);
            self.broken.push(format!("{open} requests have no outcome"));
        }
        if self.failed == 0 && self.sums.load != self.answered {
            let load = self.sums.load;
            let answered = self.answered;
            self.broken.push(format!(
                "applications saw {load} requests of the load, and {answered} were answered"
            ));
        }
    }

    pub fn holds(&self) -> bool {
        self.broken.is_empty()
    }
}

/// All rows for people.
pub fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<20} {:>7} {:>7} {:>8} {:>6} {:>7} {:>7} {:>5} {:>7} {:>8} {:>7}  {}\n",
        "scenario",
        "seconds",
        "sent",
        "answered",
        "failed",
        "app",
        "counted",
        "lost",
        "doubled",
        "API good",
        "API bad",
        "verdict"
    );
    for row in rows {
        if let Some(why) = &row.skipped {
            let _ = writeln!(text, "{:<20} SKIPPED: {why}", row.scenario);
            continue;
        }
        let _ = writeln!(
            text,
            "{:<20} {:>7.1} {:>7} {:>8} {:>6} {:>7} {:>7} {:>5} {:>7} {:>8} {:>7}  {}{}{}",
            row.scenario,
            row.seconds,
            row.sent,
            row.answered,
            row.failed,
            row.sums.app,
            row.sums.counted,
            row.sums.lost,
            row.sums.doubled,
            row.api_good,
            row.api_bad,
            if row.holds() { "ok" } else { "BROKEN" },
            if row.notes.is_empty() { "" } else { "; " },
            row.notes.join(", "),
        );
        for broken in &row.broken {
            let _ = writeln!(text, "    {broken}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        Row {
            sent: 10,
            answered: 10,
            sums: Sums {
                load: 10,
                app: 12,
                counted: 12,
                unanswered: 0,
                lost: 0,
                doubled: 0,
            },
            ..Row::default()
        }
    }

    #[test]
    fn a_row_holds_if_nothing_is_beyond_what_is_allowed() {
        let judged = |change: fn(&mut Row), allowed: Allowed| {
            let mut row = row();
            change(&mut row);
            row.judge(allowed);
            row.broken.join("; ")
        };
        let none = Allowed::default();
        let all = Allowed {
            failed: 1,
            lost: 1,
            api_bad: 1,
        };
        assert_eq!(judged(|_| {}, none), "");
        for (change, allowed, wanted) in [
            (
                (|row| row.sums.lost = 1) as fn(&mut Row),
                none,
                "1 requests lost, allowed are 0",
            ),
            (|row| row.sums.lost = 1, all, ""),
            (
                |row| row.sums.doubled = 1,
                all,
                "1 requests counted twice, allowed are 0",
            ),
            (
                |row| row.api_bad = 2,
                all,
                "2 answers of the API without a value, allowed are 1",
            ),
            (|row| row.sent = 11, none, "1 requests have no outcome"),
            (
                |row| row.sums.load = 9,
                none,
                "applications saw 9 requests of the load, and 10 were answered",
            ),
        ] {
            assert_eq!(judged(change, allowed), wanted);
        }
        let failing = judged(|row| (row.answered, row.failed) = (9, 1), none);
        assert_eq!(failing, "1 requests failed, allowed are 0");
    }
}
