//! A key that is bound to a session is there only while that session lives, as readers see it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use palisade_coord_core::{Event, Reply};

use super::Invariant;
use super::history::History;
use crate::facts::{Fact, Ranged, Restoration};
use crate::hosts::transactor::BOUND;

#[derive(Default)]
pub(super) struct BoundKeysEndWithTheirSession {
    history: History,
    live: BTreeSet<u64>,
    /// With the `seq` of their end.
    ended: BTreeMap<u64, u64>,
}

impl BoundKeysEndWithTheirSession {
    fn lived(&self, session: u64, seq: u64) -> bool {
        self.live.contains(&session) || self.ended.get(&session).is_some_and(|ended| seq < *ended)
    }
}

impl Invariant for BoundKeysEndWithTheirSession {
    fn name(&self) -> &'static str {
        "bound-keys-end-with-their-session"
    }

    fn restored(&mut self, restoration: &Restoration) {
        self.history.restored(restoration);
        let ends = restoration.begins.seq;
        self.ended.extend(std::mem::take(&mut self.live).into_iter().map(|session| (session, ends)));
    }

    fn on(&mut self, fact: &Fact, _: Duration) -> Result<(), String> {
        if let Some(applied) = self.history.next(fact) {
            if let Ok(Reply::SessionOpened { session, .. }) = &applied.outcome.reply {
                self.live.insert(session.get());
            }
            for event in &applied.outcome.events {
                if let Event::SessionEnded { session, .. } = event {
                    self.live.remove(&session.get());
                    self.ended.insert(session.get(), applied.seq);
                }
            }
        }
        // What was long ago may have had a session that has ended since.
        let Fact::Ranged(Ranged { prefix, asked: None, seq, found, .. }) = fact else { return Ok(()) };
        if prefix != BOUND {
            return Ok(());
        }
        match found.iter().find(|found| !self.lived(found.session, *seq)) {
            Some(found) => Err(format!("at seq {seq} session {} has ended, and {found:?} is there", found.session)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use palisade_coord_core::EndReason;

    use super::super::history::tests::{ended, fact, opened};
    use super::*;
    use crate::facts::FoundKey;

    #[test]
    fn it_can_object() {
        let mut bound = BoundKeysEndWithTheirSession::default();
        bound.on(&fact(opened(1, 7)), Duration::ZERO).expect("it lives");
        bound.on(&fact(ended(5, 7, EndReason::Expired, Some(1), None)), Duration::ZERO).expect("it ends");
        let mut found = |seq, asked, session| {
            let (key, value) = (format!("{BOUND}k"), String::new());
            let found = vec![FoundKey { key, value, create_revision: 1, mod_revision: 1, version: 1, session }];
            let (read, prefix) = (String::from("r"), BOUND.to_owned());
            let ranged = Ranged { read, prefix, asked, limit: 0, seq, revision: 1, stale: false, found, count: 1 };
            bound.on(&Fact::Ranged(ranged), Duration::ZERO)
        };
        assert_eq!(found(4, None, 7), Ok(()));
        assert!(found(5, None, 7).is_err());
        assert_eq!(found(5, Some(1), 7), Ok(()), "that was before its end");
        assert!(found(4, None, 0).is_err(), "it was let go");
    }
}
