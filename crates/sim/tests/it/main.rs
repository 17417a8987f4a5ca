//! The simulation itself is tested: the same seed gives the same trace, seeds with faults pass, and what was once found stays
//! mended.

use palisade_sim::{Plan, found, run};

#[test]
fn the_same_seed_gives_the_same_trace() {
    let mut with_calls = 0;
    for seed in 1..=8 {
        let plan = Plan::draw(seed);
        let (one, two) = (run(&plan), run(&plan));
        assert_eq!(one.violation, None, "seed {seed}");
        // The last line is the fingerprint of every byte that went over the simulated network.
        let differs = one.trace.lines().zip(two.trace.lines()).find(|(a, b)| a != b);
        assert_eq!(differs, None, "seed {seed}: the traces part here");
        assert_eq!(one.trace, two.trace, "seed {seed}");
        assert_eq!(one.fingerprint, two.fingerprint, "seed {seed}");
        for what in ["grants", "writes", "fenced writes"] {
            assert!(one.counts.contains_key(what), "seed {seed}: no {what}");
        }
        with_calls += u64::from(one.counts.contains_key("appends"));
    }
    assert!(with_calls > 0, "no ledger was called in any of them");
}

#[test]
fn what_was_found_stays_mended() {
    for (name, text) in found::ALL {
        let plan: Plan = text.parse().unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(run(&plan).violation, None, "{name}\n{plan}");
    }
}
