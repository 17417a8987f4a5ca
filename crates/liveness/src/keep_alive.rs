//! Keep-alives: they wait for a quorum round that began after they arrived, and for the fate of an end that is in flight.

use std::time::Duration;

use palisade_coord_core::SessionId;
use palisade_planted::{self as planted, Bug};

use crate::leading::Leading;
use crate::rounds::Arrived;
use crate::{Effect, NotRenewed, StreamId};

/// Confirmed renewals of one session that wait for the fate of its end. A client renews a few times per TTL and an end takes
/// a few milliseconds; what is dropped is the oldest, which a later one covers.
const MAX_HELD: usize = 4;

impl Leading {
    pub(crate) fn keep_alive(
        &mut self,
        stream: StreamId,
        call: u64,
        sessions: Vec<SessionId>,
        now: Duration,
        effects: &mut Vec<Effect>,
    ) {
        let (mut here, mut elsewhere) = (Vec::with_capacity(sessions.len()), Vec::new());
        for id in sessions {
            match self.sessions.get_mut(id) {
                Some(session) if session.stream == Some(stream) => {
                    session.unconfirmed += 1;
                    here.push(id);
                }
                _ => elsewhere.push(id),
            }
        }
        let keep_alive = Arrived { stream, call, at: now, here, elsewhere };
        if planted::is(Bug::AckWithoutQuorumRound) {
            return self.renew(keep_alive, effects);
        }
        self.rounds.arrived(keep_alive);
        self.begin_round_if_wanted(now, effects);
    }

    /// Renews what a keep-alive names, now that a round has confirmed this node after it arrived.
    pub(crate) fn renew(&mut self, keep_alive: Arrived, effects: &mut Vec<Effect>) {
        let Arrived { stream, call, at, here, elsewhere } = keep_alive;
        let (mut renewed, mut refused) = (Vec::with_capacity(here.len()), Vec::new());
        for id in here {
            // One that has ended meanwhile was told of on its stream.
            let Some(session) = self.sessions.get_mut(id) else { continue };
            if session.stream != Some(stream) {
                // It left for a newer stream and renews there; whoever waits for this answer alone is told.
                refused.extend(session.stream.map(|_| (id, NotRenewed::NotAttachedHere)));
                continue;
            }
            session.unconfirmed = session.unconfirmed.saturating_sub(1);
            if session.is_renewed() {
                renewed.extend(self.renew_one(id, stream, call, at));
            } else {
                refused.push((id, NotRenewed::EndAsked));
            }
        }
        for id in elsewhere {
            match self.sessions.get_mut(id) {
                None => refused.push((id, NotRenewed::Ended)),
                Some(session) if session.stream == Some(stream) && !session.is_renewed() => {
                    refused.push((id, NotRenewed::EndAsked));
                }
                // It was attached here after the keep-alive arrived.
                Some(session) if session.stream == Some(stream) => {
                    renewed.extend(self.renew_one(id, stream, call, at));
                }
                // Its attach may have been sent just before the keep-alive: the next one will tell.
                Some(session) if session.attaching > 0 => {}
                Some(_) => refused.push((id, NotRenewed::NotAttachedHere)),
            }
        }
        effects.push(Effect::AckKeepAlive { stream, call, sessions: renewed });
        for (session, why) in refused {
            effects.push(Effect::RefuseKeepAlive { stream, call, session, why });
        }
    }

    /// `None`: an end of it is in flight, and the renewal waits for the fate.
    fn renew_one(&mut self, id: SessionId, stream: StreamId, call: u64, at: Duration) -> Option<SessionId> {
        let session = self.sessions.get_mut(id)?;
        if let Some(ending) = &mut session.ending {
            if ending.held.len() == MAX_HELD {
                ending.held.remove(0);
            }
            ending.held.push((stream, call, at));
            return None;
        }
        session.renew(at);
        if session.is_unscheduled() {
            self.sessions.schedule(id);
        }
        Some(id)
    }
}
