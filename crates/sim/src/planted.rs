//! The deliberately broken variants that the simulation hunts: each must be caught by an invariant within a budget of seeds, or
//! the simulation proves nothing about it. The others are caught by tests of the crate that they break.

use std::time::Duration;

use palisade_planted::{Bug, choose};

use crate::{Plan, Report, run_with};

/// Seeds until a planted bug must have been caught.
pub const BUDGET: u64 = 200;

/// A run that has caught its bug goes on for so long: others may object, too.
const LINGER: Duration = Duration::from_secs(3);

/// What is hunted, and the invariant that must object, first or a moment later; what takes longest first, so that no core is idle
/// at the end.
pub const HUNTED: &[(Bug, &str)] = &[
    (Bug::GuardForgets, "nothing-runs-below-its-guard"),
    (Bug::AnswersLostAtSnapshot, "replicas-agree"),
    (Bug::AckBeforeSync, "nothing-panics"),
    (Bug::ForgetVote, "nothing-panics"),
    (Bug::StandUnasked, "one-link-deposes-nobody"),
    (Bug::GrantTwice, "nothing-panics"),
    (Bug::TokenNotRaised, "nothing-panics"),
    (Bug::RestoredSourceSkipsAWord, "job-exact"),
    (Bug::SkipFenceCheck, "stale-writes-are-refused"),
    (Bug::EndedSessionKeepsLeadership, "nothing-panics"),
    (Bug::ForgetAnswers, "requests-take-effect-once"),
    (Bug::ExpireWithoutCondition, "ended-sessions-hold-nothing"),
    (Bug::DeadlinesOfBefore, "beliefs-are-kept"),
    (Bug::ReadWithoutRound, "registers-are-linearizable"),
    (Bug::GrantBeforeEnd, "tokens-rise"),
    (Bug::LostAfterResign, "beliefs-do-not-overlap"),
    (Bug::RetryUnknownWithoutId, "requests-take-effect-once"),
    (Bug::WipedNodeVotes, "wiped-nodes-do-not-count"),
    (Bug::LostTooLate, "beliefs-are-kept"),
    (Bug::SkipCheckAtDequeue, "nothing-runs-below-its-guard"),
    (Bug::CompareWithNotEqual, "nothing-runs-below-its-guard"),
    (Bug::TellTwice, "a-message-runs-as-often-as-it-was-sent"),
    (Bug::StepWithoutCheck, "nothing-runs-below-its-guard"),
];

/// What became of a bug.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The bug.
    pub bug: Bug,
    /// Seeds that were run.
    pub seeds: u64,
    /// Of the seed that caught it.
    pub caught: Option<Report>,
}

/// Runs one plan with this bug in every host; it is chosen for the thread of that run and for no other.
pub fn run(bug: Bug, plan: &Plan) -> Report {
    run_with(plan, Duration::ZERO, move || choose(Some(bug)))
}

/// Runs seeds from 1 on until `by` objects to the bug, or anybody if nobody is named.
pub fn hunt(bug: Bug, by: Option<&str>) -> Verdict {
    for seed in 1..=BUDGET {
        let report = run_with(&Plan::draw(seed), LINGER, move || choose(Some(bug)));
        let caught = match by {
            Some(by) => report.violated() == Some(by) || report.objected.contains(by),
            None => report.violation.is_some(),
        };
        if caught {
            return Verdict { bug, seeds: seed, caught: Some(report) };
        }
    }
    Verdict { bug, seeds: BUDGET, caught: None }
}
