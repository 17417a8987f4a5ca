//! Each planted bug of belief is caught by the rule that it breaks.

use palisade_planted::{Bug, caught};

#[test]
fn deadline_from_receive_time_is_caught() {
    let why = caught(Bug::DeadlineFromReceiveTime, super::the_clients_lost_timer_is_longer_than_the_servers);
    assert!(why.is_some_and(|why| why.contains("Held")));
}

#[test]
fn lost_too_late_is_caught() {
    assert!(caught(Bug::LostTooLate, super::belief_is_the_ttl_less_the_drift_of_two_clocks).is_some());
    assert!(caught(Bug::LostTooLate, super::what_came_after_the_limit_came_too_late).is_some());
}

#[test]
fn lost_after_resign_is_caught() {
    let check = super::the_in_memory_am_leader_flag_is_cleared_after_the_lease_is_released;
    assert!(caught(Bug::LostAfterResign, check).is_some());
}

#[test]
fn abandoned_not_withdrawn_is_caught() {
    let why = caught(Bug::AbandonedNotWithdrawn, super::a_failed_campaign_leaves_its_candidate_behind);
    assert!(why.is_some_and(|why| why.contains("it is withdrawn at once")));
}
