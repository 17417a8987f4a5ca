//! Ends: a session whose time has come is proposed to end, conditional on what the decision rested on; until the fate is
//! known its renewals are held.

use std::time::Duration;

use palisade_coord_core::{AttachGeneration, SessionId};
use palisade_planted::{self as planted, Bug};

use crate::leading::Leading;
use crate::sessions::{Due, Ending};
use crate::{Effect, Fate, NotRenewed, Ticket};

impl Leading {
    /// Proposes the end of everybody whose time has come.
    pub(crate) fn end_due(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        if !self.may_end() {
            return;
        }
        while let Some(due) = self.sessions.take_due(now) {
            self.propose_end(due, effects);
        }
    }

    fn propose_end(&mut self, due: Due, effects: &mut Vec<Effect>) {
        let Due { session: id, why, attach } = due;
        self.last_ticket = Ticket(self.last_ticket.0 + 1);
        let ticket = self.last_ticket;
        let session = self.sessions.get_mut(id).expect("what is due is known");
        let ending = session.ending.get_or_insert(Ending { ticket: None, why, attach, held: Vec::new() });
        ending.ticket = Some(ticket);
        effects.push(Effect::ProposeEnd { ticket, session: id, why, only_if: condition(attach) });
    }

    pub(crate) fn end_decided(
        &mut self,
        id: SessionId,
        ticket: Ticket,
        fate: Fate,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        let Some(ending) = session.ending.as_mut().filter(|ending| ending.ticket == Some(ticket)) else { return };
        match fate {
            Fate::Ended => self.sessions.ended(id),
            Fate::Unknown => {
                // Repeating is harmless, because of the condition; its renewals stay held.
                ending.ticket = None;
                self.sessions.schedule_repeat(id, now + self.timings.repeat_end);
            }
            Fate::NotApplied => {
                // Too much waits, or the disk is full: not again at once.
                session.put_off(now + self.timings.repeat_end);
                self.release_held(id, effects);
            }
            Fate::AttachChanged { attach } => {
                let unheard_of = attach > session.attach;
                session.attach = session.attach.max(attach);
                self.release_held(id, effects);
                if unheard_of {
                    // Somebody attached it, and whoever asked for that had no answer: it has its time anew.
                    self.sessions.anew(id, now);
                }
            }
        }
    }

    /// It lives: the renewals that waited take effect, and its deadlines count again.
    fn release_held(&mut self, id: SessionId, effects: &mut Vec<Effect>) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        let Some(ending) = session.ending.take() else { return };
        for (stream, call, at) in ending.held {
            if session.stream != Some(stream) {
                continue;
            }
            if session.is_renewed() {
                session.renew(at);
                effects.push(Effect::AckKeepAlive { stream, call, sessions: vec![id] });
            } else {
                effects.push(Effect::RefuseKeepAlive { stream, call, session: id, why: NotRenewed::EndAsked });
            }
        }
        self.sessions.schedule(id);
    }
}

fn condition(attach: AttachGeneration) -> Option<AttachGeneration> {
    if planted::is(Bug::ExpireWithoutCondition) {
        return None;
    }
    Some(attach)
}
