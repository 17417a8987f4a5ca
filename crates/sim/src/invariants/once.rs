//! A message runs at most as often as it was sent: once, unless somebody repeats it. What was refused, and what was dropped
//! halfway, has no effect, before or after.

use std::collections::BTreeMap;
use std::time::Duration;

use palisade_fence::Token;

use super::Invariant;
use crate::facts::{Fact, LedgerFact};
use crate::ledger::{Message, Method, Reply};

#[derive(Default)]
pub(super) struct RunsAsOftenAsSent {
    messages: BTreeMap<Message, Times>,
    /// The tells of a leader to a ledger together: their sender does not hear which of them were refused.
    tells: BTreeMap<(usize, Token), Times>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Times {
    sent: u64,
    refused: u64,
    dropped: u64,
    ran: u64,
    took: u64,
}

impl RunsAsOftenAsSent {
    fn note(&mut self, message: Message, note: impl Fn(&mut Times)) -> Result<(), String> {
        let times = self.messages.entry(message).or_default();
        note(times);
        times.check().map_err(|why| format!("{message:?} {why}"))?;
        if message.method == Method::Note {
            self.note_tells(message.ledger, message.token, note)?;
        }
        Ok(())
    }

    fn note_tells(&mut self, ledger: usize, token: Token, note: impl Fn(&mut Times)) -> Result<(), String> {
        let times = self.tells.entry((ledger, token)).or_default();
        note(times);
        times.check().map_err(|why| format!("the tells of {token} to ledger-{ledger}: {why}"))
    }
}

impl Times {
    fn check(self) -> Result<(), String> {
        let Times { sent, refused, dropped, ran, took } = self;
        if ran + refused > sent {
            return Err(format!("ran {ran} times: it was sent {sent} times and refused {refused} times"));
        }
        if took + refused + dropped > sent {
            return Err(format!(
                "took effect {took} times: it was sent {sent} times, refused {refused} times and dropped halfway {dropped} times"
            ));
        }
        Ok(())
    }
}

impl Invariant for RunsAsOftenAsSent {
    fn name(&self) -> &'static str {
        "a-message-runs-as-often-as-it-was-sent"
    }

    fn on(&mut self, fact: &Fact, _: Duration) -> Result<(), String> {
        let Fact::Ledger(fact) = fact else { return Ok(()) };
        match fact {
            LedgerFact::Sent { message, .. } => self.note(*message, |times| times.sent += 1),
            LedgerFact::Ran(step) => self.note(step.message, |times| times.ran += 1),
            LedgerFact::Took { step, .. } => self.note(step.message, |times| times.took += 1),
            LedgerFact::Replied { message, reply: Reply::Stale | Reply::NotHandled, .. } => {
                self.note(*message, |times| times.refused += 1)
            }
            LedgerFact::Replied { message, reply: Reply::Superseded, .. } => {
                self.note(*message, |times| times.dropped += 1)
            }
            LedgerFact::TellRefused { ledger, token, reply: Reply::Stale | Reply::NotHandled } => {
                self.note_tells(*ledger, *token, |times| times.refused += 1)
            }
            LedgerFact::Replied { .. } | LedgerFact::TellRefused { .. } => Ok(()),
            LedgerFact::Guarded { .. } | LedgerFact::Told { .. } | LedgerFact::Remembers { .. } => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::{Sender, Step};
    use crate::ledger::Form;

    const TOKEN: u32 = 7;

    fn message(number: u64, method: Method) -> Message {
        Message { ledger: 1, token: Token::new(0, TOKEN), number, method }
    }

    fn sent(message: Message) -> LedgerFact {
        LedgerFact::Sent { message, by: Sender::Leader }
    }

    fn ran(message: Message) -> LedgerFact {
        LedgerFact::Ran(Step { message, under: None, guard: None })
    }

    fn took(message: Message) -> LedgerFact {
        LedgerFact::Took { step: Step { message, under: None, guard: None }, appended: Some(0) }
    }

    fn replied(message: Message, reply: Reply) -> LedgerFact {
        LedgerFact::Replied { message, reply, form: Form::Stream, by: Sender::Leader, after: Duration::ZERO }
    }

    #[test]
    fn it_can_object() {
        let mut once = RunsAsOftenAsSent::default();
        let mut on = |fact: LedgerFact| once.on(&fact.into(), Duration::ZERO);
        let (one, two, three) =
            (message(1, Method::Append), message(2, Method::Append), message(3, Method::AppendLater));
        assert!(on(sent(one)).is_ok() && on(ran(one)).is_ok() && on(took(one)).is_ok());
        assert!(on(ran(one)).is_err(), "twice");
        assert!(on(sent(two)).is_ok() && on(replied(two, Reply::Stale)).is_ok());
        assert!(on(ran(two)).is_err(), "it was refused");
        assert!(on(sent(three)).is_ok() && on(ran(three)).is_ok() && on(replied(three, Reply::Superseded)).is_ok());
        assert!(on(took(three)).is_err(), "it was dropped halfway");
    }

    #[test]
    fn a_refused_tell_is_missed_among_the_others() {
        let mut once = RunsAsOftenAsSent::default();
        let mut on = |fact: LedgerFact| once.on(&fact.into(), Duration::ZERO);
        let (one, two) = (message(1, Method::Note), message(2, Method::Note));
        assert!(on(sent(one)).is_ok() && on(sent(two)).is_ok() && on(ran(one)).is_ok());
        let refused = LedgerFact::TellRefused { ledger: 1, token: Token::new(0, TOKEN), reply: Reply::Stale };
        assert!(on(refused).is_ok());
        assert!(on(ran(two)).is_err(), "one of two was refused");
    }
}
