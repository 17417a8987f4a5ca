//! Changes of the members, and of who leads the store, made by the store leader: what [`crate::membership`] decides is written,
//! each step as one entry that is conditional on the membership and the leadership that the decision rests on.
//!
//! Keeps true: one change at a time; nothing is answered as made before it is committed; and a change that must not be made yet
//! because nothing was heard of a node yet is given a moment.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::raft::{ClientWriteResponse, Precondition};
use openraft::{ChangeMembers, ServerState};
use palisade_planted::{self as planted, Bug};

use crate::membership::{Change, Step, View, decide};
use crate::replica::Inner;
use crate::rounds::{Confirmed, hint};
use crate::types::{EntryPayload, LeaderId, LogId, Membership, Node, Types};
use crate::{ChangeError, Leadership, Machine, Member, Refusal};

/// A node that has answered within this time is there, to look at. Several heartbeats, and a pause of a busy machine. A change counts
/// only those that answer while it is asked for.
const ANSWERED: Duration = Duration::from_secs(1);

/// How long a change waits for nodes to answer: several heartbeats, and less than a client waits for its answer.
const MOMENT: Duration = Duration::from_millis(500);

/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// A change takes two entries at most.
const STEPS: usize = 3;

/// Who belongs to the cluster.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Members {
    /// Index of the entry that made it so.
    pub index: u64,
    /// By id.
    pub members: Vec<MemberState>,
}

/// A member, and what the store leader knows of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberState {
    /// The node, and whether it votes.
    pub member: Member,
    /// Log entries that it lacks; `None`: not known, or this node does not lead the store.
    pub behind: Option<u64>,
    /// It answered this node, which leads the store, a moment ago.
    pub answers: bool,
}

/// What a decision rests on.
pub(crate) struct Basis {
    leader_id: LeaderId,
    /// Of the membership.
    log_id: Option<LogId>,
    /// Whether that is committed: what is only in this log may yet be gone with this store leader.
    settled: bool,
}

impl Basis {
    fn preconditions<R: Send + Sync + std::fmt::Debug + 'static>(&self) -> [Precondition<Types<R>>; 2] {
        [
            Precondition::CommittedLeaderId { committed_leader_id: self.leader_id },
            Precondition::LastMembershipLogId { last_membership_log_id: self.log_id },
        ]
    }
}

/// Why a node is not bound to its store.
pub(crate) enum NotBound {
    /// The cluster is at a level that its program does not know.
    LevelUnknown {
        /// The cluster's.
        level: u32,
    },
    /// As for any change.
    Change(ChangeError),
}

impl From<ChangeError> for NotBound {
    fn from(error: ChangeError) -> NotBound {
        NotBound::Change(error)
    }
}

fn busy(why: impl Into<String>) -> ChangeError {
    ChangeError::Busy { why: why.into() }
}

impl<M: Machine> Inner<M> {
    /// Makes a change, if this node leads the store and the change may be made.
    pub(crate) async fn change(&self, change: &Change) -> Result<Members, ChangeError> {
        let _turn = self.changing.try_acquire().map_err(|_| busy("another change of the members is under way"))?;
        let leadership = self.confirm().await?.leadership;
        self.make(change, leadership).await
    }

    /// Binds a node whose program knows levels up to `knows`, unless the cluster is above that. Judged while no level can be raised,
    /// and with all applied that was acknowledged before this leadership: a level that was raised under an earlier one counts.
    pub(crate) async fn bind(&self, bind: &Change, knows: u32) -> Result<Members, NotBound> {
        let _turn = self.changing.try_acquire().map_err(|_| busy("another change of the members is under way"))?;
        let leadership = self.confirm_applied().await?;
        let level = self.credentials.machine.level().at;
        if knows < level {
            return Err(NotBound::LevelUnknown { level });
        }
        Ok(self.make(bind, leadership).await?)
    }

    /// Makes a change under one leadership. The caller has the turn.
    async fn make(&self, change: &Change, leadership: Leadership) -> Result<Members, ChangeError> {
        let (mut view, mut basis, mut step) = self.when_heard(|view| decide(view, change)).await?;
        if basis.leader_id != LeaderId::from(leadership) {
            // What was asked before was asked of another.
            return Err(ChangeError::NotLeader { hint: None });
        }
        for _ in 0..STEPS {
            step = match step {
                Step::Nothing => return Ok(members(&view, &basis)),
                Step::HandOver => return Err(self.hand_over_first(&view).await),
                Step::Describe(nodes) => {
                    basis.log_id = Some(self.describe(nodes.clone(), &basis).await?);
                    view.nodes.extend(nodes);
                    decide(&view, change)?
                }
                Step::Write { voters, nodes } => {
                    if !(matches!(change, Change::Remove { .. }) && planted::is(Bug::RemovedNodeCounts)) {
                        basis.log_id = Some(self.write_members(voters.clone(), nodes.clone(), &basis).await?);
                    }
                    (view.voters, view.nodes) = (voters, nodes);
                    Step::Nothing
                }
            };
        }
        Err(busy("the members changed meanwhile"))
    }

    /// Has a voter lead the store, if this node does.
    pub(crate) async fn transfer(&self, to: u64) -> Result<Members, ChangeError> {
        let _turn = self.changing.try_acquire().map_err(|_| busy("another change of the members is under way"))?;
        self.confirm().await?;
        let may_lead = |view: &View| match view.voters.contains(&to) {
            _ if to == view.own_id => Ok(()),
            true => view.is_fit(to),
            false => view.is_fit(to).and(Err(Refusal::NotAVoter { node_id: to })),
        };
        let (view, basis, ()) = self.when_heard(may_lead).await?;
        if to == view.own_id || self.leads_now(to).await {
            return Ok(members(&view, &basis));
        }
        if !self.hand_over_to(to).await {
            return Err(busy(format!("node {to} did not take the leadership of the store over in time")));
        }
        match self.leads_now(to).await {
            true => Ok(members(&view, &basis)),
            false => Err(busy(format!("the leadership of the store was given up, and node {to} does not have it yet"))),
        }
    }

    /// Who belongs to the cluster, as this node knows it.
    pub(crate) fn members(&self) -> Members {
        match self.view(self.a_moment_ago()) {
            Ok((view, basis)) => members(&view, &basis),
            Err(_) => {
                let metrics = self.raft.metrics();
                let index = metrics.borrow_watched().membership_config.log_id().map_or(0, |id| id.index);
                let status = self.credentials.status.borrow();
                let state = |member: &Member| MemberState { member: member.clone(), behind: None, answers: false };
                Members { index, members: status.members.iter().map(state).collect() }
            }
        }
    }

    fn a_moment_ago(&self) -> Duration {
        self.world.now().saturating_sub(ANSWERED)
    }

    /// Who is best to lead the store next, if this node does.
    pub(crate) fn successor(&self) -> Option<u64> {
        self.view(self.a_moment_ago()).ok().and_then(|(view, _)| view.successor())
    }

    pub(crate) async fn confirm(&self) -> Result<Confirmed, ChangeError> {
        match self.rounds.next().await {
            Ok(confirmed) => Ok(confirmed),
            Err(crate::ConfirmError::NotLeader { hint }) => Err(ChangeError::NotLeader { hint }),
            Err(crate::ConfirmError::NoQuorum | crate::ConfirmError::Stopped) => {
                Err(ChangeError::NotLeader { hint: None })
            }
        }
    }

    /// The same, and the machine has applied all that was acknowledged to anybody before: what is in the state may be asked for.
    pub(crate) async fn confirm_applied(&self) -> Result<Leadership, ChangeError> {
        let confirmed = self.confirm().await?;
        let mut applied = self.applied.clone();
        let reached = applied.wait_for(|applied| applied.is_some_and(|id| id.index >= confirmed.read.index)).await;
        reached.map_err(|_| ChangeError::NotLeader { hint: None })?;
        Ok(confirmed.leadership)
    }

    /// Asks `judge`, again and again for a moment while it refuses for want of an answer of some node: nobody counts who has not
    /// answered since this was asked.
    async fn when_heard<T>(
        &self,
        judge: impl Fn(&View) -> Result<T, Refusal>,
    ) -> Result<(View, Basis, T), ChangeError> {
        let began = self.world.now();
        let give_up_at = began + MOMENT;
        loop {
            let (view, basis) = self.view(began)?;
            if !basis.settled {
                if self.world.now() >= give_up_at {
                    return Err(busy("another change of the members is under way"));
                }
                self.world.sleep(LOOK).await;
                continue;
            }
            match judge(&view) {
                Ok(judged) => return Ok((view, basis, judged)),
                Err(Refusal::Silent { .. } | Refusal::NoMajority { .. } | Refusal::Behind { entries: None, .. })
                    if self.world.now() < give_up_at =>
                {
                    self.world.sleep(LOOK).await;
                }
                Err(refused) => return Err(refused.into()),
            }
        }
    }

    /// How things stand, if this node leads the store. Whoever has answered since `then` is there.
    fn view(&self, then: Duration) -> Result<(View, Basis), ChangeError> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let own_id = metrics.id;
        let vote = &metrics.vote;
        if metrics.state != ServerState::Leader || !vote.committed || vote.leader_id.node_id != own_id {
            let leader = metrics.current_leader;
            let node = leader.and_then(|id| metrics.membership_config.membership().get_node(&id).cloned());
            return Err(ChangeError::NotLeader { hint: hint(leader, node, own_id) });
        }
        let membership = metrics.membership_config.membership();
        let [voters] = membership.get_joint_config().as_slice() else {
            return Err(busy("the members are changing"));
        };
        let answered = |id: &u64| *id == own_id || self.reach.answered_since(*id, then);
        let nodes: BTreeMap<u64, Node> = membership.nodes().map(|(id, node)| (*id, node.clone())).collect();
        let last = metrics.last_log_index.unwrap_or(0);
        let matched = metrics.replication.iter().flatten();
        let lacks = matched.filter_map(|(id, matched)| Some((*id, last.saturating_sub(matched.as_ref()?.index))));
        let view = View {
            own_id,
            voters: voters.clone(),
            live: nodes.keys().copied().filter(answered).collect(),
            behind: lacks.chain([(own_id, 0)]).collect(),
            nodes,
        };
        let log_id = *metrics.membership_config.log_id();
        let settled = *metrics.committed_membership_config.log_id() == log_id;
        Ok((view, Basis { leader_id: vote.leader_id, log_id, settled }))
    }

    async fn describe(&self, nodes: BTreeMap<u64, Node>, basis: &Basis) -> Result<LogId, ChangeError> {
        let change = ChangeMembers::SetNodes(nodes);
        let written = self.raft.change_membership_if(change, true, basis.preconditions());
        self.written(self.seeds.scope(written).await)
    }

    async fn write_members(
        &self,
        voters: BTreeSet<u64>,
        nodes: BTreeMap<u64, Node>,
        basis: &Basis,
    ) -> Result<LogId, ChangeError> {
        let membership = Membership::new(vec![voters], nodes).map_err(|error| busy(error.to_string()))?;
        let written = self.raft.append_membership(membership, EntryPayload::Blank, basis.preconditions());
        self.written(self.seeds.scope(written).await)
    }

    fn written(&self, written: WriteResult<M>) -> Result<LogId, ChangeError> {
        match written {
            Ok(written) => {
                let members = written.membership.as_ref().map(ToString::to_string).unwrap_or_default();
                tracing::info!(
                    node = self.credentials.node_id,
                    index = written.log_id.index,
                    members,
                    "the members changed"
                );
                Ok(written.log_id)
            }
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => Err(ChangeError::NotLeader {
                hint: hint(forward.leader_id, forward.leader_node, self.credentials.node_id),
            }),
            Err(RaftError::APIError(ClientWriteError::PreconditionFailed(_))) => {
                Err(busy("the members changed meanwhile"))
            }
            Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(error))) => Err(match error {
                ChangeMembershipError::InProgress(_) => busy("another change of the members is under way"),
                error => busy(error.to_string()),
            }),
            Err(error) => Err(ChangeError::Unknown { why: error.to_string() }),
        }
    }

    /// This node is to go: another one must lead the store, and be asked.
    async fn hand_over_first(&self, view: &View) -> ChangeError {
        let Some(to) = view.successor() else { return busy("no other voter can lead the store now") };
        tracing::info!(node = view.own_id, to, "this store leader is to be removed and hands over first");
        if !self.hand_over_to(to).await {
            return busy(format!("node {to} did not take the leadership of the store over in time"));
        }
        let mut status = self.credentials.status.clone();
        let other = status.wait_for(|now| now.store_leader.as_ref().is_some_and(|peer| peer.node_id != view.own_id));
        let leader = self.world.timeout(self.timings.election_max * 4, other).await.and_then(Result::ok);
        ChangeError::NotLeader { hint: leader.and_then(|now| now.store_leader.clone()) }
    }

    /// Whether a node leads the store, or does in a moment; at once if somebody else does.
    async fn leads_now(&self, node_id: u64) -> bool {
        let mut status = self.credentials.status.clone();
        let known = status.wait_for(|now| now.store_leader.is_some());
        let limit = self.timings.election_max * 4;
        let leader = self.world.timeout(limit, known).await.and_then(Result::ok);
        leader.is_some_and(|now| now.store_leader.as_ref().is_some_and(|peer| peer.node_id == node_id))
    }
}

type WriteResult<M> = Result<
    ClientWriteResponse<Types<<M as Machine>::Reply>>,
    RaftError<Types<<M as Machine>::Reply>, ClientWriteError<Types<<M as Machine>::Reply>>>,
>;

fn members(view: &View, basis: &Basis) -> Members {
    let state = |(id, node): (&u64, &Node)| MemberState {
        member: Member { peer: node.peer(*id), voter: view.voters.contains(id) },
        behind: view.behind.get(id).copied(),
        answers: view.live.contains(id),
    };
    Members { index: basis.log_id.map_or(0, |id| id.index), members: view.nodes.iter().map(state).collect() }
}
