//! The table of fencing, for all three kinds of endpoint. Asked at arrival and again on leaving the mailbox; changes nothing.

use std::sync::{Arc, Mutex, PoisonError};

use palisade_fence::{LeaderFence, LeaderVerdict, LeaderView};
use palisade_planted::{self as planted, Bug};
use tokio::sync::{Notify, watch};

use crate::RpcError;
use crate::guards::{Guards, Held, Judged};
use crate::inbound::Claim;
use crate::leader_seat::LeaderSeat;

/// How an endpoint is fenced, for its life.
pub(crate) enum Fencing {
    /// Not at all.
    Open,
    /// As a leader's: one token, fixed.
    Leader(Leader),
    /// As a worker's: guards that rise.
    Worker(Guards),
}

/// What a leader's endpoint keeps.
pub(crate) struct Leader {
    pub(crate) seat: LeaderSeat,
    fence: Mutex<LeaderFence>,
    /// Set once, when a later leadership is known.
    pub(crate) replaced: watch::Sender<Option<LeaderView>>,
    /// Somebody called with a higher token: the election is to be read.
    pub(crate) suspected: Notify,
}

/// The table's answer.
pub(crate) enum Verdict {
    /// Run it, under this guard if there is one.
    Admit(Option<Held>),
    /// Confirm the token with the election of this guard first.
    Confirm(usize),
    /// Do not run it.
    Refuse(RpcError),
}

impl Fencing {
    pub(crate) fn leader(seat: LeaderSeat) -> Fencing {
        Fencing::Leader(Leader {
            fence: Mutex::new(LeaderFence::new(seat.token)),
            seat,
            replaced: watch::Sender::new(None),
            suspected: Notify::new(),
        })
    }

    pub(crate) fn check(&self, claim: &Claim, node: &str) -> Verdict {
        match self {
            // A sender that believes in a fence must not be served by one that has none.
            Fencing::Open if claim.token.is_some() || !claim.election.is_empty() => {
                Verdict::Refuse(RpcError::NotLeader { current: None, leader: None })
            }
            Fencing::Open => Verdict::Admit(None),
            Fencing::Leader(leader) => match leader.check(claim, node) {
                Ok(()) => Verdict::Admit(None),
                Err(error) => Verdict::Refuse(error),
            },
            Fencing::Worker(guards) => match guards.judge(claim) {
                Judged::Admit(held) => Verdict::Admit(Some(held)),
                Judged::Confirm(guard) => Verdict::Confirm(guard),
                Judged::Refuse(error) => Verdict::Refuse(error),
            },
        }
    }

    /// The elections that this endpoint keeps a fence for; others are not counted by name, so that forged names cannot fill the
    /// memory.
    pub(crate) fn elections(&self) -> Vec<Arc<str>> {
        match self {
            Fencing::Open => Vec::new(),
            Fencing::Leader(leader) => vec![Arc::from(leader.seat.election.as_str())],
            Fencing::Worker(guards) => guards.elections(),
        }
    }

    /// Closes a leader's fence for good. From then on everything fenced from outside is answered `NotLeader`.
    pub(crate) fn close(&self) {
        if let Fencing::Leader(leader) = self {
            leader.close();
        }
    }

    pub(crate) fn guards(&self) -> Option<&Guards> {
        match self {
            Fencing::Worker(guards) => Some(guards),
            Fencing::Open | Fencing::Leader(_) => None,
        }
    }
}

impl Leader {
    pub(crate) fn close(&self) {
        self.fence.lock().unwrap_or_else(PoisonError::into_inner).close();
    }

    /// Notes a later leadership: closes the fence and tells the endpoint. Anything else is not news.
    pub(crate) fn consider(&self, view: &LeaderView) {
        if view.cluster != self.seat.cluster || view.token.is_none_or(|token| token <= self.seat.token) {
            return;
        }
        self.close();
        self.replaced.send_if_modified(|known| {
            let news = known.is_none();
            known.get_or_insert_with(|| view.clone());
            news
        });
    }

    fn check(&self, claim: &Claim, node: &str) -> Result<(), RpcError> {
        let token = claim.token.ok_or(RpcError::NoToken("a token"))?;
        if claim.election.is_empty() {
            return Err(RpcError::NoToken("an election"));
        }
        if *claim.election != *self.seat.election || claim.cluster.is_some_and(|cluster| cluster != self.seat.cluster) {
            return Err(RpcError::NotLeader { current: None, leader: None });
        }
        let fence = *self.fence.lock().unwrap_or_else(PoisonError::into_inner);
        match fence.check(token) {
            LeaderVerdict::Admit => Ok(()),
            // The bug takes any token but its own for a newer one, and newer ones for its own.
            _ if planted::is(Bug::CompareWithNotEqual) && token < self.seat.token => Ok(()),
            LeaderVerdict::Stale { current } => {
                let me = (!node.is_empty()).then(|| node.to_owned());
                Err(RpcError::Stale { current: Some(current), leader: me })
            }
            LeaderVerdict::Ahead { current } => {
                self.suspected.notify_one();
                Err(RpcError::Ahead { current: Some(current), leader: self.known().1 })
            }
            LeaderVerdict::NotLeader => {
                let (current, leader) = self.known();
                Err(RpcError::NotLeader { current, leader })
            }
        }
    }

    /// The present leader, as far as the stream knows.
    fn known(&self) -> (Option<palisade_fence::Token>, Option<String>) {
        known_leader(self.seat.source.as_deref())
    }
}

/// Token and address of the present leader, as far as a source's stream knows.
pub(crate) fn known_leader(
    source: Option<&dyn palisade_fence::LeaderSource>,
) -> (Option<palisade_fence::Token>, Option<String>) {
    match source.and_then(|source| source.latest()) {
        Some(view) => (view.token, Some(view.address).filter(|address| !address.is_empty())),
        None => (None, None),
    }
}

/// An endpoint's fencing, shared between its task and whoever brings messages.
pub(crate) type SharedFencing = Arc<Fencing>;
