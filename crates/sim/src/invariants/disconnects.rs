//! Only who is gone is disconnected: a session that is released when its stream breaks is not released for a break that a node
//! brought about, its store leader's death or that of a node which relayed the stream, before its client has had the time to find
//! another way.

use std::collections::BTreeMap;
use std::time::Duration;

use palisade_coord_core::{EndReason, Op, Reply};

use super::Invariant;
use super::history::History;
use crate::facts::{Fact, Restoration};
use crate::plan::{Fault, Role, Who};

/// The time that a client has, less what a clock may be wrong in it.
const WINDOW: Duration = Duration::from_millis(2_900);

/// What any other trouble may set going is over after this.
const QUIET: Duration = Duration::from_millis(4_000);

#[derive(Default)]
pub(super) struct OnlyTheGoneAreDisconnected {
    history: History,
    /// Whose clients live and want them.
    kept: BTreeMap<u64, Who>,
    /// Troubles in force that may break a stream at the client's end, or on its way.
    troubles: usize,
    /// When the last of them began or ended.
    trouble: Option<Duration>,
    /// Nodes that are missing, and since when the first of them is: from some time on, it may have been too long.
    missing: usize,
    missed: Option<Duration>,
}

/// Whether all that a fault does is to end nodes: whoever hangs on them is not at fault.
fn ends_nodes(fault: &Fault) -> bool {
    match fault {
        Fault::Crash(who) => who.role == Role::Node,
        Fault::CrashAll | Fault::Restart(_) | Fault::Upgrade(_) | Fault::FailSync(_) => true,
        _ => false,
    }
}

/// Whether a fault leaves every stream alone.
fn is_harmless(fault: &Fault) -> bool {
    matches!(fault, Fault::ClockRate(..) | Fault::ClockJump(..) | Fault::FillFiles(_) | Fault::TransferStoreLeader(_))
}

impl OnlyTheGoneAreDisconnected {
    /// Whether somebody else than a node may be to blame at this time.
    fn is_excused(&self, at: Duration) -> bool {
        let troubled = self.troubles > 0 || self.trouble.is_some_and(|last| at < last + QUIET);
        troubled || self.missed.is_some_and(|since| at >= since + WINDOW)
    }
}

impl Invariant for OnlyTheGoneAreDisconnected {
    fn name(&self) -> &'static str {
        "only-the-gone-are-disconnected"
    }

    fn restored(&mut self, restoration: &Restoration) {
        self.history.restored(restoration);
        self.kept.clear();
    }

    fn on(&mut self, fact: &Fact, at: Duration) -> Result<(), String> {
        if let Some(applied) = self.history.next(fact) {
            let (Op::EndSession { session, why: EndReason::Disconnected, .. }, Ok(Reply::SessionEnded)) =
                (&applied.command.op, &applied.outcome.reply)
            else {
                return Ok(());
            };
            return match self.kept.remove(&session.get()) {
                Some(who) if !self.is_excused(at) => {
                    Err(format!("{who} lives, and its session {session} was released at {at:?}"))
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
            _ => {}
        }
        Ok(())
    }

    fn gone(&mut self, who: Who) {
        self.kept.retain(|_, by| *by != who);
    }

    fn fault(&mut self, fault: &Fault, begins: bool, at: Duration) {
        if is_harmless(fault) {
            return;
        }
        let count = if ends_nodes(fault) { &mut self.missing } else { &mut self.troubles };
        *count = if begins { *count + 1 } else { *count - 1 };
        if !ends_nodes(fault) {
            self.trouble = Some(at);
        } else if begins && self.missed.is_none_or(|since| at >= since + WINDOW + QUIET) {
            // One that comes while another is not forgotten gives nobody less time than the first.
            self.missed = Some(at);
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
        let at = |ms| Duration::from_millis(ms);
        let released = |before: &[Fact], fault: Fault, after: u64| {
            let mut gone = OnlyTheGoneAreDisconnected::default();
            gone.on(&Fact::SessionOpened { session: 7, by }, at(0)).expect("it lives");
            before.iter().for_each(|fact| gone.on(fact, at(1)).expect("nobody ends"));
            gone.fault(&fault, true, at(2_000));
            gone.fault(&fault, false, at(2_200));
            gone.on(&fact(ended(5, 7, EndReason::Disconnected, Some(1), None)), at(2_000 + after))
        };
        assert!(released(&[], Fault::Crash(Who::node(1)), 300).is_err(), "a node died, and not the client");
        assert!(released(&[], Fault::Crash(Who::node(1)), 3_000).is_ok(), "it had time to find another way");
        assert!(released(&[], Fault::Crash(by), 300).is_ok());
        assert!(released(&[], Fault::Pause(Who::node(1)), 300).is_ok(), "its client may have given the stream up");
        assert!(released(&[], Fault::ClockJump(by, 5), 300).is_err(), "nothing was wrong");
        let left = Fact::SessionLeft { session: 7 };
        assert!(released(&[left], Fault::CrashAll, 300).is_ok(), "nobody wants it");
    }
}
