//! One quorum round: asks every voter whether its vote is still this store leader's, and is done when a majority has said yes.
//!
//! Raft's read-index (section 6.4 of Ongaro's dissertation) with a question of our own instead of a heartbeat. A follower
//! answers a heartbeat when its disk has synced what it took before, so under load reads and keep-alives would wait for disks,
//! and one that stands still for a moment would cost holders their leadership. Whether a node has voted for somebody else does
//! not depend on its disk: openraft keeps the vote in memory no older than any that it has granted.
//!
//! Why yes from a majority is enough: whoever replaced this store leader before the round began was granted a higher vote by a
//! majority before that, one of which is asked now. Votes never go back, not even over a crash, because a grant is synced
//! before it is answered. So nobody replaced it, and whatever was acknowledged before the round is committed in its own log.
//! An older copy of a store, whose vote did go back, is known by its log where this node remembers what it had acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::FuturesUnordered;
use openraft::ServerState;
use palisade_planted::{self as planted, Bug};
use palisade_wire::replica::v1 as wire;
use palisade_world::World;
use tonic::Code;

use crate::codec;
use crate::credentials::{Credentials, check_responder};
use crate::links::LinkTable;
use crate::replica::RaftOf;
use crate::rounds::{Ask, Confirmed, ask_openraft};
use crate::seeds::Seeds;
use crate::types::{LeaderId, LogId, Vote};
use crate::{ConfirmError, Leadership, Machine, Peer};

/// Before a voter that did not say yes is asked again in the same round.
const AGAIN: Duration = Duration::from_millis(10);

/// What a voter says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Says {
    Yes,
    /// Its vote is another's, it does not answer, or it may not be believed.
    NotYes,
    /// It runs a program that does not know the question.
    WasNotAsked,
}

/// What one call brought: whom it asked, in which round it was sent, what it says.
type Said = (u64, u64, Says);

/// Who has said yes in one round. Pure.
struct Tally<'a> {
    round: u64,
    /// Two sets while the members change: a majority of each must say yes.
    configs: &'a [BTreeSet<u64>],
    yes: BTreeSet<u64>,
}

/// What follows from an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Next {
    /// It counts.
    Counted,
    /// It does not count: the voter is asked again, after a pause.
    Ask(Duration),
    /// The round cannot be held in this way.
    Unknown,
}

impl Tally<'_> {
    /// The node that asks says yes to itself.
    fn new(round: u64, configs: &[BTreeSet<u64>], own_id: u64) -> Tally<'_> {
        Tally { round, configs, yes: BTreeSet::from([own_id]) }
    }

    fn has_majority(&self) -> bool {
        self.configs.iter().all(|voters| voters.intersection(&self.yes).count() > voters.len() / 2)
    }

    fn heard(&mut self, (node_id, round, says): Said) -> Next {
        let is_old = round != self.round && !planted::is(Bug::OldYesCounts);
        match says {
            Says::WasNotAsked => Next::Unknown,
            _ if is_old => Next::Ask(Duration::ZERO),
            Says::Yes => {
                self.yes.insert(node_id);
                Next::Counted
            }
            Says::NotYes => Next::Ask(AGAIN),
        }
    }
}

/// Asks the voters. A voter has one call at a time, however slow it is: what it says to the question of an earlier round does
/// not count for a later one, for which it is asked again.
pub(crate) struct Quorum<M: Machine> {
    raft: RaftOf<M>,
    seeds: Seeds,
    credentials: Arc<Credentials<M>>,
    links: LinkTable,
    /// How long a round, and a call, may take.
    limit: Duration,
    world: World,
    /// The leadership that openraft has held a round for.
    begun: Option<LeaderId>,
    /// The number of the last round.
    round: u64,
    calls: FuturesUnordered<BoxFuture<'static, Said>>,
    /// Who has a call under way.
    asked: BTreeSet<u64>,
}

/// This node as a store leader, when a round begins.
struct Standing {
    vote: Vote,
    read: LogId,
    configs: Vec<BTreeSet<u64>>,
    voters: BTreeMap<u64, Peer>,
}

impl<M: Machine> Quorum<M> {
    pub(crate) fn new(
        raft: RaftOf<M>,
        seeds: Seeds,
        credentials: Arc<Credentials<M>>,
        links: LinkTable,
        limit: Duration,
        world: World,
    ) -> Quorum<M> {
        let (calls, asked) = (FuturesUnordered::new(), BTreeSet::new());
        Quorum { raft, seeds, credentials, links, limit, world, begun: None, round: 0, calls, asked }
    }

    /// `None`: it does not lead, or has not committed an entry of its own yet.
    async fn standing(&mut self) -> Option<Standing> {
        let own_id = self.credentials.node_id;
        let standing = self.raft.with_raft_state(move |state| {
            let (vote, read) = (*state.vote_ref(), *state.local_committed()?);
            let leads = state.server_state == ServerState::Leader && vote.committed && vote.leader_id.node_id == own_id;
            if !leads || read.leader_id != vote.leader_id {
                return None;
            }
            let members = state.membership_state.effective().membership();
            let configs = members.get_joint_config().clone();
            let voters = configs.iter().flatten().filter_map(|id| Some((*id, members.get_node(id)?.peer(*id))));
            Some(Standing { vote, read, voters: voters.collect(), configs })
        });
        self.seeds.scope(standing).await.ok().flatten()
    }

    /// The first round of a leadership: openraft takes no entry before a quorum has answered a heartbeat, so that the first
    /// writer would wait for the next one. Also where ours cannot be held.
    async fn by_heartbeats(&mut self) -> Result<Confirmed, ConfirmError> {
        let confirmed = ask_openraft(&self.raft, &self.seeds, self.credentials.node_id).await?;
        self.begun = Some(confirmed.leadership.into());
        Ok(confirmed)
    }

    /// Asks one voter, after a pause.
    fn call(&mut self, peer: &Peer, vote: Vote, pause: Duration) {
        let (peer, round, limit, world) = (peer.clone(), self.round, self.limit, self.world.clone());
        let (credentials, links) = (Arc::clone(&self.credentials), self.links.clone());
        self.asked.insert(peer.node_id);
        let call = async move {
            if pause > Duration::ZERO {
                world.sleep(pause).await;
            }
            // It was added and has not joined, or its address is none: nothing from it counts.
            let links = if peer.store_id == 0 { None } else { links.to(&peer).ok() };
            let Some(mut client) = links.map(|links| links.control) else { return (peer.node_id, round, Says::NotYes) };
            let envelope = Some(credentials.envelope(&peer));
            // What it acknowledges while it is asked, its answer need not know.
            let acknowledged = credentials.acknowledged.of(peer.store_id);
            let request = wire::ConfirmRequest { envelope, vote: Some(codec::vote(&vote)) };
            let says = match world.timeout(limit, client.confirm(request)).await {
                Some(Ok(reply)) => says(&peer, acknowledged, reply.into_inner()),
                Some(Err(status)) if status.code() == Code::Unimplemented => Says::WasNotAsked,
                Some(Err(_)) | None => Says::NotYes,
            };
            (peer.node_id, round, says)
        };
        self.calls.push(call.boxed());
    }

    /// Returns when a majority has said yes. `None`: a voter does not know the question.
    async fn hear(&mut self, standing: &Standing) -> Option<()> {
        let mut tally = Tally::new(self.round, &standing.configs, self.credentials.node_id);
        for peer in standing.voters.values() {
            if peer.node_id != self.credentials.node_id && !self.asked.contains(&peer.node_id) {
                self.call(peer, standing.vote, Duration::ZERO);
            }
        }
        while !tally.has_majority() {
            let said = self.calls.next().await?;
            self.asked.remove(&said.0);
            let Some(peer) = standing.voters.get(&said.0) else { continue };
            match tally.heard(said) {
                Next::Counted => {}
                Next::Ask(pause) => self.call(peer, standing.vote, pause),
                Next::Unknown => return None,
            }
        }
        Some(())
    }
}

impl<M: Machine> Ask for Quorum<M> {
    async fn ask(&mut self) -> Result<Confirmed, ConfirmError> {
        self.round += 1;
        let standing = self.standing().await.filter(|standing| self.begun == Some(standing.vote.leader_id));
        let Some(standing) = standing else { return self.by_heartbeats().await };
        let (world, limit) = (self.world.clone(), self.limit);
        let heard = world.timeout(limit, self.hear(&standing)).await;
        match heard {
            Some(Some(())) => {
                Ok(Confirmed { leadership: Leadership::from(standing.vote.leader_id), read: standing.read })
            }
            None => Err(ConfirmError::NoQuorum),
            Some(None) => self.by_heartbeats().await,
        }
    }
}

/// What an answer is worth: nothing from another store than the members name, nor from an older copy of it, whose vote may be of
/// before it granted a later one. `acknowledged`: what this store had acknowledged before it was asked.
fn says(peer: &Peer, acknowledged: Option<u64>, reply: wire::ConfirmReply) -> Says {
    let wire::ConfirmReply { responder, is_yours, last_log_id } = reply;
    if !is_yours || check_responder(peer, responder).is_err() {
        return Says::NotYes;
    }
    match (last_log_id.map(|last| last.index), acknowledged) {
        (has, acknowledged) if has >= acknowledged => Says::Yes,
        // Its program may not say it yet. A round of heartbeats finds out.
        (None, _) => Says::WasNotAsked,
        (Some(_), _) => Says::NotYes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_copy_of_a_store_does_not_count() {
        let peer = Peer { node_id: 2, address: "n2:1".to_owned(), store_id: 20 };
        let reply = |store, last: Option<u64>| wire::ConfirmReply {
            responder: Some(wire::Responder { node: 2, store }),
            is_yours: true,
            last_log_id: last.map(|index| wire::LogId { index, ..wire::LogId::default() }),
        };
        assert_eq!(says(&peer, None, reply(20, None)), Says::Yes, "it has acknowledged nothing");
        assert_eq!(says(&peer, Some(5), reply(20, Some(5))), Says::Yes);
        assert_eq!(says(&peer, Some(5), reply(20, Some(4))), Says::NotYes);
        assert_eq!(says(&peer, Some(0), reply(20, None)), Says::WasNotAsked, "a program that does not say it");
        assert_eq!(says(&peer, Some(5), reply(21, Some(9))), Says::NotYes, "another store");
        assert_eq!(says(&peer, Some(5), wire::ConfirmReply { is_yours: false, ..reply(20, Some(9)) }), Says::NotYes);
    }

    #[test]
    fn a_majority_of_each_set_of_voters_must_say_yes() {
        let configs = [BTreeSet::from([1, 2, 3]), BTreeSet::from([2, 3, 4, 5])];
        let mut tally = Tally::new(7, &configs, 1);
        assert_eq!((tally.heard((2, 7, Says::Yes)), tally.has_majority()), (Next::Counted, false));
        assert_eq!(tally.heard((3, 7, Says::NotYes)), Next::Ask(AGAIN), "it may say yes a moment later");
        assert_eq!(
            (tally.heard((4, 7, Says::Yes)), tally.has_majority()),
            (Next::Counted, false),
            "two of four are none"
        );
        assert_eq!((tally.heard((5, 7, Says::Yes)), tally.has_majority()), (Next::Counted, true));
        assert!(Tally::new(1, &[BTreeSet::from([1])], 1).has_majority());
        assert!(
            !Tally::new(1, &[BTreeSet::from([2])], 1).has_majority(),
            "one that does not vote says nothing to itself"
        );
        assert_eq!(tally.heard((3, 7, Says::WasNotAsked)), Next::Unknown);
    }

    fn what_was_said_to_an_earlier_question_does_not_count() {
        let configs = [BTreeSet::from([1, 2, 3])];
        let mut tally = Tally::new(7, &configs, 1);
        assert_eq!(tally.heard((2, 6, Says::Yes)), Next::Ask(Duration::ZERO), "it was asked before this round began");
        assert!(!tally.has_majority());
        assert_eq!((tally.heard((2, 7, Says::Yes)), tally.has_majority()), (Next::Counted, true));
    }

    #[test]
    fn only_what_is_said_after_a_round_began_counts() {
        what_was_said_to_an_earlier_question_does_not_count();
    }

    #[cfg(feature = "planted")]
    #[test]
    fn an_old_yes_that_counts_is_caught() {
        let why = palisade_planted::caught(Bug::OldYesCounts, what_was_said_to_an_earlier_question_does_not_count);
        assert!(why.is_some_and(|why| why.contains("before this round began")));
    }
}
