//! Each planted bug is caught by the check that is there for it: an invariant, an assertion in `apply`, or the model.

use std::panic::{AssertUnwindSafe, catch_unwind};

use palisade_planted::{Bug, choose};
use proptest::test_runner::TestRunner;

use crate::{model_test, steps};

/// Whether random commands, far fewer than the model test runs, find out; and in which words.
fn caught(bug: Option<Bug>) -> Option<String> {
    let config = proptest::test_runner::Config { cases: 64, max_shrink_iters: 0, ..steps::config() };
    choose(bug);
    let found = catch_unwind(AssertUnwindSafe(|| {
        TestRunner::new(config).run(&steps::steps(), |steps| model_test::follow(&steps))
    }));
    choose(None);
    match found {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(panic) => Some(panic.downcast_ref::<String>().cloned().unwrap_or_default()),
    }
}

#[test]
fn without_a_choice_nothing_is_wrong() {
    assert_eq!(caught(None), None);
}

#[test]
fn grant_twice_is_caught_by_the_invariants() {
    let why = caught(Some(Bug::GrantTwice)).expect("it must be caught");
    assert!(why.contains("leads false, waits false") || why.contains("was filled twice by one command"), "{why}");
}

#[test]
fn token_not_raised_is_caught() {
    let why = caught(Some(Bug::TokenNotRaised)).expect("it must be caught");
    assert!(
        why.contains("is not above the last") || why.contains("was granted before") || why.contains("leads in"),
        "{why}"
    );
}

#[test]
fn skip_fence_check_is_caught_by_the_model() {
    let why = caught(Some(Bug::SkipFenceCheck)).expect("it must be caught");
    assert!(why.contains("StaleToken"), "{why}");
}
