//! A dead store leader is noticed by its broken connection, too, and not only by its silence.
//!
//! When the connection on which a store leader's heartbeats came is closed or reset, a follower asks the other voters whether
//! they have lost theirs. Only when a majority has, itself included, does one of them (the one whose log goes furthest) stand
//! for election at once, as if the store leader had handed over to it. So one cut link deposes nobody, and what is missed here
//! is left to the timers. A voter heeds such a vote request only if its own connection is gone, too.
//!
//! Sound only because no read is served on a lease: a store leader that lives and was cut off from everybody may not know yet
//! that it was succeeded.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::future::join_all;
use openraft::async_runtime::WatchReceiver;
use openraft::raft::TransferLeaderRequest;
use palisade_planted::{self as planted, Bug};
use palisade_wire::replica::v1 as wire;
use palisade_world::{Lifeline, World};
use tokio::sync::{Notify, watch};

use crate::codec;
use crate::credentials::check_responder;
use crate::replica::Inner;
use crate::types::{LogId, Vote};
use crate::{Machine, Peer};

/// How often a follower says hello to the other voters. The answer tells it nothing; the connection is open then, and a question
/// after the store leader, or for a vote, need not wait for one to be made.
const HELLO_EVERY: Duration = Duration::from_secs(5);

/// How long it waits for the answer.
const HELLO_LIMIT: Duration = Duration::from_secs(1);

/// What this node knows of its connection from the store leader. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Succession {
    heard: watch::Sender<Option<Heard>>,
    /// The store leader whose connection is gone, and since when.
    lost: Arc<Mutex<Option<(Vote, Duration)>>>,
    /// Who has asked after which store leader.
    askers: Arc<Mutex<Option<Askers>>>,
    /// Another one has asked: with it there may be a majority.
    asked: Arc<Notify>,
    /// The store leader whom this node stands to succeed although nobody handed over to it.
    unasked: Arc<Mutex<Option<Vote>>>,
    /// How long a loss counts: one that is older was left to the timers.
    fresh: Duration,
    world: World,
}

/// The nodes that have asked after one store leader.
type Askers = (Vote, BTreeSet<u64>);

/// The last heartbeat that was accepted.
#[derive(Clone)]
struct Heard {
    vote: Vote,
    line: Lifeline,
}

impl Succession {
    /// A loss counts for `fresh`.
    pub(crate) fn new(fresh: Duration, world: World) -> Succession {
        Succession {
            heard: watch::Sender::new(None),
            lost: Arc::default(),
            askers: Arc::default(),
            asked: Arc::default(),
            unasked: Arc::default(),
            fresh,
            world,
        }
    }

    /// A heartbeat of the store leader of `vote` was accepted on a connection, or a question of a quorum round answered with yes.
    pub(crate) fn heard(&self, vote: Vote, line: &Lifeline) {
        self.heard.send_if_modified(|heard| {
            let known = heard.as_ref().is_some_and(|it| it.vote == vote && it.line.is_of_same(line));
            if !known {
                *heard = Some(Heard { vote, line: line.clone() });
            }
            !known
        });
    }

    /// Whether this node's connection from the store leader of `vote` went a moment ago. Not if it never had one.
    fn is_lost(&self, vote: &Vote) -> bool {
        let since = lock(&self.lost).filter(|(lost, _)| lost == vote).map(|(_, since)| since);
        since.is_some_and(|since| self.world.now() <= since + self.fresh)
    }

    fn set_lost(&self, lost: Option<Vote>) {
        *lock(&self.lost) = lost.map(|vote| (vote, self.world.now()));
    }

    /// Another node asks after the store leader of `vote`. Only its first question is news: two nodes that asked each other
    /// without end would help nobody.
    pub(crate) fn was_asked(&self, by: u64, vote: Vote) {
        let mut askers = lock(&self.askers);
        match askers.as_mut() {
            Some((of, known)) if *of == vote => {
                if !known.insert(by) {
                    return;
                }
            }
            _ => *askers = Some((vote, [by].into())),
        }
        drop(askers);
        self.asked.notify_one();
    }

    /// The store leader of `vote` hands over to this node.
    pub(crate) fn handed_over(&self, vote: &Vote) {
        let mut unasked = lock(&self.unasked);
        if *unasked == Some(*vote) {
            *unasked = None;
        }
    }

    /// The store leader whom a candidacy for `vote` is to succeed, if that is this node's own doing.
    pub(crate) fn stands_unasked(&self, vote: &Vote) -> Option<Vote> {
        lock(&self.unasked).filter(|lost| vote.leader_id.term == lost.leader_id.term + 1)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind it is replaced whole, never half.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How good a successor a node would be: the furthest log first, then the highest id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Standing {
    pub(crate) last_log_id: Option<LogId>,
    pub(crate) node_id: u64,
}

/// What to do about a store leader whose connection is gone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Decision {
    /// Stand for election now.
    Stand,
    /// Another one will, or the timers.
    Leave,
}

/// `lost` are the other voters that have lost it, too.
fn decide(own: Standing, voters: &BTreeSet<u64>, lost: &[Standing]) -> Decision {
    let agree = 1 + lost.iter().filter(|other| voters.contains(&other.node_id)).count();
    let majority = agree * 2 > voters.len() || planted::is(Bug::StandUnasked);
    let best = lost.iter().all(|other| *other < own);
    if voters.contains(&own.node_id) && majority && best { Decision::Stand } else { Decision::Leave }
}

/// Watches the connection from the store leader until the replica is dropped.
pub(crate) async fn watch<M: Machine>(succession: Succession, replica: Weak<Inner<M>>) {
    let mut heard = succession.heard.subscribe();
    loop {
        let now = heard.borrow_and_update().clone();
        succession.set_lost(None);
        let Some(leader) = now else {
            if heard.changed().await.is_err() {
                return;
            }
            continue;
        };
        tokio::select! {
            biased;
            changed = heard.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
            () = leader.line.closed() => succession.set_lost(Some(leader.vote)),
            () = keep_in_touch(&replica, &leader.vote) => return,
        }
        // Asks once now and once more whenever somebody else has noticed, until another store leader is heard.
        loop {
            let Some(replica) = replica.upgrade() else { return };
            replica.succeed(&leader.vote).await;
            drop(replica);
            tokio::select! {
                biased;
                changed = heard.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                () = succession.asked.notified() => {}
            }
        }
    }
}

/// Keeps the connections to the other voters open, until the replica is dropped.
async fn keep_in_touch<M: Machine>(replica: &Weak<Inner<M>>, vote: &Vote) {
    loop {
        let Some(replica) = replica.upgrade() else { return };
        let world = replica.world.clone();
        replica.greet(vote).await;
        drop(replica);
        world.sleep(HELLO_EVERY).await;
    }
}

impl<M: Machine> Inner<M> {
    /// What this node answers to another one that has lost the store leader of `vote`.
    pub(crate) async fn leader_lost(&self, vote: Vote) -> Option<(bool, Option<LogId>)> {
        let (own, last_log_id) = self.vote_and_log().await?;
        Some((own == vote && self.succession.is_lost(&vote), last_log_id))
    }

    /// Whether this node lets the store leader of `vote` be succeeded although it did not hand over.
    pub(crate) async fn heeds_loss(&self, vote: Vote) -> bool {
        self.leader_lost(vote).await.is_some_and(|(lost, _)| lost) || planted::is(Bug::StandUnasked)
    }

    /// Its vote, no older than any that it has granted, and its last entry.
    pub(crate) async fn vote_and_log(&self) -> Option<(Vote, Option<LogId>)> {
        let read = self.raft.with_raft_state(|state| (*state.vote_ref(), state.log_ids.last().copied()));
        self.seeds.scope(read).await.ok()
    }

    /// The connection from the store leader of `vote` is gone: asks the others, and stands for election if it falls to this
    /// node to do so.
    async fn succeed(&self, vote: &Vote) {
        let Some((own_vote, last_log_id)) = self.vote_and_log().await else { return };
        if own_vote != *vote || !self.succession.is_lost(vote) {
            return;
        }
        let own = Standing { last_log_id, node_id: self.credentials.node_id };
        let voters: BTreeSet<u64> = {
            let metrics = self.raft.metrics();
            let membership = metrics.borrow_watched().membership_config.clone();
            // Two sets of voters must both agree while the membership changes: that is left to the timers.
            if membership.membership().get_joint_config().len() != 1 {
                return;
            }
            membership.voter_ids().collect()
        };
        let others = self.others(vote, |node_id| voters.contains(&node_id));
        let lost: Vec<Standing> =
            join_all(others.iter().map(|peer| self.ask(peer, vote))).await.into_iter().flatten().collect();
        let decision = decide(own, &voters, &lost);
        tracing::info!(
            node = own.node_id,
            store_leader = vote.leader_id.node_id,
            term = vote.leader_id.term,
            lost_by_others = lost.len(),
            ?decision,
            "the connection from the store leader is gone"
        );
        if decision == Decision::Stand {
            *lock(&self.succession.unasked) = Some(*vote);
            let transfer = TransferLeaderRequest::new(*vote, own.node_id, None);
            // Refused if the vote has changed meanwhile: then somebody else stands already.
            let _ = self.seeds.scope(self.raft.handle_transfer_leader(transfer)).await;
        }
    }

    /// The other members that are wanted, without the store leader of `vote`: it does not answer, or is not lost.
    fn others(&self, vote: &Vote, wanted: impl Fn(u64) -> bool) -> Vec<Peer> {
        let status = self.credentials.status.borrow();
        let peers = status.members.iter().map(|member| &member.peer);
        let not = [self.credentials.node_id, vote.leader_id.node_id];
        peers.filter(|peer| !not.contains(&peer.node_id) && wanted(peer.node_id)).cloned().collect()
    }

    /// Says hello to the other members that have joined.
    async fn greet(&self, vote: &Vote) {
        let (node_id, store_id) = (self.credentials.node_id, self.credentials.store_id);
        let hello = async |peer: Peer| {
            let Ok(links) = self.links.to(&peer) else { return };
            let mut client = links.control;
            // Whatever it says, or does not.
            let _ = self.world.timeout(HELLO_LIMIT, client.hello(wire::HelloRequest { node_id, store_id })).await;
        };
        let joined = self.others(vote, |_| true).into_iter().filter(|peer| peer.store_id != 0);
        join_all(joined.map(hello)).await;
    }

    /// `None`: it has not lost the store leader, or does not answer.
    async fn ask(&self, peer: &Peer, vote: &Vote) -> Option<Standing> {
        let mut client = self.links.to(peer).ok()?.control;
        let request =
            wire::LeaderLostRequest { envelope: Some(self.credentials.envelope(peer)), vote: Some(codec::vote(vote)) };
        let reply = self.world.timeout(self.timings.heartbeat, client.leader_lost(request)).await?.ok()?.into_inner();
        check_responder(peer, reply.responder).ok()?;
        let last_log_id = codec::log_id_option("answer about the store leader", reply.last_log_id).ok()?;
        reply.lost.then_some(Standing { last_log_id, node_id: peer.node_id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::LeaderId;

    fn node(node_id: u64, index: u64) -> Standing {
        Standing { last_log_id: Some(LogId::new(LeaderId { term: 1, node_id: 1 }, index)), node_id }
    }

    fn voters(count: u64) -> BTreeSet<u64> {
        (1..=count).collect()
    }

    #[test]
    fn a_majority_must_have_lost_the_store_leader() {
        assert_eq!(decide(node(3, 7), &voters(3), &[]), Decision::Leave, "one cut link");
        assert_eq!(decide(node(3, 7), &voters(3), &[node(2, 7)]), Decision::Stand);
        assert_eq!(decide(node(5, 7), &voters(5), &[node(2, 7)]), Decision::Leave);
        assert_eq!(decide(node(5, 7), &voters(5), &[node(2, 7), node(3, 6)]), Decision::Stand);
    }

    #[test]
    fn only_the_best_of_them_stands() {
        assert_eq!(decide(node(2, 7), &voters(3), &[node(3, 7)]), Decision::Leave, "the higher id of two equals");
        assert_eq!(decide(node(2, 8), &voters(3), &[node(3, 7)]), Decision::Stand, "the longer log");
        assert_eq!(decide(node(3, 7), &voters(3), &[node(2, 8)]), Decision::Leave);
    }

    #[test]
    fn who_does_not_vote_counts_for_nothing() {
        assert_eq!(decide(node(3, 7), &voters(3), &[node(4, 1)]), Decision::Leave);
        assert_eq!(decide(node(4, 7), &voters(3), &[node(2, 7), node(3, 7)]), Decision::Leave);
    }

    #[cfg(feature = "planted")]
    #[test]
    fn the_planted_bug_that_stands_unasked_is_caught() {
        let why = palisade_planted::caught(Bug::StandUnasked, a_majority_must_have_lost_the_store_leader);
        assert!(why.is_some_and(|why| why.contains("one cut link")));
    }
}
