//! How each endpoint answered, by election. Keeps true: every message is counted once, by its final answer.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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
    const ALL: [AnswerKind; KINDS] = [
        AnswerKind::Admitted,
        AnswerKind::Stale,
        AnswerKind::Ahead,
        AnswerKind::NotLeader,
        AnswerKind::NoToken,
        AnswerKind::Superseded,
        AnswerKind::Refused,
    ];

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

/// Kinds of answers.
const KINDS: usize = 7;

/// The counts of one endpoint and election, by kind; shared by whoever counts, so that a message costs one addition.
#[derive(Default)]
pub(crate) struct Tally([AtomicU64; KINDS]);

impl Tally {
    pub(crate) fn count(&self, answer: AnswerKind) {
        self.0[answer as usize].fetch_add(1, Ordering::Relaxed);
    }

    fn of(&self, answer: AnswerKind) -> u64 {
        self.0[answer as usize].load(Ordering::Relaxed)
    }
}

/// By endpoint and election.
type Tallies = BTreeMap<(Arc<str>, Arc<str>), Arc<Tally>>;

/// The counts of one service, over all incarnations of its endpoints. Cheap to clone.
#[derive(Clone, Default)]
pub struct Counters(Arc<Mutex<Tallies>>);

impl Counters {
    pub(crate) fn count(&self, endpoint: &Arc<str>, election: &Arc<str>, answer: AnswerKind) {
        self.tally(endpoint, election).count(answer);
    }

    /// Where the answers of one endpoint and election are counted.
    pub(crate) fn tally(&self, endpoint: &Arc<str>, election: &Arc<str>) -> Arc<Tally> {
        self.tallies().entry((endpoint.clone(), election.clone())).or_default().clone()
    }

    /// All counts, ordered by endpoint, election, answer.
    pub fn all(&self) -> Vec<Counted> {
        let tallies = self.tallies();
        let rows = tallies.iter().flat_map(|((endpoint, election), tally)| {
            let row = |answer| Counted {
                endpoint: endpoint.to_string(),
                election: election.to_string(),
                answer,
                count: tally.of(answer),
            };
            AnswerKind::ALL.map(row)
        });
        rows.filter(|row| row.count > 0).collect()
    }

    /// Over all elections of one endpoint.
    pub fn of(&self, endpoint: &str, answer: AnswerKind) -> u64 {
        self.tallies().iter().filter(|((id, _), _)| &**id == endpoint).map(|(_, tally)| tally.of(answer)).sum()
    }

    /// Over all endpoints and elections.
    pub fn total(&self, answer: AnswerKind) -> u64 {
        self.tallies().values().map(|tally| tally.of(answer)).sum()
    }

    fn tallies(&self) -> MutexGuard<'_, Tallies> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
