//! Turns openraft's metrics into [`ReplicaStatus`]. It decides nothing, and wakes nobody when nothing of it changed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use openraft::async_runtime::WatchReceiver;
use openraft::errors::Fatal;
use openraft::type_config::alias::WatchReceiverOf;
use openraft::{RaftMetrics, ServerState};
use palisade_planted::{self as planted, Bug};
use tokio::sync::watch;

use crate::membership::highest_id;
use crate::types::{Node, StoredMembership, Types};
use crate::{Leadership, Member, MemberIds, ReplicaStatus, Role};

/// Says that an end of replication is wanted, so that it is not taken for a failure.
pub(crate) type Stopping = Arc<AtomicBool>;

/// Follows the metrics until replication ends.
pub(crate) async fn watch_metrics<R: Send + Sync + Debug + 'static>(
    mut metrics: WatchReceiverOf<Types<R>, RaftMetrics<Types<R>>>,
    status: watch::Sender<ReplicaStatus>,
    stopping: Stopping,
) {
    loop {
        let now = {
            let metrics = metrics.borrow_and_update();
            view(&metrics, stopping.load(Ordering::Acquire))
        };
        publish(&status, now);
        if metrics.changed().await.is_err() {
            break;
        }
    }
    // openraft's core task is gone.
    let last = status.borrow().clone();
    let failed = || Some("replication ended".to_owned());
    let fatal = if stopping.load(Ordering::Acquire) { None } else { last.fatal.clone().or_else(failed) };
    publish(&status, ReplicaStatus { role: Role::Waiting, leadership: None, store_leader: None, fatal, ..last });
}

fn publish(status: &watch::Sender<ReplicaStatus>, now: ReplicaStatus) {
    status.send_if_modified(|known| {
        let news = *known != now;
        *known = now;
        news
    });
}

fn view<R: Send + Sync + Debug + 'static>(metrics: &RaftMetrics<Types<R>>, stopping: bool) -> ReplicaStatus {
    let members = members(&metrics.membership_config);
    let fatal = match &metrics.running_state {
        Err(Fatal::Stopped) if stopping => None,
        Err(fatal) => Some(fatal.to_string()),
        Ok(()) => None,
    };
    let runs = metrics.running_state.is_ok();
    let leader = metrics.current_leader.filter(|_| runs);
    ReplicaStatus {
        role: if members.is_empty() || !runs { Role::Waiting } else { role(metrics.state) },
        leadership: leadership(metrics).filter(|_| runs),
        store_leader: leader
            .and_then(|id| members.iter().find(|member| member.peer.node_id == id))
            .map(|m| m.peer.clone()),
        term: metrics.current_term,
        applied: metrics.last_applied.map_or(0, |id| id.index),
        committed: metrics.cluster_committed.map_or(0, |id| id.index),
        members,
        ids: ids(&metrics.committed_membership_config),
        fatal,
    }
}

fn role(state: ServerState) -> Role {
    match state {
        ServerState::Leader => Role::Leader,
        ServerState::Follower => Role::Follower,
        ServerState::Candidate => Role::Candidate,
        ServerState::Learner => Role::Learner,
        ServerState::Shutdown => Role::Waiting,
    }
}

/// This node leads, and the last entry that it applied is of its own reign: so it has applied its own first entry, and
/// with it everything that was acknowledged before.
fn leadership<R: Send + Sync + Debug + 'static>(metrics: &RaftMetrics<Types<R>>) -> Option<Leadership> {
    let vote = &metrics.vote;
    let leads = metrics.state == ServerState::Leader && vote.committed && vote.leader_id.node_id == metrics.id;
    let own = metrics.last_applied.is_some_and(|applied| applied.leader_id == vote.leader_id);
    let own = own || planted::is(Bug::AttachWithoutAppliedFirstEntry);
    (leads && own).then(|| Leadership::from(vote.leader_id))
}

fn ids(membership: &StoredMembership) -> MemberIds {
    let membership = membership.membership();
    MemberIds { highest: highest_id(membership), present: membership.nodes().map(|(id, _)| *id).collect() }
}

pub(crate) fn members(membership: &StoredMembership) -> Vec<Member> {
    let voters: BTreeSet<u64> = membership.voter_ids().collect();
    let nodes: BTreeMap<&u64, &Node> = membership.nodes().collect();
    let member = |(id, node): (&u64, &Node)| Member { peer: node.peer(*id), voter: voters.contains(id) };
    nodes.into_iter().map(member).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{LeaderId, LogId, Vote};

    #[test]
    fn it_leads_once_it_has_applied_an_entry_of_its_own_reign() {
        let own = LeaderId { term: 2, node_id: 1 };
        let mut metrics = RaftMetrics::<Types<()>>::new_initial(1);
        (metrics.state, metrics.vote) = (ServerState::Leader, Vote { leader_id: own, committed: true });
        metrics.last_applied = Some(LogId { leader_id: LeaderId { term: 1, node_id: 2 }, index: 7 });
        assert_eq!(leadership(&metrics), None, "what was acknowledged before may be missing");
        metrics.last_applied = Some(LogId { leader_id: own, index: 8 });
        assert_eq!(leadership(&metrics), Some(Leadership::from(own)));
    }

    #[cfg(feature = "planted")]
    #[test]
    fn the_planted_bug_that_serves_before_the_first_entry_is_applied_is_caught() {
        let check = it_leads_once_it_has_applied_an_entry_of_its_own_reign;
        let why = palisade_planted::caught(Bug::AttachWithoutAppliedFirstEntry, check);
        assert!(why.is_some_and(|why| why.contains("what was acknowledged before may be missing")));
    }
}
