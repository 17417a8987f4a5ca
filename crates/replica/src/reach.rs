//! Which peers answer: for the log, and for the store leader that judges a change of the members. A peer that is lost is told once, after a while, and once more when it is back:
//! a heartbeat fails forty times a second, and single failures mean nothing.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::Peer;

/// How long a peer must have been silent before that is worth a line.
const WORTH_A_LINE: Duration = Duration::from_secs(1);

/// What is known about each peer that does not answer.
#[derive(Default)]
pub(crate) struct Reach {
    silent: Mutex<BTreeMap<u64, Silent>>,
    /// When each peer answered last.
    answered: Mutex<BTreeMap<u64, Duration>>,
}

struct Silent {
    since: Duration,
    told: Told,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Told {
    No,
    Yes,
}

/// What to log.
#[derive(PartialEq, Eq, Debug)]
enum News {
    None,
    Lost,
    Back,
}

impl Reach {
    /// Takes the outcome of a call to a peer.
    pub(crate) fn note<E: std::fmt::Display>(&self, peer: &Peer, now: Duration, failure: Option<&E>) {
        if failure.is_none() {
            self.answered.lock().unwrap_or_else(PoisonError::into_inner).insert(peer.node_id, now);
        }
        match self.step(peer.node_id, now, failure.is_some()) {
            News::None => {}
            News::Lost => {
                let why = failure.map(ToString::to_string).unwrap_or_default();
                tracing::warn!(peer = %peer, why, "a node does not answer");
            }
            News::Back => tracing::info!(peer = %peer, "a node answers again"),
        }
    }

    /// Whether a peer has answered since then.
    pub(crate) fn answered_since(&self, node_id: u64, then: Duration) -> bool {
        let answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        answered.get(&node_id).is_some_and(|at| *at >= then)
    }

    fn step(&self, node_id: u64, now: Duration, failed: bool) -> News {
        let mut silent = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        if !failed {
            return match silent.remove(&node_id) {
                Some(Silent { told: Told::Yes, .. }) => News::Back,
                Some(_) | None => News::None,
            };
        }
        let peer = silent.entry(node_id).or_insert(Silent { since: now, told: Told::No });
        if peer.told == Told::Yes || now.saturating_sub(peer.since) < WORTH_A_LINE {
            return News::None;
        }
        peer.told = Told::Yes;
        News::Lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_peer_is_told_once_and_a_flicker_never() {
        let reach = Reach::default();
        let at = Duration::from_millis;
        assert_eq!(reach.step(2, at(0), true), News::None);
        assert_eq!(reach.step(2, at(900), false), News::None, "a flicker");
        assert_eq!(reach.step(2, at(1_000), true), News::None);
        assert_eq!(reach.step(2, at(1_999), true), News::None);
        assert_eq!(reach.step(2, at(2_000), true), News::Lost);
        assert_eq!(reach.step(2, at(9_000), true), News::None);
        assert_eq!(reach.step(3, at(9_000), false), News::None);
        assert_eq!(reach.step(2, at(9_001), false), News::Back);
        assert_eq!(reach.step(2, at(9_002), false), News::None);
    }
}
