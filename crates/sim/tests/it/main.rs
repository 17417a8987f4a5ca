//! The simulation itself is tested: the same seed gives the same trace, seeds with faults pass, and what a seed once found is
//! run for ever.

use palisade_sim::{Plan, run};

/// Seeds that found something, and what it was.
const FOUND: [(u64, &str); 2] = [
    (3, "a store leader dialled a node that it could not reach in a loop without a pause"),
    (93, "an attach of before the streams were closed let the next one's grant go to nobody"),
];

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 1..=3 {
        let plan = Plan::draw(seed);
        let (one, two) = (run(&plan), run(&plan));
        assert_eq!(one.violation, None, "seed {seed}");
        // The last line is the fingerprint of every byte that went over the simulated network.
        let differs = one.trace.lines().zip(two.trace.lines()).find(|(a, b)| a != b);
        assert_eq!(differs, None, "seed {seed}: the traces part here");
        assert_eq!(one.trace, two.trace, "seed {seed}");
        assert_eq!(one.fingerprint, two.fingerprint, "seed {seed}");
        assert!(one.progress.grants > 0 && one.progress.acknowledged > 0, "seed {seed}: nothing happened");
        assert!(one.progress.fenced > 0 && one.progress.refused > 0, "seed {seed}: no token was ever checked");
    }
}

#[test]
fn what_a_seed_found_stays_mended() {
    for (seed, found) in FOUND {
        assert_eq!(run(&Plan::draw(seed)).violation, None, "seed {seed}: {found}");
    }
}
