//! Fencing by knowledge: once the observe stream has told a ledger of a leader, its guard stands there soon, whether that leader
//! has called or not. A ledger that stands still, has no room for its files, or has not yet learnt where it stood may take longer.

use std::collections::BTreeMap;
use std::time::Duration;

use palisade_fence::Token;

use super::Invariant;
use crate::facts::{Fact, LedgerFact};
use crate::plan::{Fault, Role, Who};

/// The raise takes one write to a disk, and no message.
const WITHIN: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(super) struct GuardsFollow {
    ledgers: BTreeMap<usize, Ledger>,
}

/// One life of a ledger's process.
#[derive(Default)]
struct Ledger {
    /// The highest token that it was told of, and since when nothing keeps it from following.
    told: Option<(Token, Duration)>,
    guard: Option<Token>,
    /// Faults under which it need not follow.
    hindered: u32,
}

impl Invariant for GuardsFollow {
    fn name(&self) -> &'static str {
        "guards-follow-the-election"
    }

    fn on(&mut self, fact: &Fact, at: Duration) -> Result<(), String> {
        let Fact::Ledger(fact) = fact else { return Ok(()) };
        match fact {
            LedgerFact::Told { ledger, token } => {
                let told = &mut self.ledgers.entry(*ledger).or_default().told;
                if told.is_none_or(|(before, _)| before < *token) {
                    *told = Some((*token, at));
                }
            }
            LedgerFact::Guarded { ledger, token } => {
                self.ledgers.entry(*ledger).or_default().guard = Some(*token);
            }
            LedgerFact::Remembers { ledger, token } => self.ledgers.entry(*ledger).or_default().guard = *token,
            _ => {}
        }
        Ok(())
    }

    fn tick(&mut self, at: Duration) -> Result<(), String> {
        for (number, ledger) in &self.ledgers {
            // Without a guard it has to ask the election first, and does so when somebody calls.
            let (Some(guard), Some((told, since)), 0) = (ledger.guard, ledger.told, ledger.hindered) else { continue };
            if guard < told && at > since + WITHIN {
                return Err(format!(
                    "ledger-{number} was told of {told} at {since:?}, and its guard stands at {guard}"
                ));
            }
        }
        Ok(())
    }

    fn gone(&mut self, who: Who) {
        if who.role == Role::Ledger
            && let Some(ledger) = self.ledgers.get_mut(&who.number)
        {
            *ledger = Ledger { hindered: ledger.hindered, ..Ledger::default() };
        }
    }

    fn fault(&mut self, fault: &Fault, begins: bool, at: Duration) {
        let (Fault::Pause(who) | Fault::FillFiles(who)) = fault else { return };
        if who.role != Role::Ledger {
            return;
        }
        let ledger = self.ledgers.entry(who.number).or_default();
        if begins {
            ledger.hindered += 1;
        } else {
            ledger.hindered = ledger.hindered.saturating_sub(1);
            ledger.told = ledger.told.map(|(token, _)| (token, at));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_can_object() {
        let token = |n| Token::new(0, n);
        let told = |n| Fact::Ledger(LedgerFact::Told { ledger: 1, token: token(n) });
        let guarded = |n| Fact::Ledger(LedgerFact::Guarded { ledger: 1, token: token(n) });
        let (soon, late) = (WITHIN / 2, WITHIN * 3);
        let paused = Fault::Pause(Who { role: Role::Ledger, number: 1 });
        let mut follows = GuardsFollow::default();
        let on = |follows: &mut GuardsFollow, fact: Fact| follows.on(&fact, Duration::ZERO).expect("it waits");
        on(&mut follows, told(2));
        assert!(follows.tick(late).is_ok(), "it has not learnt where it stood");
        on(&mut follows, guarded(1));
        assert!(follows.tick(soon).is_ok());
        assert!(follows.tick(late).is_err());
        follows.fault(&paused, true, soon);
        assert!(follows.tick(late).is_ok(), "it stands still");
        follows.fault(&paused, false, late);
        assert!(follows.tick(late + soon).is_ok() && follows.tick(late * 2).is_err());
        on(&mut follows, guarded(2));
        assert!(follows.tick(late * 2).is_ok());
    }
}
