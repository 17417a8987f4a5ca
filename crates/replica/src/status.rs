//! What a replica knows about itself and who leads. A view: it may be behind, and nothing may be decided on it alone.

use std::collections::BTreeSet;
use std::fmt;

use crate::{Member, Peer};

/// One reign of one store leader: no other node leads in it, and no other leader has the same one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Leadership {
    /// Raft's term. Several nodes may lead in one term, one after the other.
    pub term: u64,
    /// Who leads.
    pub node: u64,
}

impl fmt::Display for Leadership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "term {} of node {}", self.term, self.node)
    }
}

/// A node's part in the cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// It leads, or did a moment ago.
    Leader,
    /// It follows and votes.
    Follower,
    /// It asks for votes.
    Candidate,
    /// It listens and does not vote.
    Learner,
    /// It belongs to no cluster yet.
    Waiting,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Leader => "leader",
            Role::Follower => "follower",
            Role::Candidate => "candidate",
            Role::Learner => "learner",
            Role::Waiting => "waiting",
        })
    }
}

/// See [`crate::Replica::status`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ReplicaStatus {
    /// This node's part.
    pub role: Role,
    /// Set while this node leads **and** has applied its own first entry: only then its state has all that was
    /// acknowledged before. It may be out of date; [`crate::Replica::confirm_leadership`] is sure.
    pub leadership: Option<Leadership>,
    /// Who leads, as far as this node knows; itself, too.
    pub store_leader: Option<Peer>,
    /// Raft's term.
    pub term: u64,
    /// Index of the last entry that the machine has applied.
    pub applied: u64,
    /// Index of the last entry that this node knows to be on a majority's disks.
    pub committed: u64,
    /// The nodes of the cluster by id; empty before there is one.
    pub members: Vec<Member>,
    /// Which ids are and were used, as far as that is committed.
    pub ids: MemberIds,
    /// Why replication has stopped for good, if it has: the disk failed or an entry could not be applied. Not set by a
    /// shutdown.
    pub fatal: Option<String>,
}

impl ReplicaStatus {
    /// A node that knows nothing yet.
    pub(crate) fn unknown() -> ReplicaStatus {
        ReplicaStatus {
            role: Role::Waiting,
            leadership: None,
            store_leader: None,
            term: 0,
            applied: 0,
            committed: 0,
            members: Vec::new(),
            ids: MemberIds::default(),
            fatal: None,
        }
    }

    /// The node of the cluster with that id.
    pub(crate) fn member(&self, node_id: u64) -> Option<&Peer> {
        self.members.iter().map(|member| &member.peer).find(|peer| peer.node_id == node_id)
    }
}

/// Ids of nodes, by a committed membership. An id is used once, and they rise: so one that is absent and not above the highest was
/// removed, or will never be used.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MemberIds {
    /// The highest id that the cluster ever had; 0: not known.
    pub highest: u64,
    /// Those that are members.
    pub present: BTreeSet<u64>,
}

impl MemberIds {
    /// Whether the node with that id is gone for good.
    pub fn has_removed(&self, node_id: u64) -> bool {
        node_id <= self.highest && !self.present.contains(&node_id)
    }
}
