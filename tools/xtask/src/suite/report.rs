//! Runs steps one after the other and remembers how each ended.

use std::time::{Duration, Instant};

use super::step::{Outcome, Step};

#[derive(Debug, Default)]
pub(super) struct Report {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    name: &'static str,
    outcome: Outcome,
    took: Duration,
}

// === impl Report ===

impl Report {
    /// Runs `step`, unless what it needs did not pass.
    pub(super) fn run(&mut self, step: Step<'_>) {
        let name = step.name;
        println!("\n=== {name}: {}", step.shown());
        let started = now();
        let outcome = match step.needs {
            Some(needed) if !self.passed(needed) => {
                println!("error: left out, since the step {needed:?} did not pass");
                Outcome::ran(0, 1)
            }
            _ => step.run(),
        };
        let took = started.elapsed();
        println!(
            "--- {name}: {}, {:.1} s",
            outcome.word(),
            took.as_secs_f64()
        );
        self.rows.push(Row {
            name,
            outcome,
            took,
        });
    }

    pub(super) fn has_failures(&self) -> bool {
        self.sums().1 > 0
    }

    /// The table of all steps, then what failed or was left out, then the sums.
    pub(super) fn print(&self) {
        println!("\n{:<14} {:>9}  result", "step", "seconds");
        for row in &self.rows {
            let seconds = row.took.as_secs_f64();
            println!("{:<14} {seconds:>9.1}  {}", row.name, row.outcome.word());
        }
        let total: Duration = self.rows.iter().map(|row| row.took).sum();
        println!("{:<14} {:>9.1}", "all", total.as_secs_f64());
        for row in &self.rows {
            match &row.outcome {
                Outcome::Skipped(reason) => println!("\nNOT RUN: {}: {reason}", row.name),
                Outcome::Ran {
                    failed, left_out, ..
                } => {
                    for line in left_out {
                        println!("\n{}: {line}", row.name);
                    }
                    if *failed > 0 {
                        println!("\nFAILED: {}", row.name);
                    }
                }
            }
        }
        let (passed, failed) = self.sums();
        println!("\n{passed} passed, {failed} failed");
    }

    fn passed(&self, name: &str) -> bool {
        self.rows
            .iter()
            .any(|row| row.name == name && row.outcome.passed())
    }

    fn sums(&self) -> (u64, u64) {
        self.rows
            .iter()
            .fold((0, 0), |sums, row| match &row.outcome {
                Outcome::Ran { passed, failed, .. } => (sums.0 + passed, sums.1 + failed),
                Outcome::Skipped(_) => sums,
            })
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "how long a step takes is for the reader; no decision hangs on it"
)]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::{Report, Step};

    /// One failure stops only what needs it, and counts once; what is skipped counts as neither.
    #[test]
    fn a_failure_leaves_out_what_needs_it() {
        let mut report = Report::default();
        report.run(Step::call("good", || Ok(())));
        report.run(Step::call("bad", || bail!("planned")));
        report.run(Step::call("after good", || Ok(())).needs("good"));
        report.run(Step::call("after bad", || Ok(())).needs("bad"));
        report.run(Step::skipped("optional", "not at hand"));
        assert_eq!(report.sums(), (2, 2));
        assert!(report.has_failures());
        assert!(report.passed("after good"));
        assert!(!report.passed("after bad"));
    }
}
