//! The links between processes under any number of cuts and lags. A link is as bad as the worst of those that concern it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use turmoil::Sim;

use crate::plan::{Cut, Pattern, Who};

pub(super) struct Links {
    everybody: Vec<Who>,
    cuts: BTreeMap<u64, (BTreeSet<(Who, Who)>, Cut)>,
    /// As the simulated network has it; only links that are not whole.
    state: BTreeMap<(Who, Who), Link>,
    lags: BTreeMap<u64, (BTreeSet<(Who, Who)>, Duration)>,
    /// Of a link that nothing slows down: the least and the most.
    latency: (Duration, Duration),
}

/// A slow link takes up to this many times as long as it says.
const UNEVEN: u32 = 2;

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
    pub(super) fn new(everybody: Vec<Who>, latency: (Duration, Duration)) -> Links {
        Links { everybody, cuts: BTreeMap::new(), state: BTreeMap::new(), lags: BTreeMap::new(), latency }
    }

    /// Slows links down. `false`: it concerns nobody.
    pub(super) fn lag(&mut self, sim: &Sim<'_>, id: u64, pattern: &Pattern, lag: Duration) -> bool {
        let pairs = undirected(pattern.pairs(&self.everybody));
        if pairs.is_empty() {
            return false;
        }
        self.lags.insert(id, (pairs.clone(), lag));
        self.slow(sim, pairs);
        true
    }

    /// Takes a lag away.
    pub(super) fn hurry(&mut self, sim: &Sim<'_>, id: u64) {
        if let Some((pairs, _)) = self.lags.remove(&id) {
            self.slow(sim, pairs);
        }
    }

    fn slow(&self, sim: &Sim<'_>, touched: BTreeSet<(Who, Who)>) {
        for pair in touched {
            let lag = self.lags.values().filter(|(pairs, _)| pairs.contains(&pair)).map(|(_, lag)| *lag).max();
            let (least, most) = lag.map_or(self.latency, |lag| (self.latency.0 + lag, self.latency.1 + lag * UNEVEN));
            let (one, other) = (pair.0.to_string(), pair.1.to_string());
            // The first sets both ends.
            sim.set_link_latency(one.as_str(), other.as_str(), least);
            sim.set_link_max_message_latency(one.as_str(), other.as_str(), most);
        }
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
        for (one, other) in undirected(touched) {
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

/// Each link once, seen from the lesser of its ends.
fn undirected(pairs: impl IntoIterator<Item = (Who, Who)>) -> BTreeSet<(Who, Who)> {
    pairs.into_iter().map(|(one, other)| (one.min(other), one.max(other))).collect()
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
        let mut links = Links::new(vec![one, two], (Duration::ZERO, Duration::ZERO));
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
