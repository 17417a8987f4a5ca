//! One link between two nodes that is cut, with nothing else wrong, deposes nobody: neither the store leader nor a holder, unless he
//! reaches the store leader over that link alone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use palisade_coord_core::{Event, SessionId};
use palisade_fence::Token;

use super::Invariant;
use super::history::History;
use crate::facts::{Applied, Fact, Restoration};
use crate::plan::{Fault, Pattern, Plan, Role, Who};

/// The last trouble must be this long ago: what it set going must be over.
const QUIET: Duration = Duration::from_millis(1_500);

#[derive(Default)]
pub(super) struct OneLinkDeposesNobody {
    /// Faults in force.
    faults: usize,
    /// When the last trouble ended or a store leader was elected.
    trouble: Duration,
    wiped: bool,
    /// A link is cut and nothing else is wrong.
    alone: bool,
    /// When the link was whole again: what it set going may show only now.
    mended: Option<Duration>,
    history: History,
    /// Leaderships that somebody ended from outside.
    removed: BTreeSet<Token>,
    /// Who reaches the store through one node only.
    behind: BTreeMap<Who, usize>,
    /// The ends of the link.
    ends: [usize; 2],
    /// The session of each leadership.
    held_by: BTreeMap<Token, SessionId>,
    /// Sessions whose end somebody asked for: all that they hold goes with them.
    asked: BTreeSet<SessionId>,
}

impl OneLinkDeposesNobody {
    pub(super) fn new(plan: &Plan) -> OneLinkDeposesNobody {
        OneLinkDeposesNobody { behind: plan.behind.clone(), ..Default::default() }
    }

    /// Whether this candidate may have no way to the store leader but that link.
    fn depends(&self, candidate: &str) -> bool {
        self.behind.iter().any(|(who, node)| who.has_name(candidate) && self.ends.contains(node))
    }

    fn is_to_blame(&self, at: Duration) -> bool {
        self.alone || self.mended.is_some_and(|mended| at < mended + QUIET)
    }

    /// Whether somebody from outside ended this leadership, or asked for the end of its session.
    fn was_taken(&self, token: Token) -> bool {
        self.removed.contains(&token) || self.held_by.get(&token).is_some_and(|session| self.asked.contains(session))
    }

    fn learn(&mut self, applied: &Applied) {
        if applied.guard_of_outsider().is_some() {
            self.removed.extend(applied.changes().filter_map(|change| Some(change.ended?.0)));
        }
        for event in &applied.outcome.events {
            if let Event::Elected { grant, .. } = event {
                self.held_by.insert(grant.token, grant.session);
            }
            if let Event::SessionAsked { session, .. } = event {
                self.asked.insert(*session);
            }
        }
    }
}

impl Invariant for OneLinkDeposesNobody {
    fn name(&self) -> &'static str {
        "one-link-deposes-nobody"
    }

    fn restored(&mut self, restoration: &Restoration) {
        self.history.restored(restoration);
    }

    fn fault(&mut self, fault: &Fault, begins: bool, at: Duration) {
        let ends = match fault {
            Fault::Cut(Pattern::Link(one, other), _) if [one, other].iter().all(|it| it.role == Role::Node) => {
                Some([one.number, other.number])
            }
            _ => None,
        };
        // A clock that is a little wrong is no trouble, and what hangs on the wall concerns nobody.
        if matches!(fault, Fault::ClockRate(..) | Fault::ClockJump(..)) {
            return;
        }
        // A node that lost its store is missing for good.
        self.wiped |= matches!(fault, Fault::Wipe(_));
        self.mended = (self.alone && !begins).then_some(at);
        self.alone = !self.wiped && begins && ends.is_some() && self.faults == 0 && at >= self.trouble + QUIET;
        if self.alone {
            self.ends = ends.unwrap_or_default();
        }
        self.faults = if begins { self.faults + 1 } else { self.faults - 1 };
        self.trouble = at;
    }

    fn on(&mut self, fact: &Fact, at: Duration) -> Result<(), String> {
        if let Some(applied) = self.history.next(fact) {
            self.learn(applied);
        }
        match fact {
            Fact::LeadsStore { term, node } if self.is_to_blame(at) => {
                Err(format!("node {node} was elected in term {term} although only one link was cut"))
            }
            Fact::Lost { candidate, token, .. }
                if self.is_to_blame(at) && !self.was_taken(*token) && !self.depends(candidate) =>
            {
                Err(format!("{candidate} lost its leadership although only one link was cut"))
            }
            // Somebody moves the store's leadership, or a node through which somebody is served.
            Fact::ReshapeAsked => {
                (self.alone, self.mended, self.trouble) = (false, None, at);
                Ok(())
            }
            Fact::LeadsStore { .. } => {
                self.trouble = at;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use palisade_coord_core::{Guard, Op, Reply, Wish};

    use super::super::history::tests::{applied, campaigned, fact};
    use super::*;
    use crate::plan::Cut;

    #[test]
    fn it_can_object() {
        let link = Fault::Cut(Pattern::Link(Who::node(1), Who::node(2)), Cut::Drop);
        let elected = Fact::LeadsStore { term: 2, node: 2 };
        let at = |seconds| Duration::from_secs(seconds);
        let mut alone = OneLinkDeposesNobody::default();
        assert!(alone.on(&elected, at(1)).is_ok());
        alone.fault(&link, true, at(2));
        assert!(alone.on(&elected, at(3)).is_ok(), "the election before had only just happened");
        alone.fault(&link, false, at(4));
        alone.fault(&link, true, at(9));
        assert!(alone.on(&elected, at(10)).is_err());
        alone.fault(&link, false, at(11));
        assert!(alone.on(&elected, at(12)).is_err(), "the node that was cut off came back and deposed it");
        alone.fault(&Fault::CrashAll, true, at(12));
        assert!(alone.on(&elected, at(12)).is_ok(), "something else is wrong, too");
    }

    #[test]
    fn whose_session_somebody_asked_to_end_was_not_deposed_by_a_link() {
        let link = Fault::Cut(Pattern::Link(Who::node(1), Who::node(2)), Cut::Drop);
        let at = |seconds| Duration::from_secs(seconds);
        let lost = |token| Fact::Lost { election: "e".into(), candidate: "c".into(), token: Token::new(0, token) };
        let mut alone = OneLinkDeposesNobody::default();
        alone.fault(&link, true, at(2));
        for (seq, session) in [(1, 7), (2, 8)] {
            let token = u32::try_from(seq).unwrap();
            assert!(alone.on(&fact(campaigned(seq, &format!("e{seq}"), session, token)), at(2)).is_ok());
        }
        let session = SessionId(7);
        let op = Op::CloseSession { session, guard: Guard::AskAndStopRenewing };
        let asked = Event::SessionAsked { session, wish: Wish::StopRenewing };
        let reply = Ok(Reply::Requested { session });
        assert!(alone.on(&fact(applied(3, op, reply, vec![asked])), at(3)).is_ok());
        assert!(alone.on(&lost(1), at(4)).is_ok());
        assert!(alone.on(&lost(2), at(4)).is_err(), "nobody asked that one");
    }
}
