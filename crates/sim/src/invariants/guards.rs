//! Nothing runs at a ledger under a token that is lower than one that ran or was accepted there before, also in an earlier life
//! of its process; neither a message's first step nor one after an await. It runs under the token that it was sent under. A guard
//! that is kept in a file is not forgotten; and guards stand at tokens that were granted, whatever somebody forges.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use palisade_fence::Token;

use super::Invariant;
use crate::facts::{Fact, LedgerFact, Step};

#[derive(Default)]
pub(super) struct NothingRunsBelowItsGuard {
    /// By ledger: the highest token that ran or was accepted.
    highest: BTreeMap<usize, Token>,
    /// Every token that was granted, as nodes applied it.
    granted: BTreeSet<Token>,
}

impl NothingRunsBelowItsGuard {
    fn step(&mut self, step: &Step) -> Result<(), String> {
        let Step { message, under, guard } = step;
        if *under != Some(message.token) || guard != under {
            return Err(format!("{message:?} runs under {under:?} while the guard stands at {guard:?}"));
        }
        self.rises(message.ledger, message.token, &format_args!("{message:?} runs"))
    }

    fn rises(&mut self, ledger: usize, token: Token, what: &dyn std::fmt::Display) -> Result<(), String> {
        let highest = self.highest.entry(ledger).or_insert(token);
        if token < *highest {
            return Err(format!("{what} although {highest} was accepted at ledger-{ledger} before"));
        }
        *highest = token;
        Ok(())
    }
}

impl Invariant for NothingRunsBelowItsGuard {
    fn name(&self) -> &'static str {
        "nothing-runs-below-its-guard"
    }

    fn on(&mut self, fact: &Fact, _: Duration) -> Result<(), String> {
        match fact {
            Fact::Ledger(LedgerFact::Ran(step) | LedgerFact::Took { step, .. }) => self.step(step),
            Fact::Applied(applied) => {
                self.granted.extend(applied.changes().filter_map(|change| Some(change.began?.token)));
                Ok(())
            }
            Fact::Ledger(LedgerFact::Guarded { ledger, token }) if !self.granted.contains(token) => {
                Err(format!("the guard of ledger-{ledger} stands at {token}, which nobody was granted"))
            }
            Fact::Ledger(LedgerFact::Guarded { ledger, token }) => {
                self.rises(*ledger, *token, &format_args!("the guard stands at {token}"))
            }
            Fact::Ledger(LedgerFact::Remembers { ledger, token }) => match self.highest.get(ledger) {
                Some(highest) if Some(*highest) > *token => {
                    Err(format!("ledger-{ledger} remembers {token:?}, but {highest} was accepted before it restarted"))
                }
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::{Message, Method};

    fn step(ledger: usize, token: u32, guard: u32) -> Step {
        let (token, guard) = (Token::new(0, token), Some(Token::new(0, guard)));
        let message = Message { ledger, token, number: 1, method: Method::AppendLater };
        Step { message, under: Some(token), guard }
    }

    #[test]
    fn it_can_object() {
        let granted = (1..=3).map(|n| Token::new(0, n)).collect();
        let mut guards = NothingRunsBelowItsGuard { granted, ..NothingRunsBelowItsGuard::default() };
        let mut on = |fact: LedgerFact| guards.on(&fact.into(), Duration::ZERO);
        assert!(on(LedgerFact::Ran(step(1, 1, 1))).is_ok());
        assert!(on(LedgerFact::Guarded { ledger: 1, token: Token::new(0, 2) }).is_ok());
        assert!(on(LedgerFact::Ran(step(2, 1, 1))).is_ok(), "another ledger");
        let late = LedgerFact::Took { step: step(1, 1, 2), appended: Some(0) };
        assert!(on(late).is_err(), "a step after an await, under a newer token");
        assert!(on(LedgerFact::Ran(step(1, 1, 1))).is_err(), "a guard that was forgotten");
        assert!(on(LedgerFact::Guarded { ledger: 1, token: Token::new(0, 1) }).is_err());
        assert!(on(LedgerFact::Remembers { ledger: 1, token: None }).is_err());
        assert!(on(LedgerFact::Remembers { ledger: 1, token: Some(Token::new(0, 2)) }).is_ok());
        assert!(on(LedgerFact::Ran(step(1, 3, 2))).is_err(), "above the guard: nobody confirmed it");
        assert!(on(LedgerFact::Guarded { ledger: 1, token: Token::new(0, 4) }).is_err(), "nobody was granted it");
    }
}
