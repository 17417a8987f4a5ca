//! Who may speak with whom: the envelope of every call, made and checked. Pure but for what it looks at.
//!
//! Keeps true: a store that the membership does not name under its node's id is refused in both directions, so that
//! neither its votes nor its acknowledgements count; and nodes of different clusters refuse each other, with words.

use std::sync::Arc;

use palisade_planted::{self as planted, Bug};
use palisade_wire::replica::v1::{Envelope, Responder};
use tokio::sync::watch;

use crate::acknowledged::Acknowledged;
use crate::{Cluster, Gate, Machine, Peer, ReplicaStatus};

/// This node, as others must know it.
pub(crate) struct Credentials<M> {
    pub(crate) node_id: u64,
    pub(crate) store_id: u64,
    pub(crate) process: u64,
    pub(crate) acknowledged: Acknowledged,
    pub(crate) machine: Arc<M>,
    /// Whose membership is believed: this node's own.
    pub(crate) status: watch::Receiver<ReplicaStatus>,
}

/// Why a call was refused, in words for the log of the other side.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("node {node} has not joined yet: it does not know whether its store belongs to the cluster")]
    NotJoined { node: u64 },
    #[error("the call says not who it is from and for whom")]
    NoEnvelope,
    #[error("this is node {own}, not node {asked}")]
    WrongNode { own: u64, asked: u64 },
    #[error(
        "node {node} has the store {own:016x}, and {asked:016x} was asked: if the folder was lost, remove the node and add \
         it under a new id"
    )]
    WrongStore { node: u64, own: u64, asked: u64 },
    #[error("node {from} speaks for the store {said:016x}, and the membership names {named:016x}: its store was lost")]
    ForeignStore { from: u64, said: u64, named: u64 },
    #[error("node {node} has not joined yet: nothing from it counts before its store is known")]
    NotBound { node: u64 },
    #[error("node {from} was removed from the cluster")]
    Removed { from: u64 },
    #[error("node {from} belongs to cluster {theirs:016x}, and this one to cluster {own:016x}")]
    OtherCluster { from: u64, theirs: u64, own: u64 },
    #[error("node {from} runs a program that knows levels up to {knows}, and the cluster is at level {at}")]
    LevelUnknown { from: u64, knows: u32, at: u32 },
    #[error("the state that was sent is of level {at}, and node {node} runs a program that knows levels up to {knows}")]
    StateUnknown { node: u64, knows: u32, at: u32 },
    #[error("node {from} has generation {theirs} of the cluster, and this one generation {own}: one was restored")]
    OtherGeneration { from: u64, theirs: u32, own: u32 },
}

impl From<Refused> for tonic::Status {
    fn from(refused: Refused) -> tonic::Status {
        match refused {
            Refused::NotJoined { .. } => tonic::Status::unavailable(refused.to_string()),
            refused => tonic::Status::failed_precondition(refused.to_string()),
        }
    }
}

impl<M: Machine> Credentials<M> {
    /// For a call to `to`.
    pub(crate) fn envelope(&self, to: &Peer) -> Envelope {
        let Cluster { id, generation } = self.machine.cluster();
        Envelope {
            cluster_id: id,
            generation,
            from_node: self.node_id,
            from_store: self.store_id,
            to_node: to.node_id,
            to_store: to.store_id,
            level: self.machine.level().known,
        }
    }

    /// For an answer.
    pub(crate) fn responder(&self) -> Responder {
        Responder { node: self.node_id, store: self.store_id }
    }

    /// Whether a call that came in is for this node and from one that may speak.
    pub(crate) fn check(&self, gate: &Gate, envelope: Option<&Envelope>) -> Result<(), Refused> {
        if !gate.is_open() {
            return Err(Refused::NotJoined { node: self.node_id });
        }
        let envelope = envelope.ok_or(Refused::NoEnvelope)?;
        if envelope.to_node != self.node_id {
            return Err(Refused::WrongNode { own: self.node_id, asked: envelope.to_node });
        }
        if !same_store(envelope.to_store, self.store_id) {
            return Err(Refused::WrongStore { node: self.node_id, own: self.store_id, asked: envelope.to_store });
        }
        same_cluster(self.machine.cluster(), envelope)?;
        let (at, knows) = (self.machine.level().at, envelope.level.max(1));
        if knows < at {
            return Err(Refused::LevelUnknown { from: envelope.from_node, knows, at });
        }
        let from = envelope.from_node;
        match self.names(from) {
            Some(0) if !planted::is(Bug::UnboundLearnerCounts) => Err(Refused::NotBound { node: from }),
            Some(named) if !same_store(named, envelope.from_store) => {
                Err(Refused::ForeignStore { from, said: envelope.from_store, named })
            }
            Some(_) => Ok(()),
            None if self.has_removed(from) => Err(Refused::Removed { from }),
            // It may have been added by a change that has not come here yet.
            None => Ok(()),
        }
    }

    /// Whether this program can read a state of that level. Asked before the first byte of it replaces anything: whoever cannot read
    /// it would be left with neither that state nor its own.
    pub(crate) fn check_level(&self, at: u32) -> Result<(), Refused> {
        let knows = self.machine.level().known;
        if at > knows { Err(Refused::StateUnknown { node: self.node_id, knows, at }) } else { Ok(()) }
    }

    /// The store id that this node's membership names under an id.
    pub(crate) fn names(&self, node_id: u64) -> Option<u64> {
        self.status.borrow().member(node_id).map(|peer| peer.store_id)
    }

    /// Whether a committed change has removed the node with that id.
    pub(crate) fn has_removed(&self, node_id: u64) -> bool {
        self.status.borrow().ids.has_removed(node_id)
    }
}

/// Whether an answer is from the node and the store that were asked.
pub(crate) fn check_responder(asked: &Peer, responder: Option<Responder>) -> Result<(), Refused> {
    let Responder { node, store } = responder.ok_or(Refused::NoEnvelope)?;
    if node != asked.node_id {
        return Err(Refused::WrongNode { own: node, asked: asked.node_id });
    }
    if !same_store(store, asked.store_id) {
        return Err(Refused::WrongStore { node, own: store, asked: asked.store_id });
    }
    Ok(())
}

fn same_store(one: u64, other: u64) -> bool {
    one == other
        || planted::is(Bug::WipedNodeVotes)
        || (planted::is(Bug::UnboundLearnerCounts) && (one == 0 || other == 0))
}

/// A node that knows no cluster yet fits every cluster.
fn same_cluster(own: Cluster, envelope: &Envelope) -> Result<(), Refused> {
    let from = envelope.from_node;
    if own.id == 0 || envelope.cluster_id == 0 {
        return Ok(());
    }
    if own.id != envelope.cluster_id {
        return Err(Refused::OtherCluster { from, theirs: envelope.cluster_id, own: own.id });
    }
    if own.generation != envelope.generation {
        return Err(Refused::OtherGeneration { from, theirs: envelope.generation, own: own.generation });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io;

    use bytes::Bytes;

    use super::*;
    use crate::{Frozen, MachineError, Member, MemberIds};

    struct Of(Cluster);

    struct Nothing;

    impl Frozen for Nothing {
        fn write(&self, _: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
            Ok(())
        }
    }

    impl Machine for Of {
        type Reply = ();
        fn apply(&self, _: u64, _: Bytes) {}
        type Frozen = Nothing;
        fn freeze(&self) -> Nothing {
            Nothing
        }
        fn restore(&self, _: &mut dyn Iterator<Item = io::Result<Bytes>>) -> Result<(), MachineError> {
            Ok(())
        }
        fn cluster(&self) -> Cluster {
            self.0
        }
    }

    const CLUSTER: Cluster = Cluster { id: 7, generation: 1 };

    fn peer(node_id: u64) -> Peer {
        Peer { node_id, address: format!("n{node_id}:1"), store_id: node_id * 10 }
    }

    fn node(node_id: u64, cluster: Cluster) -> Credentials<Of> {
        let members = (1..=3).map(|id| Member { peer: peer(id), voter: true }).collect();
        let ids = MemberIds { highest: 5, present: (1..=3).collect() };
        let (_, status) = watch::channel(ReplicaStatus { members, ids, ..ReplicaStatus::unknown() });
        let (store_id, acknowledged) = (node_id * 10, Acknowledged::default());
        Credentials { node_id, store_id, process: 0, acknowledged, machine: Arc::new(Of(cluster)), status }
    }

    fn open() -> Gate {
        let gate = Gate::closed();
        gate.open();
        gate
    }

    #[test]
    fn members_of_one_cluster_understand_each_other() {
        let (one, two) = (node(1, CLUSTER), node(2, CLUSTER));
        assert_eq!(two.check(&open(), Some(&one.envelope(&peer(2)))), Ok(()));
        assert_eq!(check_responder(&peer(2), Some(two.responder())), Ok(()));
    }

    #[test]
    fn a_cluster_that_is_not_known_yet_fits_every_cluster() {
        let (one, two) = (node(1, Cluster::default()), node(2, CLUSTER));
        assert_eq!(two.check(&open(), Some(&one.envelope(&peer(2)))), Ok(()));
        assert_eq!(one.check(&open(), Some(&two.envelope(&peer(1)))), Ok(()));
    }

    #[test]
    fn a_closed_gate_refuses_everybody() {
        let envelope = node(1, CLUSTER).envelope(&peer(2));
        let refused = node(2, CLUSTER).check(&Gate::closed(), Some(&envelope));
        assert_eq!(refused, Err(Refused::NotJoined { node: 2 }));
    }

    #[test]
    fn each_mismatch_is_refused_with_words() {
        let good = node(1, CLUSTER).envelope(&peer(2));
        let refusal = |envelope: Option<Envelope>| {
            node(2, CLUSTER).check(&open(), envelope.as_ref()).expect_err("it must be refused").to_string()
        };
        assert!(refusal(None).contains("not who it is from"));
        assert_eq!(refusal(Some(Envelope { to_node: 3, ..good })), "this is node 2, not node 3");
        assert!(refusal(Some(Envelope { to_store: 99, ..good })).contains("remove the node and add it under a new id"));
        assert!(refusal(Some(Envelope { from_store: 99, ..good })).contains("its store was lost"));
        assert!(refusal(Some(Envelope { cluster_id: 8, ..good })).contains("cluster 0000000000000008"));
        assert!(refusal(Some(Envelope { generation: 2, ..good })).contains("generation 2"));
        let wiped = Responder { node: 2, store: 99 };
        assert!(check_responder(&peer(2), Some(wiped)).is_err());
        assert!(check_responder(&peer(2), None).is_err());
        assert!(check_responder(&peer(3), Some(wiped)).is_err());
    }

    #[test]
    fn who_was_removed_is_refused_and_who_is_not_known_yet_is_heard() {
        let two = node(2, CLUSTER);
        let from = |from_node| Envelope { from_node, ..node(1, CLUSTER).envelope(&peer(2)) };
        assert_eq!(two.check(&open(), Some(&from(5))), Err(Refused::Removed { from: 5 }));
        assert_eq!(two.check(&open(), Some(&from(6))), Ok(()), "it may have been added since");
    }

    fn a_node_that_has_not_joined_is_refused() {
        let members = vec![Member { peer: Peer { store_id: 0, ..peer(4) }, voter: false }];
        let (_, status) = watch::channel(ReplicaStatus { members, ..ReplicaStatus::unknown() });
        let one = Credentials { status, ..node(1, CLUSTER) };
        let envelope = Envelope { from_node: 4, from_store: 40, ..node(2, CLUSTER).envelope(&peer(1)) };
        let refused = one.check(&open(), Some(&envelope)).expect_err("it must be refused");
        assert_eq!(refused, Refused::NotBound { node: 4 });
        let responder = Responder { node: 4, store: 40 };
        check_responder(&Peer { store_id: 0, ..peer(4) }, Some(responder)).expect_err("it must be refused");
    }

    #[test]
    fn nothing_from_a_node_without_a_store_counts() {
        a_node_that_has_not_joined_is_refused();
    }

    #[cfg(feature = "planted")]
    #[test]
    fn the_planted_bug_that_counts_an_unbound_learner_is_caught() {
        let why = palisade_planted::caught(Bug::UnboundLearnerCounts, a_node_that_has_not_joined_is_refused);
        assert!(why.is_some_and(|why| why.contains("it must be refused")));
    }

    #[cfg(feature = "planted")]
    #[test]
    fn the_planted_bug_that_lets_a_wiped_node_vote_is_caught() {
        let why = palisade_planted::caught(Bug::WipedNodeVotes, each_mismatch_is_refused_with_words);
        assert!(why.is_some_and(|why| why.contains("it must be refused")));
    }
}
