//! Each planted bug is caught by the model, in the words of the rule that it breaks.

use palisade_planted::{Bug, caught};
use proptest::test_runner::{Config, TestCaseResult, TestRunner};

use crate::{model, rules};

/// Random events, fewer than the model test runs.
fn random_events() {
    let config = Config { cases: 128, max_shrink_iters: 0, ..model::config() };
    let run = TestRunner::new(config).run(&model::steps(), |steps| -> TestCaseResult {
        model::follow(&steps);
        Ok(())
    });
    run.unwrap_or_else(|error| panic!("{error}"));
}

fn is_caught(bug: Bug, words: &str) {
    let why = caught(bug, random_events).expect("it must be caught");
    assert!(why.contains(words), "{why}");
}

#[test]
fn without_a_choice_nothing_is_wrong() {
    random_events();
}

#[test]
fn ack_without_quorum_round_is_caught() {
    is_caught(Bug::AckWithoutQuorumRound, "without a round that began after it arrived");
}

#[test]
fn expire_without_condition_is_caught() {
    is_caught(Bug::ExpireWithoutCondition, "was attached since its end was proposed, and yet ended");
}

#[test]
fn relay_death_releases_is_caught() {
    is_caught(Bug::RelayDeathReleases, "is to end at");
}

#[test]
fn late_tick_not_moved_is_caught() {
    is_caught(Bug::LateTickNotMoved, "is to end at");
}

#[test]
fn renews_when_asked_not_to_is_caught() {
    is_caught(Bug::RenewsWhenAskedNotTo, "is renewed though somebody asked that it be not");
}

#[test]
fn deadlines_of_before_are_caught() {
    is_caught(Bug::DeadlinesOfBefore, "is to end at");
}

#[test]
fn stays_shut_is_caught() {
    let check = rules::without_a_confirmation_for_the_election_timeout_the_streams_are_closed_which_releases_nobody;
    assert!(caught(Bug::StaysShut, check).is_some_and(|why| why.contains("AcceptStreams")));
}
