//! Liveness: when nothing is broken, the calls of the newest leader succeed at every ledger: as plain gRPC, by ask and by tell.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use palisade_fence::Token;

use super::Invariant;
use crate::facts::{Fact, LedgerFact, Sender};
use crate::hosts::candidate::ELECTION;
use crate::ledger::{Form, Method, Reply};
use crate::phase::Phase;
use crate::plan::{Plan, Role};

/// What must work at a ledger.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Way {
    Asks,
    Tells,
    PlainCalls,
}

const ALL: [Way; 3] = [Way::Asks, Way::Tells, Way::PlainCalls];

pub(super) struct LedgersServe {
    asked_for: bool,
    newest: Option<Token>,
    /// By ledger: what has worked in this phase.
    worked: BTreeMap<usize, BTreeSet<Way>>,
}

impl LedgersServe {
    pub(super) fn of(plan: &Plan) -> LedgersServe {
        let called = plan.all(Role::Ledger).filter(|_| plan.count(Role::Candidate) > 0);
        let worked = called.map(|ledger| (ledger.number, BTreeSet::new())).collect();
        LedgersServe { asked_for: false, newest: None, worked }
    }
}

impl Invariant for LedgersServe {
    fn name(&self) -> &'static str {
        "ledgers-serve-the-newest-leader"
    }

    fn on(&mut self, fact: &Fact, _: Duration) -> Result<(), String> {
        let (message, way) = match fact {
            Fact::Granted { election, token, .. } if election == ELECTION => {
                self.newest = self.newest.max(Some(*token));
                return Ok(());
            }
            Fact::Ledger(LedgerFact::Ran(step)) if step.message.method == Method::Note => (step.message, Way::Tells),
            Fact::Ledger(LedgerFact::Replied {
                message, reply: Reply::Answered(_), form, by: Sender::Leader, ..
            }) => match form {
                Form::Stream => (*message, Way::Asks),
                Form::Plain => (*message, Way::PlainCalls),
            },
            _ => return Ok(()),
        };
        if let Some(worked) = self.worked.get_mut(&message.ledger)
            && self.newest == Some(message.token)
        {
            worked.insert(way);
        }
        Ok(())
    }

    fn phase(&mut self, phase: Phase, _: Duration) {
        self.asked_for |= phase > Phase::Faults;
        self.worked.values_mut().for_each(BTreeSet::clear);
    }

    fn missing(&self) -> Option<String> {
        let missing = |(ledger, worked): (&usize, &BTreeSet<Way>)| {
            let way = ALL.into_iter().find(|way| !worked.contains(way))?;
            Some(format!("no {way:?} of {:?} at ledger-{ledger}", self.newest))
        };
        self.worked.iter().find_map(missing).filter(|_| self.asked_for)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::Step;
    use crate::ledger::{Answered, Message};

    #[test]
    fn only_calls_of_the_newest_leader_since_the_phase_began_count() {
        let mut plan = Plan::draw(1);
        plan.cast.insert(Role::Ledger, 1);
        let mut serve = LedgersServe::of(&plan);
        let message = |token, method| Message { ledger: 1, token: Token::new(0, token), number: 1, method };
        let answered = |token, form| {
            let (message, reply) = (message(token, Method::Append), Reply::Answered(Answered::At(0)));
            LedgerFact::Replied { message, reply, form, by: Sender::Leader, after: Duration::ZERO }.into()
        };
        let told = LedgerFact::Ran(Step { message: message(2, Method::Note), under: None, guard: None }).into();
        let on = |serve: &mut LedgersServe, fact: &Fact| serve.on(fact, Duration::ZERO).expect("it never objects");
        on(
            &mut serve,
            &Fact::Granted { election: ELECTION.into(), candidate: "a".into(), token: Token::new(0, 2), seq: 1 },
        );
        on(&mut serve, &answered(2, Form::Plain));
        assert_eq!(serve.missing(), None, "nothing is asked for");
        serve.phase(Phase::Healed, Duration::ZERO);
        on(&mut serve, &told);
        on(&mut serve, &answered(2, Form::Stream));
        on(&mut serve, &answered(1, Form::Plain));
        assert!(serve.missing().is_some_and(|missing| missing.contains("PlainCalls")), "that was an older leader");
        on(&mut serve, &answered(2, Form::Plain));
        assert_eq!(serve.missing(), None);
    }
}
