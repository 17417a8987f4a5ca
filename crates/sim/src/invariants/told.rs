//! What writers are told is true: what was acknowledged was applied, at the `seq` and with the revision that the answer names;
//! what was said to be not applied was not and never is.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Invariant;
use super::history::History;
use crate::facts::{Ended, Fact, Restoration};

#[derive(Default)]
pub(super) struct WritersAreToldTheTruth {
    history: History,
    /// By `seq`: the revision after each write, and its name if it is a put.
    applied: BTreeMap<u64, (u64, Option<String>)>,
    /// Where each put took effect.
    took_effect: BTreeMap<String, u64>,
    not_applied: BTreeMap<String, Duration>,
}

impl Invariant for WritersAreToldTheTruth {
    fn name(&self) -> &'static str {
        "writers-are-told-the-truth"
    }

    fn restored(&mut self, restoration: &Restoration) {
        self.history.restored(restoration);
        // Where each write took effect stays known: an undone one does not take effect again.
        self.applied.retain(|seq, _| *seq <= restoration.backup.seq);
    }

    fn on(&mut self, fact: &Fact, at: Duration) -> Result<(), String> {
        if let Some(applied) = self.history.next(fact) {
            if applied.is_write() {
                let revision = applied.outcome.revision.get();
                self.applied.insert(applied.seq, (revision, applied.write().map(str::to_owned)));
            }
            let Some(write) = applied.write().filter(|_| applied.took_effect()) else { return Ok(()) };
            self.took_effect.insert(write.to_owned(), applied.seq);
            if let Some(said) = self.not_applied.get(write) {
                return Err(format!("{write} was said at {said:?} to be not applied, and was at seq {}", applied.seq));
            }
            return Ok(());
        }
        let Fact::WriteEnded { write, ended } = fact else { return Ok(()) };
        match ended {
            Ended::Applied { seq, revision, .. } => match self.applied.get(seq) {
                Some((of, Some(name))) if (of, name) == (revision, write) => Ok(()),
                // A removal has no name: another invariant knows more.
                Some((of, None)) if of == revision && !self.took_effect.contains_key(write) => Ok(()),
                other => Err(format!("{write} was acknowledged at seq {seq}, revision {revision}: {other:?}")),
            },
            Ended::NotApplied => {
                self.not_applied.insert(write.clone(), at);
                match self.took_effect.get(write) {
                    Some(seq) => Err(format!("{write} was said to be not applied, and was at seq {seq}")),
                    None => Ok(()),
                }
            }
            Ended::Unknown => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::tests::{fact, put};
    use super::*;

    fn ended(write: &str, ended: Ended) -> Fact {
        Fact::WriteEnded { write: write.into(), ended }
    }

    fn all(facts: &[Fact]) -> Result<(), String> {
        let mut told = WritersAreToldTheTruth::default();
        facts.iter().try_for_each(|fact| told.on(fact, Duration::ZERO))
    }

    #[test]
    fn it_can_object() {
        let at = |seq, revision| Ended::Applied { seq, revision, changed: true };
        let a = || fact(put(3, "a"));
        assert!(all(&[a(), ended("a", at(3, 3))]).is_ok());
        assert!(all(&[a(), ended("a", at(4, 3))]).is_err(), "nothing was applied there");
        assert!(all(&[a(), ended("a", at(3, 2))]).is_err(), "another revision");
        assert!(all(&[a(), ended("b", at(3, 3))]).is_err(), "another write");
        assert!(all(&[a(), ended("a", Ended::Unknown), ended("a", at(3, 3))]).is_ok());
        assert!(all(&[a(), ended("a", Ended::NotApplied)]).is_err());
        assert!(all(&[ended("a", Ended::NotApplied), a()]).is_err());
        assert!(all(&[ended("b", Ended::NotApplied), a()]).is_ok());
    }
}
