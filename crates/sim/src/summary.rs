//! Sums over many runs, and what must have happened in them: a fault that never happened proves nothing.

use std::fmt;
use std::time::Duration;

use crate::plan::{Fault, Plan, Role};
use crate::run::Report;
use crate::witness::Counts;

/// So many seeds must show everything at least once.
const ENOUGH: u64 = 100;

/// What must have happened in [`ENOUGH`] seeds, beside every kind of fault.
const REQUIRED: [&str; 72] = [
    "grants",
    "resignations",
    "leaderships lost",
    "writes",
    "reads",
    "unsynced operations lost",
    "fenced writes",
    "stale writes refused",
    "store leaders",
    "store leaders that handed over",
    "transactions",
    "transactions whose conditions did not hold",
    "reads of the past",
    "reads of what was compacted",
    "reads of the future",
    "bound keys seen",
    "nodes that stopped by themselves",
    "writes not applied",
    "unknown writes",
    "writes on a data stream",
    "reads on a data stream",
    "answers remembered",
    "answers forgotten",
    "sessions expired",
    "sessions released",
    "sessions closed",
    "snapshots restored",
    "changes observed",
    "observers told the state",
    "observers that came back",
    "histories told",
    "revisions watched",
    "watchers that went on",
    "watchers told of a gap",
    "stale reads",
    "holders told of a request",
    "leaders asked to end",
    "sessions asked to end",
    "leaderships transferred",
    "candidacies withdrawn",
    "candidacies removed",
    "campaigns abandoned",
    "grants to callers",
    "withdrawals by calls",
    "sessions attached again by calls",
    "sessions behind one node",
    "sessions with given ids",
    "appends",
    "notes",
    "guards remembered",
    "appends in two steps",
    "second steps that never came",
    "stale messages refused",
    "stale plain calls refused",
    "stale tells refused",
    "stale messages refused after they were held",
    "messages repeated",
    "repeated messages refused",
    "leaderships over jobs",
    "jobs",
    "jobs taken up from a checkpoint",
    "restarts from a checkpoint",
    "nodes added",
    "nodes promoted",
    "nodes removed",
    "leaderships of the store transferred",
    "used node ids refused",
    "nodes that heard of their removal",
    "backups saved",
    "levels raised",
    "levels not raised yet",
    "nodes that heard of a restore",
];

/// Sums over runs.
#[derive(Default)]
pub struct Summary {
    runs: u64,
    faults: Counts,
    counts: Counts,
    simulated: Duration,
    /// Runs that violated something.
    pub failed: Vec<Report>,
}

impl Summary {
    /// Adds a run.
    pub fn add(&mut self, mut report: Report) {
        self.runs += 1;
        add(&mut self.faults, &report.faults);
        add(&mut self.counts, &report.counts);
        self.simulated += report.simulated;
        if report.violation.is_some() {
            // Its trace is made again by a replay.
            report.trace = String::new();
            self.failed.push(report);
        }
    }

    /// Runs so far.
    pub fn runs(&self) -> u64 {
        self.runs
    }

    /// Simulated time so far.
    pub fn simulated(&self) -> Duration {
        self.simulated
    }

    /// What never happened although it should have in so many runs.
    pub fn missing(&self) -> Vec<&'static str> {
        if self.runs < ENOUGH {
            return Vec::new();
        }
        let faults = Fault::KINDS.into_iter().filter(|kind| !self.faults.contains_key(kind));
        let events =
            REQUIRED.into_iter().filter(|what| !self.counts.contains_key(what) && !self.faults.contains_key(what));
        faults.chain(events).collect()
    }
}

/// What is wrong with a run in which somebody took part and nothing came of it: a cluster that never came up must not pass for a
/// good run.
pub(crate) fn idle(plan: &Plan, counts: &Counts) -> Option<String> {
    let (role, what) = [(Role::Candidate, "grants"), (Role::Writer, "writes")]
        .into_iter()
        .find(|(role, what)| plan.count(*role) > 0 && !counts.contains_key(what))?;
    Some(format!("coverage: a {} took part, and there were no {what}", role.name()))
}

fn add(sums: &mut Counts, counts: &Counts) {
    for (what, count) in counts {
        *sums.entry(what).or_default() += count;
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |counts: &Counts| {
            counts.iter().map(|(what, count)| format!("{count} {what}")).collect::<Vec<_>>().join(", ")
        };
        writeln!(f, "{} seeds, {:.0} s simulated", self.runs, self.simulated.as_secs_f64())?;
        writeln!(f, "faults: {}", list(&self.faults))?;
        write!(f, "seen:   {}", list(&self.counts))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn what_never_happened_is_missing() {
        let report = |counts: &[(&'static str, u64)]| Report {
            plan: Plan::draw(1),
            violation: None,
            objected: BTreeSet::new(),
            faults: Counts::new(),
            counts: counts.iter().copied().collect(),
            simulated: Duration::ZERO,
            trace: String::new(),
            fingerprint: 0,
        };
        let mut summary = Summary::default();
        (0..ENOUGH).for_each(|_| summary.add(report(&[("grants", 1), ("writes", 1)])));
        assert!(summary.failed.is_empty());
        assert!(summary.missing().contains(&"crash-all") && summary.missing().contains(&"resignations"));
        assert!(!summary.missing().contains(&"grants"));
        let idle = |counts: &[(&'static str, u64)]| idle(&Plan::draw(1), &counts.iter().copied().collect());
        assert_eq!(idle(&[("grants", 1), ("writes", 1)]), None);
        assert!(idle(&[("grants", 1)]).is_some(), "a run in which nothing was written is no good run");
    }
}
