//! All remembered answers, by age: so that they are bounded together, and the oldest go first, whosever they are. Forgetting is
//! always safe: who asks again learns that the outcome is unknown.

use std::collections::BTreeMap;

use crate::keys::op::KeyReply;
use crate::limits::{ANSWER_SHARE_BYTES, MAX_ANSWER_BYTES};
use crate::memory::Answer;
use crate::outcome::{Refusal, Reply};
use crate::{Seq, Serial, SessionId, State};

/// Where the answers of all sessions are.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Answers {
    /// Each answer by the command that was answered, which answers once: those in the memories of the sessions, and no others.
    pub(crate) ages: BTreeMap<Seq, (SessionId, Serial)>,
    /// Exactly what they count for. At most [`MAX_ANSWER_BYTES`].
    pub(crate) bytes: u64,
}

impl Answers {
    pub(crate) fn add(&mut self, id: SessionId, serial: Serial, answer: &Answer) {
        let twice = self.ages.insert(answer.seq, (id, serial));
        assert!(twice.is_none(), "command {} was answered twice", answer.seq);
        self.bytes += weight(answer);
    }

    pub(crate) fn remove<'a>(&mut self, forgotten: impl IntoIterator<Item = &'a Answer>) {
        for answer in forgotten {
            let known = self.ages.remove(&answer.seq);
            assert!(known.is_some(), "the answer of command {} had no age", answer.seq);
            self.bytes -= weight(answer);
        }
    }
}

/// Remembers an answer under a serial that is new, and makes room for it.
pub(crate) fn keep(state: &mut State, id: SessionId, serial: Serial, answer: Answer) {
    let Some(session) = state.sessions.get_mut(&id) else { return };
    state.answers.add(id, serial, &answer);
    let forgotten = session.memory.remember(serial, answer);
    state.answers.remove(forgotten.values());
    while state.answers.bytes > MAX_ANSWER_BYTES {
        let (_, &(id, serial)) = state.answers.ages.first_key_value().expect("what is over its bound is not empty");
        let session = state.sessions.get_mut(&id).expect("answers end with their session");
        // The named answer is among them, whatever its serial: so this ends.
        let forgotten = session.memory.forget_up_to(serial);
        state.answers.remove(forgotten.values());
    }
}

/// Forgets the answers of a session to all serials below one.
pub(crate) fn forget_below(state: &mut State, id: SessionId, serial: Serial) {
    let Some(session) = state.sessions.get_mut(&id) else { return };
    let forgotten = session.memory.forget_below(serial);
    state.answers.remove(forgotten.values());
}

/// What an answer counts for.
pub(crate) fn weight(answer: &Answer) -> u64 {
    let names = match &answer.reply {
        Ok(Reply::Keys(reply)) => replies(reply) * ANSWER_SHARE_BYTES / 4,
        Ok(_) => 0,
        Err(Refusal::KeyNotFound { key }) => key.len() as u64,
        Err(
            Refusal::ElectionNotFound { election }
            | Refusal::StaleToken { election, .. }
            | Refusal::HolderKeepsUntilTtl { election, .. },
        ) => election.len() as u64,
        Err(Refusal::CandidateExists { election, candidate } | Refusal::CandidateNotFound { election, candidate }) => {
            (election.len() + candidate.len()) as u64
        }
        Err(
            Refusal::AlreadyFounded
            | Refusal::SessionEnded { .. }
            | Refusal::SessionExists { .. }
            | Refusal::AttachChanged { .. }
            | Refusal::Forgotten { .. }
            | Refusal::SerialReused { .. }
            | Refusal::Compacted { .. }
            | Refusal::FutureRevision { .. }
            | Refusal::Limit { .. },
        ) => 0,
    };
    ANSWER_SHARE_BYTES + names
}

/// Answers within the answer of a transaction.
fn replies(reply: &KeyReply) -> u64 {
    match reply {
        KeyReply::Txn { replies: all, .. } => all.len() as u64 + all.iter().map(replies).sum::<u64>(),
        KeyReply::Put { .. } | KeyReply::Deleted { .. } | KeyReply::Read(_) | KeyReply::NotKept => 0,
    }
}
