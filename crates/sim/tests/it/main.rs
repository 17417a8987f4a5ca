//! The simulation itself is tested: the same seed gives the same trace, and a seed with faults passes.

use palisade_sim::{Plan, run};

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 1..=2 {
        let plan = Plan::draw(seed);
        let (one, two) = (run(&plan), run(&plan));
        assert_eq!(one.violation, None, "seed {seed}");
        let differs = one.trace.lines().zip(two.trace.lines()).find(|(a, b)| a != b);
        assert_eq!(differs, None, "seed {seed}: the traces part here");
        assert_eq!(one.fingerprint, two.fingerprint, "seed {seed}");
        assert!(one.grants > 0 && one.acknowledged > 0, "seed {seed}: nothing happened");
    }
}
