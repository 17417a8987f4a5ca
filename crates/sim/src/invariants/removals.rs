//! Removals are asked for: a removal has no name in the log, but a key, and a session if it has a request id. Of each such kind no
//! more take effect than were asked for, less those that were said to be not applied; and each acknowledgement is of a removal
//! of that kind, and of no other's.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use palisade_coord_core::Reply;

use super::Invariant;
use super::history::History;
use crate::facts::{Applied, Deed, Ended, Fact, Restoration};

/// The key, and the session.
type Kind = (Vec<u8>, Option<u64>);

#[derive(Default)]
pub(super) struct RemovalsAreAskedFor {
    history: History,
    /// How many of a kind may take effect, and how many did.
    counts: BTreeMap<Kind, (u64, u64)>,
    /// Keys that writers write; others remove keys of their own.
    keys: BTreeSet<Vec<u8>>,
    /// By name.
    asked: BTreeMap<String, Asked>,
    /// By `seq`: what was applied there, and whose it was said to be.
    applied: BTreeMap<u64, (Kind, Option<String>)>,
}

struct Asked {
    kind: Kind,
    /// It was said to be not applied.
    refused: bool,
}

impl RemovalsAreAskedFor {
    fn apply(&mut self, applied: &Applied) -> Result<(), String> {
        let Some(key) = applied.removal().filter(|key| self.keys.contains(*key)) else { return Ok(()) };
        let kind = (key.to_owned(), applied.command.request.map(|id| id.session.get()));
        let first = applied.outcome.seq.get() == applied.seq && matches!(applied.outcome.reply, Ok(Reply::Keys(_)));
        if !first {
            return Ok(());
        }
        self.applied.insert(applied.seq, (kind.clone(), None));
        self.counts.entry(kind.clone()).or_default().1 += 1;
        self.judge(&kind)
    }

    fn judge(&self, kind: &Kind) -> Result<(), String> {
        match self.counts.get(kind) {
            Some((asked, applied)) if applied > asked => {
                let (key, session) = (String::from_utf8_lossy(&kind.0), kind.1);
                Err(format!("{key} was removed {applied} times under session {session:?}, and {asked} may have been"))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn ended(&mut self, write: &str, ended: Ended) -> Result<(), String> {
        let Some(asked) = self.asked.get_mut(write) else { return Ok(()) };
        match ended {
            Ended::Unknown => Ok(()),
            Ended::NotApplied => {
                let kind = asked.kind.clone();
                if !std::mem::replace(&mut asked.refused, true) {
                    self.counts.entry(kind.clone()).or_default().0 -= 1;
                }
                self.judge(&kind)
            }
            Ended::Applied { seq, .. } => match self.applied.get_mut(&seq) {
                Some((kind, of)) if *kind == asked.kind && of.as_deref().is_none_or(|of| of == write) => {
                    *of = Some(write.to_owned());
                    Ok(())
                }
                other => Err(format!("{write} was acknowledged at seq {seq}, where {other:?} was removed")),
            },
        }
    }
}

impl Invariant for RemovalsAreAskedFor {
    fn name(&self) -> &'static str {
        "removals-are-asked-for"
    }

    fn restored(&mut self, restoration: &Restoration) {
        self.history.restored(restoration);
        // They took effect, and will not again.
        self.applied.retain(|seq, _| *seq <= restoration.backup.seq);
    }

    fn on(&mut self, fact: &Fact, _: Duration) -> Result<(), String> {
        if let Some(applied) = self.history.next(fact) {
            return self.apply(applied);
        }
        match fact {
            Fact::WriteBegan { write, key, deed, session } => {
                let kind = (key.clone().into_bytes(), *session);
                self.keys.insert(kind.0.clone());
                if *deed != Deed::Delete {
                    return Ok(());
                }
                self.counts.entry(kind.clone()).or_default().0 += 1;
                self.asked.insert(write.clone(), Asked { kind, refused: false });
                Ok(())
            }
            Fact::WriteEnded { write, ended } => self.ended(write, *ended),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use palisade_coord_core::keys::op::Delete;
    use palisade_coord_core::{KeyOp, KeyReply, Keys, Op};

    use super::super::history::tests::{applied, fact, named};
    use super::*;

    fn removed(seq: u64) -> Applied {
        let op = Op::Keys(KeyOp::Delete(Delete::new(Keys::One(b"k".to_vec()))));
        applied(seq, op, Ok(Reply::Keys(KeyReply::Deleted { deleted: 1, previous: Vec::new() })), Vec::new())
    }

    fn asked(write: &str, session: Option<u64>) -> Fact {
        Fact::WriteBegan { write: write.into(), key: "k".into(), deed: Deed::Delete, session }
    }

    fn said(write: &str, ended: Ended) -> Fact {
        Fact::WriteEnded { write: write.into(), ended }
    }

    fn at(seq: u64) -> Ended {
        Ended::Applied { seq, revision: seq, changed: true }
    }

    fn all(facts: &[Fact]) -> Result<(), String> {
        let mut removals = RemovalsAreAskedFor::default();
        facts.iter().try_for_each(|fact| removals.on(fact, Duration::ZERO))
    }

    #[test]
    fn it_can_object() {
        let once = || fact(removed(3));
        assert!(all(&[asked("a", None), once(), said("a", at(3))]).is_ok());
        assert!(all(&[asked("a", None), said("a", Ended::Unknown), once(), fact(removed(4))]).is_err(), "twice");
        let put = Fact::WriteBegan { write: "p".into(), key: "k".into(), deed: Deed::Put, session: None };
        assert!(all(&[put, once()]).is_err(), "nobody asked");
        assert!(all(&[once()]).is_ok(), "that is no writer's key");
        assert!(all(&[asked("a", None), said("a", Ended::NotApplied), once()]).is_err());
        assert!(all(&[asked("a", None), once(), said("a", Ended::NotApplied)]).is_err());
        assert!(all(&[asked("a", Some(7)), once()]).is_err(), "of another kind");
        assert!(all(&[asked("a", Some(7)), fact(named(removed(3), 7, 1))]).is_ok());
        let both = [asked("a", None), asked("b", None), once(), said("a", at(3)), said("b", at(3))];
        assert!(all(&both).is_err(), "one removal was said to be two");
        assert!(all(&[asked("a", None), once(), said("a", at(4))]).is_err(), "nothing was removed there");
    }
}
