//! Each planted bug is caught by the check that is there for it: an invariant, an assertion in `apply`, or the model.

use palisade_planted::Bug;
use proptest::test_runner::{Config, TestRunner};

use crate::{model_test, scenarios, steps};

/// Random commands, far fewer than the model test runs.
fn random_commands() {
    let config = Config { cases: 256, max_shrink_iters: 0, ..steps::config() };
    let run = TestRunner::new(config).run(&steps::steps(), |steps| model_test::follow(&steps));
    run.unwrap_or_else(|error| panic!("{error}"));
}

/// Whether they find out, in one of these words.
fn is_caught(bug: Bug, words: &[&str]) {
    let why = palisade_planted::caught(bug, random_commands).expect("it must be caught");
    assert!(words.iter().any(|words| why.contains(words)), "{why}");
}

#[test]
fn without_a_choice_nothing_is_wrong() {
    random_commands();
}

#[test]
fn grant_twice_is_caught_by_the_invariants() {
    is_caught(Bug::GrantTwice, &["leads false, waits false", "was filled twice by one command"]);
}

#[test]
fn token_not_raised_is_caught() {
    is_caught(Bug::TokenNotRaised, &["is not above the last", "was granted before", "leads in"]);
}

#[test]
fn skip_fence_check_is_caught_by_the_model() {
    is_caught(Bug::SkipFenceCheck, &["StaleToken"]);
}

#[test]
fn ended_session_keeps_leadership_is_caught_by_the_invariants() {
    is_caught(Bug::EndedSessionKeepsLeadership, &["does not stand in a live session"]);
}

#[test]
fn forget_answers_is_caught_by_the_model() {
    is_caught(Bug::ForgetAnswers, &["(left == right)"]);
}

#[test]
fn half_transaction_is_caught_by_the_model() {
    is_caught(Bug::HalfTransaction, &["(left == right)"]);
}

#[test]
fn conditions_ignored_are_caught_by_the_model() {
    is_caught(Bug::ConditionsIgnored, &["(left == right)"]);
}

#[test]
fn keep_lets_go_is_caught_by_the_model() {
    is_caught(Bug::KeepLetsGo, &["(left == right)"]);
}

#[test]
fn reset_token_on_restore_is_caught_by_the_trap_that_is_named_for_it() {
    let trap = || scenarios::has_its_expected_trace("trap_etcd_hazelcast_tokens_go_back_after_a_restore");
    let why = palisade_planted::caught(Bug::ResetTokenOnRestore, trap).expect("it must be caught");
    assert!(why.contains("was never granted"), "{why}");
}
