//! What is wrong with the network at a moment: pure data, by directed link. Who carries it out is the target's affair.
//!
//! Partitions are made of cut links. What it keeps true: a name is never cut off from itself, and nothing said means that all is well.

use std::collections::BTreeMap;
use std::time::Duration;

/// What is wrong with one direction of a link.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    /// Nothing arrives until it is mended; what was sent arrives then, late, as TCP has it.
    Cut,
    /// Everything arrives later, by up to a half more than this.
    Slow(Duration),
    /// Of a hundred packets so many are lost, and sent again by TCP after its timeout: what follows waits.
    Lossy(u8),
}

/// All faults of the network, by (from, to).
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Faults(BTreeMap<(String, String), Fault>);

impl Faults {
    /// All is well.
    pub(crate) fn none() -> Faults {
        Faults::default()
    }

    pub(crate) fn of(&self, from: &str, to: &str) -> Option<Fault> {
        if self.0.is_empty() || from == to { None } else { self.0.get(&(from.to_owned(), to.to_owned())).copied() }
    }

    pub(crate) fn each(&self) -> impl Iterator<Item = (&str, &str, Fault)> {
        self.0.iter().map(|((from, to), fault)| (from.as_str(), to.as_str(), *fault))
    }

    fn put(&mut self, from: &str, to: &str, fault: Fault) {
        if from != to {
            self.0.insert((from.to_owned(), to.to_owned()), fault);
        }
    }

    fn both(&mut self, one: &str, other: &str, fault: Fault) {
        self.put(one, other, fault);
        self.put(other, one, fault);
    }

    /// These, and others as well.
    #[must_use]
    pub(crate) fn and(mut self, others: Faults) -> Faults {
        self.0.extend(others.0);
        self
    }

    /// One name sees none of the others, and none of them sees it.
    pub(crate) fn isolate(one: &str, others: &[String]) -> Faults {
        let mut faults = Faults::none();
        others.iter().for_each(|other| faults.both(one, other, Fault::Cut));
        faults
    }

    /// What `one` says reaches none of the others; what they say reaches it.
    pub(crate) fn mute(one: &str, others: &[String]) -> Faults {
        let mut faults = Faults::none();
        others.iter().for_each(|other| faults.put(one, other, Fault::Cut));
        faults
    }

    /// What the others say does not reach `one`; what it says reaches them.
    pub(crate) fn deafen(one: &str, others: &[String]) -> Faults {
        let mut faults = Faults::none();
        others.iter().for_each(|other| faults.put(other, one, Fault::Cut));
        faults
    }

    /// Two halves that do not see each other: the first `⌈n/2⌉` of the names, and the rest.
    pub(crate) fn halves(names: &[String]) -> Faults {
        let (first, second) = names.split_at(names.len().div_ceil(2));
        let mut faults = Faults::none();
        for one in first {
            second.iter().for_each(|other| faults.both(one, other, Fault::Cut));
        }
        faults
    }

    /// Two halves, and one name that both of them see.
    pub(crate) fn bridge(names: &[String]) -> Faults {
        let Some((_middle, rest)) = names.split_first() else { return Faults::none() };
        let (first, second) = rest.split_at(rest.len() / 2);
        let mut faults = Faults::none();
        for one in first {
            second.iter().for_each(|other| faults.both(one, other, Fault::Cut));
        }
        faults
    }

    /// Everybody sees a majority, no two the same one: of five or more. Of fewer, a ring cuts nobody off.
    pub(crate) fn ring(names: &[String]) -> Faults {
        let count = names.len();
        let majority = count / 2 + 1;
        // Itself, and so many neighbours on each side that it is a majority.
        let reach = majority / 2;
        let mut faults = Faults::none();
        for one in 0..count {
            for other in 0..count {
                let apart = one.abs_diff(other).min(count - one.abs_diff(other));
                if apart > reach {
                    faults.put(&names[one], &names[other], Fault::Cut);
                }
            }
        }
        faults
    }

    /// The same fault on every link between the names.
    pub(crate) fn everywhere(names: &[String], fault: Fault) -> Faults {
        let mut faults = Faults::none();
        for (at, one) in names.iter().enumerate() {
            names[at + 1..].iter().for_each(|other| faults.both(one, other, fault));
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: usize) -> Vec<String> {
        (1..=count).map(|id| format!("node-{id}")).collect()
    }

    /// Whom a name hears, itself included.
    fn hears(faults: &Faults, names: &[String], one: &str) -> Vec<String> {
        names.iter().filter(|other| faults.of(other, one).is_none()).cloned().collect()
    }

    #[test]
    fn halves_do_not_see_each_other_and_one_of_them_is_a_majority() {
        let names = names(5);
        let faults = Faults::halves(&names);
        assert_eq!(hears(&faults, &names, "node-1"), names[..3]);
        assert_eq!(hears(&faults, &names, "node-5"), names[3..]);
    }

    #[test]
    fn in_a_ring_everybody_hears_a_majority_and_no_two_the_same() {
        let names = names(5);
        let faults = Faults::ring(&names);
        let heard: Vec<_> = names.iter().map(|one| hears(&faults, &names, one)).collect();
        assert!(heard.iter().all(|heard| heard.len() == 3), "{heard:?}");
        for (at, one) in heard.iter().enumerate() {
            assert!(heard[at + 1..].iter().all(|other| other != one), "{heard:?}");
        }
    }

    #[test]
    fn both_sides_of_a_bridge_hear_the_one_in_the_middle_only() {
        let names = names(5);
        let faults = Faults::bridge(&names);
        assert_eq!(hears(&faults, &names, "node-1"), names);
        assert_eq!(hears(&faults, &names, "node-2"), names[..3]);
        assert_eq!(hears(&faults, &names, "node-4"), ["node-1", "node-4", "node-5"]);
    }

    #[test]
    fn one_way_is_one_way_and_nobody_is_cut_off_from_itself() {
        let names = names(3);
        let muted = Faults::mute("node-1", &names);
        assert_eq!(muted.of("node-1", "node-2"), Some(Fault::Cut));
        assert_eq!((muted.of("node-2", "node-1"), muted.of("node-1", "node-1")), (None, None));
        let deaf = Faults::deafen("node-1", &names);
        assert_eq!((deaf.of("node-1", "node-2"), deaf.of("node-2", "node-1")), (None, Some(Fault::Cut)));
        assert_eq!(Faults::isolate("node-1", &names).each().count(), 4);
        let slow = Fault::Slow(Duration::from_millis(1));
        assert_eq!(Faults::everywhere(&names, slow).each().count(), 6);
    }
}
