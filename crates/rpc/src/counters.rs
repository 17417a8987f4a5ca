//! How each endpoint answered, by election. Keeps true: every message is counted once, by its final answer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::RpcError;

/// The kinds of answers that are counted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum AnswerKind {
    /// It ran.
    Admitted,
    /// Refused: a later leader is known.
    Stale,
    /// Refused: a higher token that could not be confirmed, or that a leader was called with.
    Ahead,
    /// Refused: no leader here, or no such guard.
    NotLeader,
    /// Refused: no token.
    NoToken,
    /// Begun, and dropped when a higher token was accepted. Counted besides `Admitted`.
    Superseded,
    /// Refused for another reason: not started, overloaded, expired, unknown method.
    Refused,
}

impl AnswerKind {
    /// As it is printed and exported.
    pub fn name(self) -> &'static str {
        match self {
            AnswerKind::Admitted => "admitted",
            AnswerKind::Stale => "stale",
            AnswerKind::Ahead => "ahead",
            AnswerKind::NotLeader => "not_leader",
            AnswerKind::NoToken => "no_token",
            AnswerKind::Superseded => "superseded",
            AnswerKind::Refused => "refused",
        }
    }

    pub(crate) fn of(error: &RpcError) -> AnswerKind {
        match error {
            RpcError::Stale { .. } => AnswerKind::Stale,
            RpcError::Ahead { .. } => AnswerKind::Ahead,
            RpcError::NotLeader { .. } => AnswerKind::NotLeader,
            RpcError::NoToken(_) => AnswerKind::NoToken,
            RpcError::Superseded { .. } => AnswerKind::Superseded,
            _ => AnswerKind::Refused,
        }
    }
}

/// One count.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Counted {
    /// The endpoint's id.
    pub endpoint: String,
    /// Name of the election; empty for messages without one, `(other)` for elections the endpoint keeps no fence for.
    pub election: String,
    /// How it was answered.
    pub answer: AnswerKind,
    /// How often, since the service started.
    pub count: u64,
}

/// Endpoint, election, answer.
type Key = (Arc<str>, Arc<str>, AnswerKind);

/// The counts of one service, over all incarnations of its endpoints. Cheap to clone.
#[derive(Clone, Default)]
pub struct Counters(Arc<Mutex<BTreeMap<Key, u64>>>);

impl Counters {
    pub(crate) fn count(&self, endpoint: &Arc<str>, election: &Arc<str>, answer: AnswerKind) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry((endpoint.clone(), election.clone(), answer)).or_insert(0) += 1;
    }

    /// All counts, ordered by endpoint, election, answer.
    pub fn all(&self) -> Vec<Counted> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let row = |((endpoint, election, answer), count): (&Key, &u64)| Counted {
            endpoint: endpoint.to_string(),
            election: election.to_string(),
            answer: *answer,
            count: *count,
        };
        counts.iter().map(row).collect()
    }

    /// Over all elections of one endpoint.
    pub fn of(&self, endpoint: &str, answer: AnswerKind) -> u64 {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().filter(|((id, _, kind), _)| &**id == endpoint && *kind == answer).map(|(_, count)| count).sum()
    }

    /// Over all endpoints and elections.
    pub fn total(&self, answer: AnswerKind) -> u64 {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.iter().filter(|((_, _, kind), _)| *kind == answer).map(|(_, count)| count).sum()
    }
}
