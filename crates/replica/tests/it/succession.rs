//! A dead store leader is succeeded at once, because its connections broke. That a single broken connection is no reason, the
//! decision's own tests say, and the simulation with a link that is cut for long.

use palisade_replica::Timings;

use crate::cluster::{BOUND, Three, timings};

/// Timers that are never over in a test.
fn never() -> Timings {
    Timings { election_min: BOUND * 2, election_max: BOUND * 3, ..timings() }
}

#[tokio::test]
async fn a_killed_store_leader_is_succeeded_before_any_timer_is_over() {
    let mut three = Three::formed_with(1_000, never()).await;
    three.note("one").await;
    let (old, before) = three.leader().await;
    three.place_mut(old).kill();
    let (new, after) = three.leader().await;
    assert!(new != old && after > before);
    assert_eq!(three.note("two").await, 2);
}
