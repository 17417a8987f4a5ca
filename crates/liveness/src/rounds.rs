//! Quorum rounds and the keep-alives that wait for them. It knows no session.
//!
//! Keeps true: a keep-alive is handed out only for a round that was begun after it arrived.

use std::collections::VecDeque;
use std::time::Duration;

use palisade_coord_core::SessionId;

use crate::{Round, StreamId, Timings};

/// Rounds under way at once. One is the rule; more only while earlier ones are slow, so that one lost message does not cost
/// the streams.
const MAX_IN_FLIGHT: usize = 4;

/// A keep-alive that arrived.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Arrived {
    pub(crate) stream: StreamId,
    pub(crate) call: u64,
    pub(crate) at: Duration,
    /// Sessions that were attached to the stream when it arrived.
    pub(crate) here: Vec<SessionId>,
    /// The others that it names.
    pub(crate) elsewhere: Vec<SessionId>,
}

#[derive(Debug)]
pub(crate) struct Rounds {
    /// Under way, in the order in which they began.
    in_flight: VecDeque<(Round, Duration)>,
    /// In the order of arrival, each with the last round that had begun when it arrived: it needs a later one.
    waiting: VecDeque<(Round, Arrived)>,
    /// The last round begun. Rises for ever.
    last: Round,
    last_begun: Duration,
    /// When a majority confirmed this node last.
    confirmed: Duration,
}

impl Rounds {
    /// `last` is the last round that any leadership of this node has begun. Having applied an entry of its own, the node
    /// was confirmed just `now`.
    pub(crate) fn new(last: Round, now: Duration) -> Rounds {
        Rounds { in_flight: VecDeque::new(), waiting: VecDeque::new(), last, last_begun: now, confirmed: now }
    }

    pub(crate) fn last(&self) -> Round {
        self.last
    }

    pub(crate) fn arrived(&mut self, keep_alive: Arrived) {
        self.waiting.push_back((self.last, keep_alive));
    }

    /// A round to begin now, if one is wanted and none is under way that may still answer soon.
    pub(crate) fn begin_if_wanted(&mut self, timings: &Timings, now: Duration) -> Option<Round> {
        let idle = now.saturating_sub(self.last_begun) >= timings.idle_round();
        if self.waiting.is_empty() && !idle {
            return None;
        }
        let may = match self.in_flight.back() {
            None => true,
            Some((_, begun)) => {
                self.in_flight.len() < MAX_IN_FLIGHT && now.saturating_sub(*begun) >= timings.slow_round()
            }
        };
        may.then(|| self.begin(now))
    }

    fn begin(&mut self, now: Duration) -> Round {
        self.last = Round(self.last.0 + 1);
        self.last_begun = now;
        self.in_flight.push_back((self.last, now));
        self.last
    }

    /// The keep-alives that this round confirms, in the order of arrival; `None`: not a round of this leadership, or one
    /// that a later one has overtaken.
    pub(crate) fn confirmed(&mut self, round: Round, now: Duration) -> Option<Vec<Arrived>> {
        if !self.in_flight.iter().any(|(number, _)| *number == round) {
            return None;
        }
        self.in_flight.retain(|(number, _)| *number > round);
        self.confirmed = now;
        let covered = self.waiting.partition_point(|(after, _)| *after < round);
        Some(self.waiting.drain(..covered).map(|(_, arrived)| arrived).collect())
    }

    /// The keep-alives go on waiting; the next tick begins another round.
    pub(crate) fn failed(&mut self, round: Round) {
        self.in_flight.retain(|(number, _)| *number != round);
    }

    /// Whether no majority has confirmed this node for the election timeout.
    pub(crate) fn unconfirmed_too_long(&self, timings: &Timings, now: Duration) -> bool {
        now.saturating_sub(self.confirmed) > timings.election_timeout
    }

    /// The node stood still: what did not happen meanwhile says nothing.
    pub(crate) fn stood_still(&mut self, late: Duration) {
        self.confirmed += late;
    }

    /// Whoever waits is not answered: the streams are closed.
    pub(crate) fn forget_waiting(&mut self) {
        self.waiting.clear();
    }

    pub(crate) fn check_invariants(&self) {
        assert!(self.in_flight.len() <= MAX_IN_FLIGHT, "rounds under way are bounded");
        assert!(self.in_flight.iter().is_sorted(), "rounds are under way in the order of their numbers");
        assert!(self.waiting.iter().all(|(after, _)| *after <= self.last), "nothing waits for a round after the next");
        assert!(self.waiting.iter().map(|(after, _)| after).is_sorted(), "keep-alives wait in the order of arrival");
    }
}
