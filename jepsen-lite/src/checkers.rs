//! Checkers: pure functions of a history, one per file, each with histories that it must pass and must not.
//!
//! All of them look at every history; one that finds nothing of its kind says so, and that is no pass. What a run had to contain is
//! said by its `run` line ([`RunInfo`]), so that the verdict can be had again from the file alone.

mod append;
mod belief;
mod calls;
mod coverage;
mod durable;
mod election;
mod fence;
mod grants;
mod harness;
mod job;
mod linearizable;
mod registers;
mod replay;
mod run_info;
mod sessions;
mod watch;

#[cfg(test)]
mod compared;
#[cfg(test)]
mod testing;

pub use coverage::{Gate, Pattern};
pub use linearizable::Budget;
pub use run_info::RunInfo;

pub(crate) use belief::{Belief, beliefs};
pub(crate) use grants::first_sights;

use crate::history::History;
use crate::verdict::{Finding, Verdict};

/// One checker.
#[derive(Clone, Copy, Debug)]
pub struct Checker {
    /// Its name, in findings and in `run`'s `value.checkers`.
    pub name: &'static str,
    /// What a violation is.
    pub what: &'static str,
    check: Check,
}

#[derive(Clone, Copy, Debug)]
enum Check {
    /// In time that grows about as the history does.
    Straight(fn(&History) -> Finding),
    /// It may have to give up.
    Searching(fn(&History, Budget) -> Finding),
}

const fn straight(name: &'static str, what: &'static str, check: fn(&History) -> Finding) -> Checker {
    Checker { name, what, check: Check::Straight(check) }
}

/// All checkers, in the order in which their findings are shown.
pub const ALL: &[Checker] = &[
    straight(
        election::NAME,
        "a token with two holders; two grants of one election at one `seq`; tokens that do not strictly rise; a holder who never campaigned; an answer to \"who leads\" that is older than what was known",
        election::check,
    ),
    straight(
        belief::NAME,
        "a holder that keeps until its TTL still believed while a newer grant was seen, on the one clock",
        belief::check,
    ),
    straight(
        fence::NAME,
        "a fenced write accepted under another token than the election's current one; accepted tokens that fall",
        fence::check,
    ),
    straight(
        calls::NAME,
        "a receiver that accepted a lower token after a higher one; a fenced call that took effect twice, though it was refused, or not at all though it was answered",
        calls::check,
    ),
    straight(
        durable::NAME,
        "a read of what nobody wrote, of a write that failed, or of less than what had been acknowledged before",
        durable::check,
    ),
    straight(
        replay::NAME,
        "in the order of `seq`: a read that does not return the latest write; a compare-and-set that should not have matched, or should have; an order that goes back against real time; a stale write of unknown outcome that shows up",
        replay::check,
    ),
    Checker {
        name: linearizable::NAME,
        what: "no order at all explains the answers of a key (search; `seq` is not used)",
        check: Check::Searching(linearizable::check),
    },
    straight(
        append::NAME,
        "a cycle of transactions over lists, with real time and the claimed order; lost, doubled, aborted or half-seen appends",
        append::check,
    ),
    straight(
        sessions::NAME,
        "a session gone before the TTL that was acknowledged; one that lives again; bound keys that go earlier or later than it",
        sessions::check,
    ),
    straight(
        watch::NAME,
        "events out of order, twice, of nobody, of a failed write, or missing where a watch says that it told everything; watches that disagree",
        watch::check,
    ),
    straight(
        job::NAME,
        "a job whose counts are not those that the harness counted itself; two results of one job; an acknowledged job that is forgotten",
        job::check,
    ),
    straight(coverage::NAME, "(unknown, not a violation) what was asked for and did not happen", coverage::check),
    straight(
        harness::NAME,
        "a process of the tested system that ended by itself or panicked, a system that did not serve again after the faults; (unknown) a harness that broke the rules of a history",
        harness::check,
    ),
];

/// Runs every checker.
pub fn check(history: &History) -> Vec<Finding> {
    check_within(history, Budget::default())
}

/// Runs every checker; those that search give up beyond the budget. A checker that the run's first line names and that had nothing to
/// check makes the run unknown.
pub fn check_within(history: &History, budget: Budget) -> Vec<Finding> {
    let judge = |checker: &Checker| match checker.check {
        Check::Straight(check) => check(history),
        Check::Searching(check) => check(history, budget),
    };
    let mut findings: Vec<Finding> = ALL.iter().map(judge).collect();
    let info = RunInfo::of(history);
    for name in info.iter().flat_map(|info| &info.checkers) {
        match findings.iter_mut().find(|finding| finding.checker == name) {
            Some(finding) if finding.verdict == Verdict::Nothing => {
                finding.verdict = Verdict::Unknown;
                finding.detail = format!("the run is there for this check, and found {}", finding.detail);
            }
            Some(_) => {}
            None => {
                let detail = format!("the run asks for a checker '{name}', which is not known");
                findings.push(Finding::unknown(harness::NAME, detail));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_checker_finds_fault_with_a_history_that_is_good_for_another() {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata");
        for folder in std::fs::read_dir(dir).unwrap() {
            let folder = folder.unwrap().file_name().into_string().unwrap();
            for (path, verdict, history) in testing::by_hand(&folder) {
                let bad = check(&history).into_iter().find(|finding| finding.verdict == Verdict::Violation);
                match bad {
                    Some(finding) => assert_eq!(verdict, Verdict::Violation, "{}: {finding}", path.display()),
                    None => assert_ne!(verdict, Verdict::Violation, "{}: the whole set passes it", path.display()),
                }
            }
        }
    }

    #[test]
    fn a_check_that_the_run_is_there_for_must_have_had_something_to_check() {
        let history = |name: &str| {
            let info = RunInfo { checkers: vec![name.to_owned()], ..RunInfo::default() };
            History::new(vec![info.record(), crate::history::Record::seen("harness", crate::history::f::END)])
        };
        assert_eq!(Verdict::of(&check(&history("harness"))), Verdict::Pass);
        assert_eq!(Verdict::of(&check(&history("election"))), Verdict::Unknown);
        assert_eq!(Verdict::of(&check(&history("no-such-checker"))), Verdict::Unknown);
    }
}
