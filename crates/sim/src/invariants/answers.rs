//! What a ledger answers is true, and stays true: an acknowledged message stands where the answer says, and is read there.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Invariant;
use crate::facts::{Fact, LedgerFact};
use crate::ledger::{Answered, Message, Reply};

#[derive(Default)]
pub(super) struct AnswersAreTrue {
    /// What stands where, by ledger and position.
    standing: BTreeMap<(usize, u64), Message>,
}

impl Invariant for AnswersAreTrue {
    fn name(&self) -> &'static str {
        "answers-are-true"
    }

    fn on(&mut self, fact: &Fact, _: Duration) -> Result<(), String> {
        match fact {
            Fact::Ledger(LedgerFact::Took { step, appended: Some(position) }) => {
                let message = step.message;
                match self.standing.insert((message.ledger, *position), message) {
                    Some(before) => Err(format!("{message:?} takes the place {position} of {before:?}")),
                    None => Ok(()),
                }
            }
            Fact::Ledger(LedgerFact::Replied { message, reply: Reply::Answered(answered), .. }) => {
                let stands = |position: &u64| self.standing.get(&(message.ledger, *position));
                let is_true = match answered {
                    Answered::At(position) => stands(position) == Some(message),
                    Answered::Told => true,
                    Answered::Found { position, token, number } => {
                        stands(position).is_some_and(|found| (found.token, found.number) == (*token, *number))
                    }
                };
                if is_true { Ok(()) } else { Err(format!("{message:?} was answered {answered:?}")) }
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use palisade_fence::Token;

    use super::*;
    use crate::facts::{Sender, Step};
    use crate::ledger::{Form, Method};

    #[test]
    fn it_can_object() {
        let token = Token::new(0, 1);
        let message = |number, method| Message { ledger: 1, token, number, method };
        let (append, read) = (message(1, Method::Append), message(2, Method::Read(5)));
        let replied = |message, answered| {
            let reply = Reply::Answered(answered);
            LedgerFact::Replied { message, reply, form: Form::Stream, by: Sender::Leader, after: Duration::ZERO }
        };
        let mut answers = AnswersAreTrue::default();
        let mut on = |fact: LedgerFact| answers.on(&fact.into(), Duration::ZERO);
        let step = Step { message: append, under: None, guard: None };
        assert!(on(replied(append, Answered::At(5))).is_err(), "nothing stands there");
        assert!(on(LedgerFact::Took { step, appended: Some(5) }).is_ok());
        assert!(on(replied(append, Answered::At(5))).is_ok());
        assert!(on(replied(message(3, Method::Append), Answered::At(5))).is_err(), "the answer to another message");
        assert!(on(replied(read, Answered::Found { position: 5, token, number: 1 })).is_ok());
        assert!(on(replied(read, Answered::Found { position: 5, token, number: 2 })).is_err());
        assert!(on(LedgerFact::Took { step, appended: Some(5) }).is_err(), "what was acknowledged is gone");
    }
}
