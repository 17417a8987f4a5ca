//! One current grant per election at each `seq`. A leadership begins only where none is, or takes the place of the one that the
//! same command ends; every token is above all before it; a write under a token takes effect only while it is the current one;
//! and what candidates are told is what was granted.

use std::collections::BTreeMap;
use std::time::Duration;

use palisade_fence::Token;

use super::Invariant;
use super::history::History;
use crate::facts::{Applied, Fact, Restoration};

#[derive(Default)]
pub(super) struct OneGrantAtEachSeq {
    history: History,
    current: BTreeMap<String, Token>,
    /// By token: election, candidate and `seq`.
    granted: BTreeMap<Token, (String, String, u64)>,
}

impl OneGrantAtEachSeq {
    fn apply(&mut self, applied: &Applied) -> Result<(), String> {
        let seq = applied.seq;
        match applied.fence() {
            Some(fence) if applied.took_effect() && self.current.get(&fence.election) != Some(&fence.token) => {
                let current = self.current.get(&fence.election);
                Err(format!("at seq {seq} a write under {fence} took effect, and {current:?} was current"))
            }
            _ => self.change(applied),
        }
    }

    fn change(&mut self, applied: &Applied) -> Result<(), String> {
        let seq = applied.seq;
        for change in applied.changes() {
            let ended = self.current.remove(change.election);
            if ended != change.ended.map(|(token, _)| token) {
                let said = change.ended;
                return Err(format!("at seq {seq} {said:?} ended in {:?}, and {ended:?} was current", change.election));
            }
            let Some(grant) = change.began else { continue };
            if let Some((highest, _)) = self.granted.last_key_value().filter(|(token, _)| **token >= grant.token) {
                return Err(format!("at seq {seq} token {} was granted after {highest}", grant.token));
            }
            let told = (grant.election.clone(), grant.candidate.clone(), seq);
            self.granted.insert(grant.token, told);
            self.current.insert(grant.election.clone(), grant.token);
        }
        Ok(())
    }
}

impl Invariant for OneGrantAtEachSeq {
    fn name(&self) -> &'static str {
        "one-grant-at-each-seq"
    }

    fn restored(&mut self, restoration: &Restoration) {
        self.history.restored(restoration);
        self.current.clear();
    }

    fn on(&mut self, fact: &Fact, _: Duration) -> Result<(), String> {
        if let Some(applied) = self.history.next(fact) {
            return self.apply(applied);
        }
        if let Fact::Granted { election, candidate, token, seq } = fact {
            let (told, granted) = ((election.clone(), candidate.clone(), *seq), self.granted.get(token));
            if granted != Some(&told) {
                return Err(format!("{told:?} was told of token {token}, which was granted to {granted:?}"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use palisade_coord_core::EndReason;

    use super::super::history::tests::{campaigned, elected, ended, fact, grant, put, under};
    use super::*;

    fn on(grants: &mut OneGrantAtEachSeq, applied: Applied) -> Result<(), String> {
        grants.on(&fact(applied), Duration::ZERO)
    }

    fn one_leads() -> OneGrantAtEachSeq {
        let mut grants = OneGrantAtEachSeq::default();
        on(&mut grants, campaigned(5, "e", 1, 3)).unwrap();
        grants
    }

    #[test]
    fn it_can_object_to_a_second_grant() {
        assert!(on(&mut one_leads(), campaigned(6, "e", 2, 4)).is_err(), "one leads already");
        assert!(on(&mut one_leads(), campaigned(6, "other", 2, 3)).is_err(), "the token was used");
        assert!(on(&mut one_leads(), campaigned(6, "other", 2, 4)).is_ok());
        let expired = EndReason::Expired;
        let handed_over = |ended_token| elected(grant(6, "e", 2, 4), Some((ended_token, expired)));
        assert!(on(&mut one_leads(), ended(6, 1, expired, Some(1), Some(handed_over(3)))).is_ok());
        assert!(on(&mut one_leads(), ended(6, 1, expired, Some(1), Some(handed_over(2)))).is_err());
    }

    #[test]
    fn it_can_object_to_a_stale_write() {
        assert!(on(&mut one_leads(), under(put(6, "a"), "e", 3)).is_ok());
        assert!(on(&mut one_leads(), under(put(6, "a"), "e", 2)).is_err());
    }

    #[test]
    fn it_can_object_to_what_a_candidate_was_told() {
        let told = |candidate: &str, seq| Fact::Granted {
            election: "e".into(),
            candidate: candidate.into(),
            token: Token::new(0, 3),
            seq,
        };
        assert!(one_leads().on(&told("of-1", 5), Duration::ZERO).is_ok());
        assert!(one_leads().on(&told("of-2", 5), Duration::ZERO).is_err());
        assert!(one_leads().on(&told("of-1", 4), Duration::ZERO).is_err());
    }
}
