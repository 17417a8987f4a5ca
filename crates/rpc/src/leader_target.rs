//! Where a component of the leader is reached, and under which token; and the sequence of these, as an election brings them.
//! Keeps true: the sequence never goes back to a lower token.

use std::sync::Arc;

use palisade_fence::{ClusterId, LeaderSource, LeaderView, Token};
use palisade_planted::{self as planted, Bug};

use crate::{BadAddress, RpcAddress, Stamp};

/// A component of one leadership.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeaderTarget {
    /// The cluster that granted it.
    pub cluster: ClusterId,
    /// Name of the election.
    pub election: String,
    /// The leadership's token.
    pub token: Token,
    /// Of the component.
    pub address: RpcAddress,
}

impl LeaderTarget {
    /// The component of that name, or the leader's own address if the name is empty, as a view has it. `None`: nobody leads, or
    /// the leader has not proclaimed that address yet.
    pub fn of(view: &LeaderView, election: &str, component: &str) -> Result<Option<LeaderTarget>, BadAddress> {
        let address = match component {
            "" => Some(&view.address).filter(|address| !address.is_empty()),
            name => view.components.get(name),
        };
        let (Some(token), Some(address)) = (view.token, address) else { return Ok(None) };
        let address = address.parse()?;
        Ok(Some(LeaderTarget { cluster: view.cluster, election: election.to_owned(), token, address }))
    }

    /// What calls to it carry: the addressee's token.
    pub fn stamp(&self) -> Stamp {
        Stamp::fixed(self.cluster, self.election.clone(), self.token)
    }
}

/// What a vacancy means to who follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Vacant {
    /// There is no leader.
    Nobody,
    /// The last leader is still the one to turn to, until there is another.
    TheLast,
}

/// The targets of an election, one after the other.
pub(crate) struct Targets {
    source: Arc<dyn LeaderSource>,
    component: String,
    vacant: Vacant,
    seen: u64,
    newest: Option<Token>,
}

impl Targets {
    pub(crate) fn new(source: Arc<dyn LeaderSource>, component: String, vacant: Vacant) -> Targets {
        Targets { source, component, vacant, seen: 0, newest: None }
    }

    /// Resolves when there is another target than `present`. Cancelling it loses nothing that [`Targets::next`] will not find
    /// again, except while the view that it is about is looked at, which takes no await.
    pub(crate) async fn next(&mut self, present: Option<&LeaderTarget>) -> Option<LeaderTarget> {
        loop {
            let view = self.source.changed(self.seen).await;
            self.seen = view.seq.max(1); // zero would ask for any view again
            let next = match view.token {
                None if self.vacant == Vacant::TheLast => continue,
                None => None,
                Some(token) if self.newest > Some(token) && !planted::is(Bug::FollowsBackwards) => continue,
                Some(token) => {
                    self.newest = Some(token);
                    match self.target(&view) {
                        // Proclaimed once, it stays where it is.
                        None if present.is_some_and(|present| present.token == token) => continue,
                        next => next,
                    }
                }
            };
            if next.as_ref() != present {
                return next;
            }
        }
    }

    fn target(&self, view: &LeaderView) -> Option<LeaderTarget> {
        LeaderTarget::of(view, self.source.election(), &self.component).unwrap_or_else(|error| {
            tracing::warn!(%error, name = self.component, "the leader proclaims an address that is none");
            None
        })
    }
}
