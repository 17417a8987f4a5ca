//! Replicas agree: whatever node applies a command, at any time and also after a crash, it is the same command at that `seq`,
//! with the same outcome, and it leaves the same state. After healing, every node catches up; at rest, all show equal states.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::Invariant;
use crate::facts::{Applied, Fact, Restoration};
use crate::phase::Phase;
use crate::plan::{Fault, Plan, Role, Who};

pub(super) struct ReplicasAgree {
    history: BTreeMap<u64, Arc<Applied>>,
    /// By `seq`: a node and its state's digest.
    digests: BTreeMap<u64, (usize, u64)>,
    /// How far each node has applied. Those that were wiped are left out: they never come back.
    reached: BTreeMap<usize, u64>,
    /// The last members that anybody has applied, and the entry that made them so.
    members: (u64, BTreeSet<usize>),
    wiped: BTreeSet<usize>,
    founders: BTreeSet<usize>,
    /// What every node must reach.
    goal: u64,
    /// At rest: where each node's state was compared last. Only if somebody writes, so that there is something to compare.
    compared: Option<BTreeMap<usize, u64>>,
    writers: bool,
}

impl ReplicasAgree {
    pub(super) fn new(plan: &Plan) -> ReplicasAgree {
        let reached = plan.founders().map(|who| (who.number, 0)).collect();
        ReplicasAgree {
            history: BTreeMap::new(),
            digests: BTreeMap::new(),
            reached,
            wiped: BTreeSet::new(),
            founders: plan.founders().map(|who| who.number).collect(),
            members: (0, plan.founders().map(|who| who.number).collect()),
            goal: 0,
            compared: None,
            writers: plan.count(Role::Writer) > 0,
        }
    }

    /// Whether a node is a member that has its store.
    fn counts(&self, node: usize) -> bool {
        !self.wiped.contains(&node) && self.members.1.contains(&node)
    }

    fn compare(&mut self, node: usize, seq: u64, digest: u64) -> Result<(), String> {
        if let Some(compared) = &mut self.compared {
            compared.insert(node, seq);
        }
        let (other, known) = *self.digests.entry(seq).or_insert((node, digest));
        if known == digest {
            return Ok(());
        }
        Err(format!("at seq {seq} the states of nodes {other} and {node} differ: {known:016x} and {digest:016x}"))
    }
}

impl Invariant for ReplicasAgree {
    fn name(&self) -> &'static str {
        "replicas-agree"
    }

    fn restored(&mut self, restoration: &Restoration) {
        let kept = restoration.backup.seq;
        self.history.retain(|seq, _| *seq <= kept);
        self.digests.retain(|seq, _| *seq <= kept);
        // Every founder has got a new disk, and nobody else belongs.
        self.wiped.clear();
        self.members = (0, self.founders.clone());
        self.reached = self.founders.iter().map(|node| (*node, 0)).collect();
    }

    fn on(&mut self, fact: &Fact, _: Duration) -> Result<(), String> {
        match fact {
            Fact::Applied(applied) => {
                let known = self.history.entry(applied.seq).or_insert_with(|| Arc::clone(applied));
                if known.command != applied.command || known.outcome != applied.outcome {
                    let (one, other) = (known.node, applied.node);
                    return Err(format!("nodes {one} and {other} differ: {known:?} and {applied:?}"));
                }
                self.reached.insert(applied.node, applied.seq);
                applied.digest.map_or(Ok(()), |digest| self.compare(applied.node, applied.seq, digest))
            }
            Fact::Members { index, members, .. } if *index > self.members.0 => {
                let ids: BTreeSet<usize> = members.iter().map(|it| it.id as usize).collect();
                for id in &ids {
                    self.reached.entry(*id).or_default();
                }
                self.members = (*index, ids);
                Ok(())
            }
            Fact::Restored { node, seq, digest, .. } => {
                self.reached.insert(*node, *seq);
                self.compare(*node, *seq, *digest)
            }
            _ => Ok(()),
        }
    }

    fn gone(&mut self, who: Who) {
        if who.role == Role::Node {
            self.reached.insert(who.number, 0);
        }
    }

    fn fault(&mut self, fault: &Fault, _: bool, _: Duration) {
        if let Fault::Wipe(node) = fault {
            self.wiped.insert(*node);
        }
    }

    fn phase(&mut self, phase: Phase, _: Duration) {
        self.compared = (phase == Phase::Rest && self.writers).then(BTreeMap::new);
        self.goal = self.history.keys().next_back().copied().unwrap_or_default();
    }

    fn missing(&self) -> Option<String> {
        let behind = |(node, reached): &(&usize, &u64)| self.counts(**node) && **reached < self.goal;
        if let Some((node, reached)) = self.reached.iter().find(behind) {
            return Some(format!("node {node} has applied {reached} of {}", self.goal));
        }
        let compared = self.compared.as_ref()?;
        let unseen = |node: &&usize| self.counts(**node) && compared.get(node).is_none_or(|seq| *seq < self.goal);
        let node = self.reached.keys().find(unseen)?;
        Some(format!("the state of node {node} was not compared since {}", self.goal))
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::tests::{fact, put};
    use super::*;

    fn on(replicas: &mut ReplicasAgree, applied: Applied) -> Result<(), String> {
        replicas.on(&fact(applied), Duration::ZERO)
    }

    #[test]
    fn it_can_object() {
        let mut replicas = ReplicasAgree::new(&Plan::draw(1));
        assert!(on(&mut replicas, put(1, "a")).is_ok());
        assert!(on(&mut replicas, Applied { node: 2, ..put(1, "a") }).is_ok());
        assert!(on(&mut replicas, Applied { node: 3, ..put(1, "b") }).is_err(), "another command");
        assert!(on(&mut replicas, Applied { digest: Some(7), ..put(2, "b") }).is_ok());
        assert!(on(&mut replicas, Applied { node: 2, digest: Some(8), ..put(2, "b") }).is_err(), "another state");
        let restored = |digest| Fact::Restored { node: 3, seq: 2, digest, beginning: None };
        assert!(replicas.on(&restored(7), Duration::ZERO).is_ok());
        assert!(replicas.on(&restored(9), Duration::ZERO).is_err(), "another snapshot");
    }

    #[test]
    fn whoever_is_no_member_need_not_catch_up() {
        let plan: Plan = "cast node 4 writer 1\nfounders 3".parse().expect("a plan");
        let mut replicas = ReplicasAgree::new(&plan);
        for node in 1..=3 {
            on(&mut replicas, Applied { node, ..put(1, "a") }).unwrap();
        }
        replicas.gone(Who::node(4));
        replicas.phase(Phase::Healed, Duration::ZERO);
        assert_eq!(replicas.missing(), None, "node 4 was not added");
        let members = |index, ids: &[u64]| {
            let seen = ids.iter().map(|id| crate::facts::MemberSeen { id: *id, store: *id, votes: true });
            Fact::Members { node: 1, index, members: seen.collect() }
        };
        replicas.on(&members(2, &[1, 2, 3, 4]), Duration::ZERO).unwrap();
        assert!(replicas.missing().is_some(), "it was");
        replicas.on(&members(3, &[1, 2, 3]), Duration::ZERO).unwrap();
        assert_eq!(replicas.missing(), None, "it was removed");
    }

    #[test]
    fn everybody_must_catch_up() {
        let plan = Plan { cast: [(Role::Node, 3), (Role::Writer, 1)].into(), founders: 3, ..Plan::draw(1) };
        let mut replicas = ReplicasAgree::new(&plan);
        on(&mut replicas, put(1, "a")).unwrap();
        on(&mut replicas, Applied { node: 2, ..put(1, "a") }).unwrap();
        replicas.phase(Phase::Healed, Duration::ZERO);
        assert!(replicas.missing().is_some(), "node 3 knows nothing");
        replicas.fault(&Fault::Wipe(3), true, Duration::ZERO);
        assert_eq!(replicas.missing(), None, "it has lost its store");
        replicas.phase(Phase::Rest, Duration::ZERO);
        on(&mut replicas, Applied { digest: Some(7), ..put(2, "b") }).unwrap();
        assert!(replicas.missing().is_some(), "nobody has seen the state of node 2");
        on(&mut replicas, Applied { node: 2, digest: Some(7), ..put(2, "b") }).unwrap();
        assert_eq!(replicas.missing(), None);
        replicas.gone(Who::node(1));
        assert!(replicas.missing().is_some(), "node 1 has to begin again");
    }
}
