//! Whether a change of the members may be made, and what has to be written for it. Pure: it judges what the store leader sees.
//! [`crate::changes`] carries out what is decided here.
//!
//! Keeps true: one node more or less votes after each change, so that old and new majorities overlap; a node votes only when it is
//! bound to a store, answers and is at most a moment behind; whoever is removed leaves a majority that answers; and an id that the
//! cluster ever had is never used again.

use std::collections::{BTreeMap, BTreeSet};

use palisade_planted::{self as planted, Bug};

use crate::Refusal;
use crate::types::{Membership, Node};

/// Nodes of a cluster, learners too. More voters make every write slower and none safer; twice as many as may vote can be
/// replaced at once.
pub const MAX_MEMBERS: usize = 18;

/// Nodes that vote.
pub const MAX_VOTERS: usize = 9;

/// A node that is to vote, or to lead the store, is at most so many log entries behind: what it takes up in less than a second.
pub const CAUGHT_UP: u64 = 1_000;

/// What is wanted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// A learner more, without a store.
    Add {
        /// Above every id that the cluster ever had.
        node_id: u64,
        /// `HOST:PORT`.
        address: String,
    },
    /// A learner says which store it has.
    Bind {
        /// Who.
        node_id: u64,
        /// Its store.
        store_id: u64,
        /// Where it is reached.
        address: String,
    },
    /// A learner is to vote.
    Promote {
        /// Who.
        node_id: u64,
    },
    /// A node is to go, for good.
    Remove {
        /// Who.
        node_id: u64,
    },
}

/// How things stand, as the store leader sees them.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) own_id: u64,
    pub(crate) voters: BTreeSet<u64>,
    pub(crate) nodes: BTreeMap<u64, Node>,
    /// Who has answered a moment ago; itself, too.
    pub(crate) live: BTreeSet<u64>,
    /// How many entries each node lacks; absent: not known.
    pub(crate) behind: BTreeMap<u64, u64>,
}

/// What to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// It is so already.
    Nothing,
    /// Replace what is known of these nodes; nobody more or less votes.
    Describe(BTreeMap<u64, Node>),
    /// Write this membership: at most one node more or less votes.
    Write { voters: BTreeSet<u64>, nodes: BTreeMap<u64, Node> },
    /// This node is to go and leads the store: another one must lead first.
    HandOver,
}

/// The highest id that a cluster ever had, as its membership says.
pub(crate) fn highest_id(membership: &Membership) -> u64 {
    highest(membership.nodes())
}

fn highest<'a>(nodes: impl Iterator<Item = (&'a u64, &'a Node)>) -> u64 {
    nodes.map(|(id, node)| node.highest_id.max(*id)).max().unwrap_or(0)
}

/// Decides.
pub(crate) fn decide(view: &View, change: &Change) -> Result<Step, Refusal> {
    match change {
        Change::Add { node_id, address } => view.add(*node_id, address),
        Change::Bind { node_id, store_id, address } => view.bind(*node_id, *store_id, address),
        Change::Promote { node_id } => view.promote(*node_id),
        Change::Remove { node_id } => view.remove(*node_id),
    }
}

impl View {
    fn highest(&self) -> u64 {
        highest(self.nodes.iter())
    }

    fn node(&self, node_id: u64) -> Result<&Node, Refusal> {
        self.nodes.get(&node_id).ok_or_else(|| Refusal::NotAMember {
            node_id,
            by: self.own_id,
            highest: self.highest(),
        })
    }

    fn add(&self, node_id: u64, address: &str) -> Result<Step, Refusal> {
        match self.nodes.get(&node_id) {
            Some(known) if known.address == address => return Ok(Step::Nothing),
            Some(known) => return Err(Refusal::OtherAddress { node_id, address: known.address.clone() }),
            None => {}
        }
        if let Some((by, _)) = self.nodes.iter().find(|(_, node)| node.address == address) {
            return Err(Refusal::AddressInUse { address: address.to_owned(), by: *by });
        }
        let highest = self.highest();
        if node_id <= highest && !planted::is(Bug::NodeIdUsedAgain) {
            return Err(Refusal::IdUsedBefore { node_id, highest });
        }
        if self.nodes.len() >= MAX_MEMBERS {
            return Err(Refusal::TooMany { what: "nodes", limit: MAX_MEMBERS });
        }
        let mut nodes = self.nodes.clone();
        nodes.insert(node_id, Node { address: address.to_owned(), store_id: 0, highest_id: 0 });
        Ok(Step::Write { voters: self.voters.clone(), nodes })
    }

    fn bind(&self, node_id: u64, store_id: u64, address: &str) -> Result<Step, Refusal> {
        let node = self.node(node_id)?;
        if node.store_id == store_id {
            return Ok(Step::Nothing);
        }
        if node.store_id != 0 {
            return Err(Refusal::OtherStore { node_id, by: self.own_id, store_id: node.store_id });
        }
        if node.address != address {
            return Err(Refusal::OtherAddress { node_id, address: node.address.clone() });
        }
        if let Some((by, _)) = self.nodes.iter().find(|(_, node)| node.store_id == store_id) {
            return Err(Refusal::StoreInUse { node_id, by: *by, store_id });
        }
        Ok(Step::Describe([(node_id, Node { store_id, ..node.clone() })].into()))
    }

    fn promote(&self, node_id: u64) -> Result<Step, Refusal> {
        let node = self.node(node_id)?;
        if self.voters.contains(&node_id) {
            return Ok(Step::Nothing);
        }
        if node.store_id == 0 && !planted::is(Bug::UnboundLearnerCounts) {
            return Err(Refusal::NotJoined { node_id, address: node.address.clone() });
        }
        self.is_fit(node_id)?;
        if self.voters.len() >= MAX_VOTERS {
            return Err(Refusal::TooMany { what: "voters", limit: MAX_VOTERS });
        }
        let mut voters = self.voters.clone();
        voters.insert(node_id);
        self.majority_answers(&voters)?;
        Ok(Step::Write { voters, nodes: self.nodes.clone() })
    }

    fn remove(&self, node_id: u64) -> Result<Step, Refusal> {
        if !self.nodes.contains_key(&node_id) {
            // Somebody removed it, or this is the second time of asking.
            let was = node_id != 0 && node_id <= self.highest();
            return if was { Ok(Step::Nothing) } else { self.node(node_id).map(|_| Step::Nothing) };
        }
        let (mut voters, mut nodes) = (self.voters.clone(), self.nodes.clone());
        nodes.remove(&node_id);
        if voters.remove(&node_id) {
            if voters.is_empty() {
                return Err(Refusal::LastVoter { node_id });
            }
            self.majority_answers(&voters)?;
            if node_id == self.own_id {
                return Ok(Step::HandOver);
            }
        }
        // What is left must still know that this id was used.
        let highest = self.highest();
        if self::highest(nodes.iter()) < highest
            && let Some((keeper, node)) = nodes.iter().find(|(id, _)| voters.contains(id))
        {
            return Ok(Step::Describe([(*keeper, Node { highest_id: highest, ..node.clone() })].into()));
        }
        Ok(Step::Write { voters, nodes })
    }

    /// Whether a node may vote or lead the store.
    pub(crate) fn is_fit(&self, node_id: u64) -> Result<(), Refusal> {
        let node = self.node(node_id)?;
        if !self.live.contains(&node_id) {
            return Err(Refusal::Silent { node_id, address: node.address.clone() });
        }
        match self.behind.get(&node_id) {
            Some(behind) if *behind <= CAUGHT_UP => Ok(()),
            behind => Err(Refusal::Behind { node_id, entries: behind.copied() }),
        }
    }

    /// Whether those of these voters that answer are a majority of them.
    fn majority_answers(&self, voters: &BTreeSet<u64>) -> Result<(), Refusal> {
        let (answer, silent): (BTreeSet<u64>, BTreeSet<u64>) = voters.iter().partition(|id| self.live.contains(id));
        if answer.len() * 2 > voters.len() {
            return Ok(());
        }
        Err(Refusal::NoMajority { of: voters.len(), answer: answer.len(), silent: silent.into_iter().collect() })
    }

    /// Who is best to lead the store next: a voter that answers, the least behind, and of equals the highest id.
    pub(crate) fn successor(&self) -> Option<u64> {
        let others = self.voters.iter().filter(|id| **id != self.own_id && self.live.contains(id));
        let known = others.filter_map(|id| Some((self.behind.get(id)?, id)));
        known.max_by_key(|(behind, id)| (std::cmp::Reverse(**behind), **id)).map(|(_, id)| *id)
    }
}

#[cfg(test)]
mod tests;
