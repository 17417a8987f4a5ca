//! Only the silent expire: a session whose client does all it should is not expired while the network is whole and the store
//! leader is the same, however long nodes stand still or wait for their disks. Who reaches the store through one node depends on that.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use palisade_coord_core::{EndReason, Event, Op, Reply, Wish};

use super::Invariant;
use super::history::History;
use crate::facts::{Fact, Restoration};
use crate::plan::{Fault, Plan, Role, Who};

/// The last trouble must be this long ago: longer than every TTL of the run, and than it takes to find a store leader.
const QUIET: Duration = Duration::from_millis(2_500);

#[derive(Default)]
pub(super) struct OnlyTheSilentExpire {
    history: History,
    /// Whose clients keep them alive.
    kept: BTreeMap<u64, Who>,
    /// Through which nodes somebody reaches the store.
    relays: BTreeSet<usize>,
    /// Troubles in force.
    troubles: usize,
    /// When the last one began or ended, or a store leader was elected.
    last: Duration,
}

impl OnlyTheSilentExpire {
    pub(super) fn new(plan: &Plan) -> OnlyTheSilentExpire {
        OnlyTheSilentExpire { relays: plan.behind.values().copied().collect(), ..Default::default() }
    }
}

/// What may keep a client's word from the store leader. That a node stands still, or waits, or has a wrong clock, may not.
fn is_trouble(fault: &Fault, relays: &BTreeSet<usize>) -> bool {
    match fault {
        Fault::Pause(who) => who.role != Role::Node || relays.contains(&who.number),
        Fault::SlowDisk(_) | Fault::ClockRate(..) | Fault::ClockJump(..) => false,
        Fault::Crash(_)
        | Fault::CrashAll
        | Fault::Restart(_)
        | Fault::Cut(..)
        | Fault::Lag(..)
        | Fault::FailSync(_)
        | Fault::FillDisk(_)
        | Fault::LowDisk(_)
        | Fault::FillFiles(_)
        | Fault::Wipe(_)
        | Fault::TransferStoreLeader(_)
        | Fault::Restore(_)
        | Fault::Revive(_)
        | Fault::Upgrade(_) => true,
    }
}

impl Invariant for OnlyTheSilentExpire {
    fn name(&self) -> &'static str {
        "only-the-silent-expire"
    }

    fn restored(&mut self, restoration: &Restoration) {
        self.history.restored(restoration);
        self.kept.clear();
    }

    fn on(&mut self, fact: &Fact, at: Duration) -> Result<(), String> {
        if let Some(applied) = self.history.next(fact) {
            for event in &applied.outcome.events {
                // Whatever its client does, it is renewed no more.
                if let Event::SessionAsked { session, wish: Wish::StopRenewing } = event {
                    self.kept.remove(&session.get());
                }
            }
            let (Op::EndSession { session, why: EndReason::Expired, .. }, Ok(Reply::SessionEnded)) =
                (&applied.command.op, &applied.outcome.reply)
            else {
                return Ok(());
            };
            return match self.kept.remove(&session.get()) {
                Some(who) if self.troubles == 0 && at >= self.last + QUIET => {
                    Err(format!("{who} kept session {session} alive, and it expired at {at:?}"))
                }
                Some(_) | None => Ok(()),
            };
        }
        match fact {
            Fact::SessionOpened { session, by } => {
                self.kept.insert(*session, *by);
            }
            Fact::SessionLeft { session } => {
                self.kept.remove(session);
            }
            Fact::LeadsStore { .. } => self.last = at,
            _ => {}
        }
        Ok(())
    }

    fn gone(&mut self, who: Who) {
        self.kept.retain(|_, by| *by != who);
    }

    fn fault(&mut self, fault: &Fault, begins: bool, at: Duration) {
        if is_trouble(fault, &self.relays) {
            self.troubles = if begins { self.troubles + 1 } else { self.troubles - 1 };
            self.last = at;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::history::tests::{ended, fact};
    use super::*;

    #[test]
    fn it_can_object() {
        let by = Who { role: Role::Candidate, number: 1 };
        let expires = |before: &[Fact], fault: Fault| {
            let mut silent = OnlyTheSilentExpire::default();
            silent.on(&Fact::SessionOpened { session: 7, by }, Duration::ZERO).expect("it lives");
            before.iter().for_each(|fact| silent.on(fact, QUIET).expect("nobody ends"));
            silent.fault(&fault, true, QUIET * 2);
            silent.fault(&fault, false, QUIET * 2);
            silent.on(&fact(ended(5, 7, EndReason::Expired, Some(1), None)), QUIET * 2)
        };
        assert!(expires(&[], Fault::Pause(Who::node(1))).is_err(), "the node slept, not the client");
        assert!(expires(&[], Fault::Pause(by)).is_ok());
        assert!(expires(&[], Fault::CrashAll).is_ok());
        let left = Fact::SessionLeft { session: 7 };
        assert!(expires(&[left], Fault::Pause(Who::node(1))).is_ok(), "nobody kept it alive");
    }
}
