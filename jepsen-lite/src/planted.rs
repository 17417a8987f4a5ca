//! The table of deliberately broken variants that only real processes show, and of the control runs: each must be caught, by the
//! checker that is meant to, within stated seconds of faults. `jepsen-lite planted` plays it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use jepsen_lite::verdict::Verdict;
use jepsen_lite::{checkers, history};

use crate::drive::{Asked, run};
use crate::scenarios::Scenario;
use crate::targets::Target;

/// A bug, and the run that must catch it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    /// The value of `PALISADE_PLANTED`; none: the scenario is unsafe by itself.
    pub(crate) bug: Option<&'static str>,
    pub(crate) scenario: &'static str,
    /// One of these must say that a promise was broken.
    pub(crate) checkers: &'static [&'static str],
    /// Seconds of faults within which it is caught.
    pub(crate) within_s: u64,
}

const fn row(bug: &'static str, scenario: &'static str, checkers: &'static [&'static str], within_s: u64) -> Row {
    Row { bug: Some(bug), scenario, checkers, within_s }
}

/// All of them.
pub(crate) const ALL: &[Row] = &[
    row("skip-fence-check", "kill-holder", &["fence", "replay"], 10),
    row("compare-with-not-equal", "rpc-restarts", &["calls"], 20),
    row("child-outlives-leadership", "mutual-exclusion", &["belief"], 15),
    row("read-without-round", "cas-partitions", &["replay", "linearizable", "durable"], 40),
    row("deadlines-of-before", "sessions", &["sessions"], 40),
    row("expire-by-wall-clock", "fast-clock", &["harness", "sessions"], 10),
    row("compaction-untold", "watch", &["watch"], 25),
    row("conditions-ignored", "cas-partitions", &["replay", "linearizable"], 20),
    row("ack-before-sync", "blackout", &["durable", "replay"], 15),
    row("skip-data-sync", "blackout", &["durable", "replay"], 15),
    row("forget-vote", "deposed-and-killed", &["harness"], 30),
    row("restored-source-skips-a-word", "job", &["exactly-once"], 20),
    Row { bug: None, scenario: "unfenced", checkers: &["fence"], within_s: 15 },
];

/// What became of a row.
#[derive(Debug)]
pub(crate) enum Became {
    /// Caught by this checker.
    Caught(String),
    Skipped(String),
    Missed(String),
}

/// Plays a row.
pub(crate) fn play(row: &Row, asked: &Asked) -> anyhow::Result<(Became, Duration)> {
    let began = Instant::now();
    let scenario = Scenario::find(row.scenario).with_context(|| format!("no scenario '{}'", row.scenario))?;
    if let Some(why) = scenario.refused(Target::Local) {
        return Ok((Became::Skipped(why), Duration::ZERO));
    }
    let asked = Asked {
        scenario,
        span: Duration::from_secs(row.within_s),
        target: Target::Local,
        planted: row.bug.map(str::to_owned),
        ..asked.clone()
    };
    let dir: PathBuf = run(&asked)?;
    let findings = checkers::check(&history::read(&dir.join("history.jsonl"))?);
    // What is unsafe on purpose is in the table without a bug, and nothing else is.
    debug_assert_eq!(row.bug.is_none(), scenario.must_fail);
    let broken: Vec<_> = findings.iter().filter(|finding| finding.verdict == Verdict::Violation).collect();
    let caught = broken.iter().find(|finding| row.checkers.contains(&finding.checker));
    let became = match caught {
        Some(finding) => Became::Caught(format!("{}: {}", finding.checker, finding.detail)),
        None => Became::Missed(format!("verdict {}; {}", Verdict::of(&findings), dir.display())),
    };
    Ok((became, began.elapsed()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_names_a_scenario_and_checkers_that_there_are() {
        for row in ALL {
            assert!(Scenario::find(row.scenario).is_some(), "{}", row.scenario);
            for name in row.checkers {
                assert!(checkers::ALL.iter().any(|checker| checker.name == *name), "{name}");
            }
        }
    }

    #[test]
    fn the_page_shows_the_table() {
        let page = include_str!("../README.md");
        for row in ALL {
            let bug = row.bug.map_or("(no fence at all)".to_owned(), |bug| format!("`{bug}`"));
            let start = format!("| {bug} | `{}` | {} | {} s |", row.scenario, row.checkers.join(", "), row.within_s);
            assert!(page.contains(&start), "README.md lacks the row\n{start}");
        }
    }
}
