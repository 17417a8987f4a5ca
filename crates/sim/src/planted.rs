//! The deliberately broken variants that the simulation hunts: each must be caught by an invariant within a budget of seeds, or
//! the simulation proves nothing about it. The others are caught by tests of the crate that they break.

use std::fmt;
use std::time::Duration;

use palisade_planted::{Bug, choose};

use crate::{Linger, Plan, Report, run_with};

/// Seeds until a planted bug must have been caught.
pub const BUDGET: u64 = 200;

/// Seeds with which a directed plan is run: what falls where within it is still a matter of chance.
const DIRECTED_BUDGET: u64 = 20;

/// A run that has caught its bug goes on for so long: others may object, too.
const LINGER: Duration = Duration::from_secs(1);

/// One in which somebody else objected first goes on for so long at most, for the one who must.
const LINGER_AT_MOST: Duration = Duration::from_secs(3);

/// What is hunted, and the invariant that must object, first or a moment later; what takes longest first, so that no core is idle
/// at the end.
pub const HUNTED: &[(Bug, &str)] = &[
    (Bug::GuardForgets, "nothing-runs-below-its-guard"),
    (Bug::AckBeforeSync, "nothing-panics"),
    (Bug::ResetTokenOnRestore, "tokens-rise"),
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
    (Bug::PastAsPresent, "reads-equal-the-past"),
    (Bug::HalfTransaction, "transactions-are-whole"),
    (Bug::ConditionsIgnored, "transactions-are-whole"),
    (Bug::KeepLetsGo, "bound-keys-end-with-their-session"),
    (Bug::RelayDeathReleases, "only-the-gone-are-disconnected"),
    (Bug::RenewsWhenAskedNotTo, "who-is-not-renewed-ends"),
    (Bug::LateTickNotMoved, "only-the-silent-expire"),
    (Bug::EventsLostAtSnapshot, "observe-is-complete"),
    (Bug::UnknownAsNotApplied, "writers-are-told-the-truth"),
    (Bug::DeadlineFromReceiveTime, "beliefs-are-kept"),
    (Bug::CompactionUntold, "watchers-see-every-change"),
    (Bug::StaysShut, "only-the-silent-expire"),
    (Bug::ExpireByWallClock, "serves-again"),
    (Bug::ReadWithoutRound, "registers-are-linearizable"),
    (Bug::GrantBeforeEnd, "one-grant-at-each-seq"),
    (Bug::LostAfterResign, "beliefs-do-not-overlap"),
    (Bug::RetryUnknownWithoutId, "requests-take-effect-once"),
    (Bug::WipedNodeVotes, "wiped-nodes-do-not-count"),
    (Bug::LostTooLate, "beliefs-are-kept"),
    (Bug::SkipCheckAtDequeue, "nothing-runs-below-its-guard"),
    (Bug::CompareWithNotEqual, "nothing-runs-below-its-guard"),
    (Bug::TellTwice, "a-message-runs-as-often-as-it-was-sent"),
    (Bug::StepWithoutCheck, "nothing-runs-below-its-guard"),
    (Bug::UnboundLearnerCounts, "only-who-has-joined-takes-part"),
    (Bug::NoQuorumLossProbe, "a-majority-that-hears-itself-serves"),
    (Bug::BelieveAnyToken, "nothing-runs-below-its-guard"),
    (Bug::DeafGuard, "guards-follow-the-election"),
    (Bug::AnswersLostAtSnapshot, "replicas-agree"),
    (Bug::RemovedNodeCounts, "operators-are-told-the-truth"),
    (Bug::NodeIdUsedAgain, "node-ids-are-used-once"),
    (Bug::LevelUnasked, "a-level-is-known-to-all"),
    (Bug::NotRegisteredAgain, "workers-registered"),
];

/// Runs in which a bug must show itself at once, for those that a drawn plan shows too seldom. Everything in them happens in
/// drawn plans as well, only not so often and not so close together.
macro_rules! directed {
    ($($bug:ident = $name:literal),+ $(,)?) => {
        &[$((Bug::$bug, include_str!(concat!("../planted/", $name, ".plan")))),+]
    };
}

/// The plans that are run first, each for its bug.
const DIRECTED: &[(Bug, &str)] = directed! {
    AckBeforeSync = "ack-before-sync",
    ResetTokenOnRestore = "reset-token-on-restore",
    ForgetVote = "forget-vote",
    GuardForgets = "guard-forgets",
    WipedNodeVotes = "wiped-node-votes",
    RetryUnknownWithoutId = "retry-unknown-without-id",
    GrantBeforeEnd = "grant-before-end",
    ReadWithoutRound = "read-without-round",
    CompactionUntold = "compaction-untold",
    LostTooLate = "lost-too-late",
    StandUnasked = "stand-unasked",
    DeadlinesOfBefore = "deadlines-of-before",
    RestoredSourceSkipsAWord = "restored-source-skips-a-word",
    ConditionsIgnored = "conditions-ignored",
    KeepLetsGo = "keep-lets-go",
    RelayDeathReleases = "relay-death-releases",
    RenewsWhenAskedNotTo = "renews-when-asked-not-to",
    LateTickNotMoved = "late-tick-not-moved",
    StaysShut = "stays-shut",
    ExpireByWallClock = "expire-by-wall-clock",
    EventsLostAtSnapshot = "events-lost-at-snapshot",
    UnknownAsNotApplied = "unknown-as-not-applied",
    DeadlineFromReceiveTime = "deadline-from-receive-time",
    UnboundLearnerCounts = "unbound-learner-counts",
    NoQuorumLossProbe = "no-quorum-loss-probe",
    BelieveAnyToken = "believe-any-token",
    DeafGuard = "deaf-guard",
    RemovedNodeCounts = "removed-node-counts",
    NodeIdUsedAgain = "node-id-used-again",
    LevelUnasked = "level-unasked",
    NotRegisteredAgain = "not-registered-again",
};

/// By what a bug was caught, and with how many seeds of that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum By {
    /// Its directed plan.
    Directed(u64),
    /// Drawn plans.
    Drawn(u64),
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            By::Directed(seeds) => f.pad(&format!("plan {seeds}")),
            By::Drawn(seeds) => f.pad(&seeds.to_string()),
        }
    }
}

/// What became of a bug.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The bug.
    pub bug: Bug,
    /// What was run last.
    pub after: By,
    /// Of the seed that caught it.
    pub caught: Option<Report>,
}

/// Runs one plan with this bug in every host; it is chosen for the thread of that run and for no other.
pub fn run(bug: Bug, plan: &Plan) -> Report {
    run_with(plan, Linger::default(), move || choose(Some(bug)))
}

/// Runs the directed plan of a bug if it has one, and then seeds from 1 on until `by` objects to the bug, or anybody if nobody is named.
pub fn hunt(bug: Bug, by: Option<&'static str>) -> Verdict {
    let linger = Linger { least: LINGER, until: by, most: LINGER_AT_MOST };
    let directed = DIRECTED.iter().find(|(of, _)| *of == bug).map(|(_, text)| *text);
    let directed = directed.into_iter().flat_map(|text| {
        let plan: Plan = text.parse().expect("a directed plan is a plan; a test reads it");
        (1..=DIRECTED_BUDGET).map(move |seed| (By::Directed(seed), Plan { seed, ..plan.clone() }))
    });
    let drawn = (1..=BUDGET).map(|seed| (By::Drawn(seed), Plan::draw(seed)));
    for (by_plan, plan) in directed.chain(drawn) {
        let report = run_with(&plan, linger, move || choose(Some(bug)));
        let caught = match by {
            Some(by) => report.violated() == Some(by) || report.objected.contains(by),
            None => report.violation.is_some(),
        };
        if caught {
            return Verdict { bug, after: by_plan, caught: Some(report) };
        }
    }
    Verdict { bug, after: By::Drawn(BUDGET), caught: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_planted_bugs_have_directed_plans_that_are_plans() {
        for (bug, text) in DIRECTED {
            let plan = text.parse::<Plan>();
            assert!(plan.is_ok_and(|plan| !plan.faults.is_empty()), "{}", bug.name());
            assert!(HUNTED.iter().any(|(hunted, _)| hunted == bug), "{} is not hunted", bug.name());
        }
    }
}
