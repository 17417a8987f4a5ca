//! A request takes effect once: of all commands under one request id, one changes something, and every answer under it is the
//! first one's, or says that it is forgotten. A write without a request id is applied once, too: nobody sends it again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use palisade_coord_core::{KeyReply, Refusal, Reply, Serial, SessionId};

use super::Invariant;
use super::history::History;
use crate::facts::{Applied, Fact, Restoration};

#[derive(Default)]
pub(super) struct RequestsTakeEffectOnce {
    history: History,
    first: BTreeMap<(SessionId, Serial), First>,
    /// Where each write of a register took effect.
    writes: BTreeMap<String, u64>,
    began: BTreeSet<String>,
}

/// What came of a request id first.
struct First {
    seq: u64,
    revision: u64,
    reply: Result<Reply, Refusal>,
}

impl RequestsTakeEffectOnce {
    fn apply(&mut self, applied: &Applied) -> Result<(), String> {
        let seq = applied.seq;
        if let Some(write) = applied.write().filter(|write| applied.took_effect() && self.began.contains(*write))
            && let Some(first) = self.writes.insert(write.to_owned(), seq)
        {
            return Err(format!("{write} took effect at seq {first} and at seq {seq}"));
        }
        let Some(id) = applied.command.request else { return Ok(()) };
        let outcome = &applied.outcome;
        let answer = First { seq: outcome.seq.get(), revision: outcome.revision.get(), reply: outcome.reply.clone() };
        let forgotten = matches!(answer.reply, Err(Refusal::Forgotten { .. }));
        let Some(first) = self.first.get(&(id.session, id.serial)) else {
            self.first.insert((id.session, id.serial), answer);
            return Ok(());
        };
        let same = (first.seq, first.revision) == (answer.seq, answer.revision) && repeats(&first.reply, &answer.reply);
        if applied.took_effect() {
            Err(format!("request {id:?} was answered at seq {} and took effect at seq {seq}", first.seq))
        } else if !same && !forgotten {
            let (one, other) = (&first.reply, &answer.reply);
            Err(format!("request {id:?} was answered {one:?} at seq {} and {other:?} at seq {seq}", first.seq))
        } else {
            Ok(())
        }
    }
}

/// Whether an answer is the first one again, perhaps without its keys and values.
fn repeats(first: &Result<Reply, Refusal>, again: &Result<Reply, Refusal>) -> bool {
    match (first, again) {
        (Ok(Reply::Keys(first)), Ok(Reply::Keys(again))) => repeats_keys(first, again),
        (first, again) => first == again,
    }
}

fn repeats_keys(first: &KeyReply, again: &KeyReply) -> bool {
    match (first, again) {
        (_, KeyReply::NotKept) => true,
        (KeyReply::Txn { succeeded, replies }, KeyReply::Txn { succeeded: too, replies: others }) => {
            let pairs = || replies.iter().zip(others);
            succeeded == too
                && replies.len() == others.len()
                && pairs().all(|(first, again)| repeats_keys(first, again))
        }
        (first, again) => first == again,
    }
}

impl Invariant for RequestsTakeEffectOnce {
    fn name(&self) -> &'static str {
        "requests-take-effect-once"
    }

    fn restored(&mut self, restoration: &Restoration) {
        self.history.restored(restoration);
        // A session may get an id that another had which is undone. That a write takes effect once holds all the same.
        self.first.retain(|_, first| first.seq <= restoration.backup.seq);
    }

    fn on(&mut self, fact: &Fact, _: Duration) -> Result<(), String> {
        if let Fact::WriteBegan { write, .. } = fact {
            self.began.insert(write.clone());
        }
        self.history.next(fact).map_or(Ok(()), |applied| self.apply(applied))
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::tests::{applied, fact, named, put};
    use super::*;
    use crate::facts::Deed;

    fn all(history: Vec<Applied>) -> Result<(), String> {
        let mut once = RequestsTakeEffectOnce::default();
        let began = Fact::WriteBegan { write: "a".into(), key: "k".into(), deed: Deed::Put, session: None };
        once.on(&began, Duration::ZERO)?;
        history.into_iter().try_for_each(|applied| once.on(&fact(applied), Duration::ZERO))
    }

    #[test]
    fn it_can_object() {
        let again = |seq, of: &Applied| {
            let mut again = applied(seq, of.command.op.clone(), of.outcome.reply.clone(), Vec::new());
            (again.command.request, again.outcome) = (of.command.request, of.outcome.clone());
            again.outcome.events.clear();
            again
        };
        let first = named(put(1, "x"), 7, 1);
        assert!(all(vec![first.clone(), again(2, &first)]).is_ok());
        assert!(all(vec![first.clone(), named(put(2, "x"), 7, 1)]).is_err(), "it took effect twice");
        assert!(all(vec![first.clone(), named(put(2, "x"), 7, 2)]).is_ok(), "another request");
        let mut other = again(2, &first);
        other.outcome.reply = Ok(Reply::Keys(KeyReply::Put { version: 9, previous: None }));
        assert!(all(vec![first.clone(), other.clone()]).is_err(), "another answer");
        other.outcome.reply = Ok(Reply::Keys(KeyReply::NotKept));
        assert!(all(vec![first.clone(), other.clone()]).is_ok(), "its keys were not kept");
        other.outcome.reply = Err(Refusal::Forgotten { serial: Serial(1) });
        assert!(all(vec![first, other]).is_ok(), "nothing is said");
    }

    #[test]
    fn it_can_object_to_a_write_that_was_sent_again() {
        assert!(all(vec![put(1, "a"), put(2, "b")]).is_ok());
        assert!(all(vec![put(1, "a"), put(2, "a")]).is_err());
    }
}
