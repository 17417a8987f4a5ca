//! A bug is on where it was chosen and nowhere else, and every one can be chosen by its name.
#![cfg(feature = "planted")]

use std::collections::BTreeSet;

use palisade_planted::{Bug, carried, caught, choose, is};

#[test]
fn every_bug_has_a_name_of_its_own_and_is_found_by_it() {
    let names: BTreeSet<_> = Bug::ALL.iter().map(|bug| bug.name()).collect();
    assert_eq!(names.len(), Bug::ALL.len());
    for bug in Bug::ALL {
        let name = bug.name();
        assert_eq!(name.parse(), Ok(*bug));
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{name}");
        // A name of one word may be in a binary that has no bug of that name.
        assert!(name.contains('-'), "{name}");
        assert!(bug.wrong().ends_with('.'), "{name}: {}", bug.wrong());
    }
    let unknown = "no-such-bug".parse::<Bug>().unwrap_err();
    assert!(unknown.contains("grant-twice"), "{unknown}");
}

#[test]
fn a_choice_is_for_its_thread_and_for_those_that_it_is_carried_to() {
    assert!(Bug::ALL.iter().all(|bug| !is(*bug)));
    choose(Some(Bug::GrantTwice));
    let on = || Bug::ALL.iter().copied().filter(|bug| is(*bug)).collect::<Vec<_>>();
    assert_eq!(on(), [Bug::GrantTwice]);
    assert_eq!(std::thread::spawn(on).join().unwrap(), []);
    std::thread::spawn(carried(move || assert_eq!(on(), [Bug::GrantTwice]))).join().unwrap();
    choose(None);
    assert_eq!(on(), []);
}

#[test]
fn what_a_check_says_is_given_and_the_bug_is_off_afterwards() {
    let said = |bug| caught(bug, || assert!(!is(Bug::GrantTwice), "granted twice"));
    assert_eq!(said(Bug::GrantTwice).as_deref(), Some("granted twice"));
    assert_eq!(said(Bug::ForgetVote), None);
    assert!(!is(Bug::GrantTwice));
}
