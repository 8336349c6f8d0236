//! What was checked, in order, and how it went. Pure.

use serde::Serialize;

use crate::numbers::counted;
use crate::table::{Cell, Line, Tone};

/// How a check went.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    Ok,
    /// Worth a look; nothing is broken.
    Warning,
    /// Broken: the fix says what to do.
    Failure,
    /// Not checked, and it does not matter.
    Skipped,
    /// It could not be checked.
    Unknown,
}

/// One check.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Item {
    /// What belongs together: `Kubernetes`, `Permissions`, …
    pub group: &'static str,
    /// Name of the check, for tools.
    pub check: &'static str,
    pub outcome: Outcome,
    /// What was found.
    pub message: String,
    /// What to do about it; empty if there is nothing to do.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub fix: String,
}

/// All checks, in order.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Report {
    pub items: Vec<Item>,
}

// === impl Report ===

impl Report {
    /// A group's checks are added by what this returns.
    pub(super) fn group(&mut self, group: &'static str) -> Group<'_> {
        Group {
            report: self,
            group,
        }
    }

    /// 1 if something failed, else 2 if something could not be checked, else 0.
    pub fn exit_code(&self) -> u8 {
        match () {
            () if self.count(Outcome::Failure) > 0 => 1,
            () if self.count(Outcome::Unknown) > 0 => 2,
            () => 0,
        }
    }

    fn count(&self, outcome: Outcome) -> usize {
        let items = self.items.iter();
        items.filter(|item| item.outcome == outcome).count()
    }

    /// The report for people, group by group.
    pub(crate) fn lines(&self) -> Vec<Line> {
        let mut lines = Vec::new();
        let mut group = "";
        for item in &self.items {
            if item.group != group {
                group = item.group;
                lines.push(vec![Cell::new(group).toned(Tone::Heading)]);
            }
            let mark = Cell::new(item.outcome.mark()).toned(item.outcome.tone());
            lines.push(vec![
                Cell::new("  "),
                mark,
                Cell::new(" "),
                Cell::new(&item.message),
            ]);
            if !item.fix.is_empty() {
                lines.push(vec![Cell::new(&format!("            fix: {}", item.fix))]);
            }
        }
        lines.push(vec![Cell::new(&self.summary()).toned(Tone::Heading)]);
        lines
    }

    fn summary(&self) -> String {
        let mut parts = vec![format!("{} ok", self.count(Outcome::Ok))];
        for (outcome, noun) in [(Outcome::Warning, "warning"), (Outcome::Failure, "failure")] {
            parts.push(counted(self.count(outcome), noun));
        }
        for (outcome, what) in [
            (Outcome::Unknown, "could not be checked"),
            (Outcome::Skipped, "skipped"),
        ] {
            let count = self.count(outcome);
            if count > 0 {
                parts.push(format!("{count} {what}"));
            }
        }
        parts.join(", ")
    }
}

/// A group of a report.
#[derive(Debug)]
pub(super) struct Group<'a> {
    report: &'a mut Report,
    group: &'static str,
}

// === impl Group ===

impl Group<'_> {
    pub(super) fn ok(&mut self, check: &'static str, message: impl Into<String>) {
        self.add(check, Outcome::Ok, message, "");
    }

    pub(super) fn warn(
        &mut self,
        check: &'static str,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.add(check, Outcome::Warning, message, fix);
    }

    pub(super) fn fail(
        &mut self,
        check: &'static str,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.add(check, Outcome::Failure, message, fix);
    }

    pub(super) fn skip(&mut self, check: &'static str, message: impl Into<String>) {
        self.add(check, Outcome::Skipped, message, "");
    }

    pub(super) fn unknown(
        &mut self,
        check: &'static str,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.add(check, Outcome::Unknown, message, fix);
    }

    fn add(
        &mut self,
        check: &'static str,
        outcome: Outcome,
        message: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.report.items.push(Item {
            group: self.group,
            check,
            outcome,
            message: message.into(),
            fix: fix.into(),
        });
    }
}

// === impl Outcome ===

impl Outcome {
    fn mark(self) -> &'static str {
        match self {
            Self::Ok => "[ok]     ",
            Self::Warning => "[warning]",
            Self::Failure => "[failure]",
            Self::Skipped => "[skipped]",
            Self::Unknown => "[unknown]",
        }
    }

    fn tone(self) -> Tone {
        match self {
            Self::Ok => Tone::Good,
            Self::Warning | Self::Unknown => Tone::Warning,
            Self::Failure => Tone::Bad,
            Self::Skipped => Tone::Faint,
        }
    }
}
