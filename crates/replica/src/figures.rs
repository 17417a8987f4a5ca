//! What a replica counts, and what openraft knows of its log and its followers: for people, and for nothing that is decided.

use std::fmt::Debug;

use openraft::{RaftMetrics, ServerState};
use palisade_metrics::Histogram;

use crate::types::Types;

/// See [`crate::Replica::metrics`].
#[derive(Debug, Default)]
pub struct ReplicaMetrics {
    /// From an entry's way into Raft until a majority has it on disk, at the store leader.
    pub commit: Histogram,
    /// One quorum round that was confirmed.
    pub rounds: Histogram,
}

/// See [`crate::Replica::figures`]. Indexes are 0 where there is no entry.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RaftFigures {
    /// Raft's term.
    pub term: u64,
    /// Whether this node leads, as far as it knows.
    pub leads: bool,
    /// Who leads, as far as this node knows; 0: nobody.
    pub leader: u64,
    /// Last entry of this node's log.
    pub last_log: u64,
    /// Last entry that this node knows to be on a majority's disks.
    pub committed: u64,
    /// Last entry that the machine has applied.
    pub applied: u64,
    /// Last entry in the latest snapshot.
    pub snapshot: u64,
    /// Last entry that is no longer in the log.
    pub purged: u64,
    /// Nodes that vote.
    pub voters: usize,
    /// Nodes that listen.
    pub learners: usize,
    /// At the store leader: each other node, and how many entries of this log it has not acknowledged. By id.
    pub followers: Vec<(u64, u64)>,
}

impl RaftFigures {
    pub(crate) fn of<R: Send + Sync + Debug + 'static>(metrics: &RaftMetrics<Types<R>>) -> RaftFigures {
        let last_log = metrics.last_log_index.unwrap_or(0);
        let voters = metrics.membership_config.voter_ids().count();
        let others = metrics.replication.iter().flatten().filter(|(id, _)| **id != metrics.id);
        let behind = |matched: u64| last_log.saturating_sub(matched);
        RaftFigures {
            term: metrics.current_term,
            leads: metrics.state == ServerState::Leader && metrics.running_state.is_ok(),
            leader: metrics.current_leader.filter(|_| metrics.running_state.is_ok()).unwrap_or(0),
            last_log,
            committed: metrics.cluster_committed.map_or(0, |id| id.index),
            applied: metrics.last_applied.map_or(0, |id| id.index),
            snapshot: metrics.snapshot.map_or(0, |id| id.index),
            purged: metrics.purged.map_or(0, |id| id.index),
            voters,
            learners: metrics.membership_config.nodes().count().saturating_sub(voters),
            followers: others.map(|(id, matched)| (*id, behind(matched.map_or(0, |id| id.index)))).collect(),
        }
    }
}
