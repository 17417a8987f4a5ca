//! The deliberately broken variants that the simulation hunts: each must be caught by an invariant within a budget of seeds, or
//! the simulation proves nothing about it. The others are caught by tests of the crate that they break.

use std::time::Duration;

use palisade_planted::{Bug, choose};

use crate::{Plan, Report, run_with};

/// Seeds until a planted bug must have been caught.
pub const BUDGET: u64 = 200;

/// A run that has caught its bug goes on for so long: others may object, too.
const LINGER: Duration = Duration::from_secs(3);

/// What is hunted; what takes longest first, so that no core is idle at the end.
pub const HUNTED: &[Bug] = &[
    Bug::GuardForgets,
    Bug::AnswersLostAtSnapshot,
    Bug::AckBeforeSync,
    Bug::ForgetVote,
    Bug::GrantTwice,
    Bug::TokenNotRaised,
    Bug::RestoredSourceSkipsAWord,
    Bug::SkipFenceCheck,
    Bug::EndedSessionKeepsLeadership,
    Bug::ForgetAnswers,
    Bug::ExpireWithoutCondition,
    Bug::DeadlinesOfBefore,
    Bug::ReadWithoutRound,
    Bug::GrantBeforeEnd,
    Bug::LostAfterResign,
    Bug::RetryUnknownWithoutId,
    Bug::WipedNodeVotes,
    Bug::LostTooLate,
    Bug::SkipCheckAtDequeue,
    Bug::CompareWithNotEqual,
    Bug::TellTwice,
    Bug::StepWithoutCheck,
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

/// Runs seeds from 1 on until one catches the bug.
pub fn hunt(bug: Bug) -> Verdict {
    for seed in 1..=BUDGET {
        let report = run_with(&Plan::draw(seed), LINGER, move || choose(Some(bug)));
        if report.violation.is_some() {
            return Verdict { bug, seeds: seed, caught: Some(report) };
        }
    }
    Verdict { bug, seeds: BUDGET, caught: None }
}
