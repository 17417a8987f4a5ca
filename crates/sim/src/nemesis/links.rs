//! The links between processes under any number of cuts. A link is as bad as the worst cut that concerns it.

use std::collections::{BTreeMap, BTreeSet};

use turmoil::Sim;

use crate::plan::{Cut, Pattern, Who};

pub(super) struct Links {
    everybody: Vec<Who>,
    cuts: BTreeMap<u64, (BTreeSet<(Who, Who)>, Cut)>,
    /// As the simulated network has it; only links that are not whole.
    state: BTreeMap<(Who, Who), Link>,
}

/// One link, seen from the lesser of its ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Link {
    #[default]
    Whole,
    /// Messages wait.
    Held,
    /// Messages are lost.
    Lost { there: bool, back: bool },
}

impl Links {
    pub(super) fn new(everybody: Vec<Who>) -> Links {
        Links { everybody, cuts: BTreeMap::new(), state: BTreeMap::new() }
    }

    /// Adds a cut. `false`: it concerns nobody.
    pub(super) fn cut(&mut self, sim: &Sim<'_>, id: u64, pattern: &Pattern, cut: Cut) -> bool {
        let pairs: BTreeSet<_> = pattern.pairs(&self.everybody).into_iter().collect();
        if pairs.is_empty() {
            return false;
        }
        let touched = pairs.clone();
        self.cuts.insert(id, (pairs, cut));
        self.update(sim, touched);
        true
    }

    /// Takes a cut away.
    pub(super) fn mend(&mut self, sim: &Sim<'_>, id: u64) {
        if let Some((pairs, _)) = self.cuts.remove(&id) {
            self.update(sim, pairs);
        }
    }

    fn update(&mut self, sim: &Sim<'_>, touched: BTreeSet<(Who, Who)>) {
        let touched: BTreeSet<_> = touched.into_iter().map(|(one, other)| (one.min(other), one.max(other))).collect();
        for (one, other) in touched {
            let wanted = self.wanted(one, other);
            let before = self.state.insert((one, other), wanted).unwrap_or_default();
            if before != wanted {
                set(sim, (one, other), before, wanted);
            }
        }
    }

    fn wanted(&self, one: Who, other: Who) -> Link {
        let concerns =
            |from, to, how| self.cuts.values().any(|(pairs, cut)| *cut == how && pairs.contains(&(from, to)));
        let (there, back) = (concerns(one, other, Cut::Drop), concerns(other, one, Cut::Drop));
        if there || back {
            Link::Lost { there, back }
        } else if concerns(one, other, Cut::Hold) || concerns(other, one, Cut::Hold) {
            Link::Held
        } else {
            Link::Whole
        }
    }
}

fn set(sim: &Sim<'_>, (one, other): (Who, Who), before: Link, now: Link) {
    let (one, other) = (one.to_string(), other.to_string());
    match (before, now) {
        (Link::Held, Link::Whole) => return sim.release(one, other),
        // What is held is lost with the link.
        (Link::Held, Link::Lost { .. }) => sim.partition(one.as_str(), other.as_str()),
        _ => {}
    }
    sim.repair(one.as_str(), other.as_str());
    match now {
        Link::Whole => {}
        Link::Held => sim.hold(one, other),
        Link::Lost { there: true, back: true } => sim.partition(one, other),
        Link::Lost { there, .. } if there => sim.partition_oneway(one, other),
        Link::Lost { .. } => sim.partition_oneway(other, one),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_as_bad_as_its_worst_cut() {
        let (one, two) = (Who::node(1), Who::node(2));
        let mut links = Links::new(vec![one, two]);
        let mut cut = |id, pairs: &[(Who, Who)], how| links.cuts.insert(id, (pairs.iter().copied().collect(), how));
        cut(1, &[(one, two), (two, one)], Cut::Hold);
        cut(2, &[(two, one)], Cut::Drop);
        assert_eq!(links.wanted(one, two), Link::Lost { there: false, back: true });
        links.cuts.remove(&2);
        assert_eq!(links.wanted(one, two), Link::Held);
        links.cuts.remove(&1);
        assert_eq!(links.wanted(one, two), Link::Whole);
    }
}
