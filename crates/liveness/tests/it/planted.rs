//! Each planted bug is caught by the model, in the words of the rule that it breaks.

use std::panic::{AssertUnwindSafe, catch_unwind};

use palisade_planted::{Bug, choose};
use proptest::test_runner::{Config, TestRunner};

use crate::model;

/// Whether random events, fewer than the model test runs, find out; and in which words.
fn caught(bug: Option<Bug>) -> Option<String> {
    let config = Config { cases: 128, max_shrink_iters: 0, ..model::config() };
    choose(bug);
    let found = TestRunner::new(config).run(&model::steps(), |steps| {
        match catch_unwind(AssertUnwindSafe(|| model::follow(&steps))) {
            Ok(()) => Ok(()),
            Err(panic) => {
                let words = panic.downcast_ref::<String>().cloned();
                let words = words.or_else(|| panic.downcast_ref::<&str>().map(|words| (*words).to_owned()));
                Err(proptest::test_runner::TestCaseError::fail(words.unwrap_or_default()))
            }
        }
    });
    choose(None);
    found.err().map(|error| error.to_string())
}

#[test]
fn without_a_choice_nothing_is_wrong() {
    assert_eq!(caught(None), None);
}

#[test]
fn ack_without_quorum_round_is_caught() {
    let why = caught(Some(Bug::AckWithoutQuorumRound)).expect("it must be caught");
    assert!(why.contains("without a round that began after it arrived"), "{why}");
}

#[test]
fn expire_without_condition_is_caught() {
    let why = caught(Some(Bug::ExpireWithoutCondition)).expect("it must be caught");
    assert!(why.contains("was attached since its end was proposed, and yet ended"), "{why}");
}
