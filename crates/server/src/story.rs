//! Tells in the log what becomes of elections and sessions, so that a failover can be read as a story: who led under which
//! token, what ended it, who leads now. It changes nothing.
//!
//! The store leader tells at level `info`, the others at `debug`: each event is told once in a cluster. The fields are those
//! of the operator's page. However much happens, only so many lines are written; how many were left out is told and counted.

use std::sync::Arc;
use std::time::Duration;

use palisade_coord_core::{EndReason, Event, Grant};
use palisade_replica::{Replica, ReplicaStatus};
use palisade_world::{Task, World};
use tokio::sync::watch;

use crate::hub::{Applied, Subscription};
use crate::machine::CoordMachine;
use crate::metrics::NodeMetrics;

/// Lines at once: the hand-over of everything that a process with a hundred leaderships held.
const BURST: u32 = 200;

/// Lines per second after that: a person reads fewer, and a disk does not notice.
const PER_SECOND: u32 = 20;

/// Starts telling.
pub(crate) fn start(
    node_id: u64,
    replica: &Replica<CoordMachine>,
    machine: &Arc<CoordMachine>,
    world: &World,
) -> Task<()> {
    let teller = Teller { node: node_id, status: replica.status(), metrics: Arc::clone(machine.metrics()) };
    let (hub, clock) = (Arc::clone(machine.hub()), world.clone());
    world.spawn("story", async move {
        let mut pace = Pace::new(clock.now());
        let mut events = hub.subscribe();
        loop {
            match next(&mut events, &pace, &clock).await {
                Next::Applied(applied) => teller.applied(&applied, &mut pace, clock.now()),
                Next::Time => {}
                // Cut off: the state has jumped, so many things happened, or the node stops.
                Next::CutOff if hub.is_closed() => return,
                Next::CutOff => events = hub.subscribe(),
            }
            if let Some(lines) = pace.left_out(clock.now()) {
                teller.metrics.untold.add(lines);
                tracing::info!(node = teller.node, lines, "more changes of elections and sessions than are told here");
            }
        }
    })
}

enum Next {
    Applied(Arc<Applied>),
    /// Something was left out and may be told of now.
    Time,
    CutOff,
}

async fn next(events: &mut Subscription, pace: &Pace, world: &World) -> Next {
    let applied = async { events.next().await.map_or(Next::CutOff, Next::Applied) };
    if pace.owes == 0 {
        return applied.await;
    }
    world.timeout(Duration::from_secs(1), applied).await.unwrap_or(Next::Time)
}

struct Teller {
    node: u64,
    status: watch::Receiver<ReplicaStatus>,
    metrics: Arc<NodeMetrics>,
}

/// Says it at `info` on the store leader, at `debug` elsewhere.
macro_rules! tell {
    ($leads:expr, $($line:tt)*) => {
        if $leads { tracing::info!($($line)*) } else { tracing::debug!($($line)*) }
    };
}

impl Teller {
    fn applied(&self, applied: &Applied, pace: &mut Pace, now: Duration) {
        let (leads, term) = {
            let status = self.status.borrow();
            (status.leadership.is_some(), status.term)
        };
        if !leads && !tracing::enabled!(tracing::Level::DEBUG) {
            return;
        }
        for event in &applied.events {
            if is_told(event) && pace.may_tell(now) {
                self.event(leads, term, applied, event);
            }
        }
    }

    fn event(&self, leads: bool, term: u64, applied: &Applied, event: &Event) {
        let (node, cluster, seq) = (self.node, applied.cluster, applied.seq.get());
        match event {
            Event::Elected { grant, previous } => {
                let Grant { election, candidate, session, token, value, .. } = grant;
                let (previous, why) =
                    previous.map_or((None, "vacant"), |(token, why)| (Some(token.get()), why.as_str()));
                tell!(
                    leads,
                    node,
                    %cluster,
                    term,
                    seq,
                    election,
                    token = token.get(),
                    candidate,
                    session = session.get(),
                    previous,
                    why,
                    address = value.address,
                    "a candidate leads"
                );
            }
            Event::Vacant { election, previous, why } => {
                let previous = previous.get();
                tell!(leads, node, %cluster, term, seq, election, previous, %why, "nobody leads");
            }
            Event::EndRequested { session, election, hand_over, .. } => {
                let (token, to) = (hand_over.token.get(), hand_over.to.as_deref());
                tell!(leads, node, %cluster, term, seq, election, token, session = session.get(), to, "the holder is asked to end its leadership");
            }
            Event::SessionEnded { session, why } => {
                tell!(leads, node, %cluster, term, seq, session = session.get(), %why, "a session ended");
            }
            Event::ValueChanged { .. }
            | Event::Revoked { .. }
            | Event::Withdrawn { .. }
            | Event::SessionAsked { .. }
            | Event::KeyChanged { .. } => {}
        }
    }
}

/// What a person wants to read: who leads, and what ended by itself. What a client ends in order is everyday.
fn is_told(event: &Event) -> bool {
    match event {
        Event::Elected { .. } | Event::Vacant { .. } | Event::EndRequested { .. } => true,
        Event::SessionEnded { why, .. } => *why != EndReason::Closed,
        Event::ValueChanged { .. }
        | Event::Revoked { .. }
        | Event::Withdrawn { .. }
        | Event::SessionAsked { .. }
        | Event::KeyChanged { .. } => false,
    }
}

/// How many lines may be written now.
#[derive(Debug)]
struct Pace {
    /// Lines that may be written at once.
    room: u32,
    /// When room was last added.
    at: Duration,
    /// Lines that were left out and not told of.
    owes: u64,
}

impl Pace {
    fn new(now: Duration) -> Pace {
        Pace { room: BURST, at: now, owes: 0 }
    }

    /// Whether a line may be written; if not, it is owed.
    fn may_tell(&mut self, now: Duration) -> bool {
        self.refill(now);
        if self.room == 0 {
            self.owes += 1;
            return false;
        }
        self.room -= 1;
        true
    }

    /// How many were left out, once there is room to say so.
    fn left_out(&mut self, now: Duration) -> Option<u64> {
        self.refill(now);
        if self.owes == 0 || self.room < PER_SECOND {
            return None;
        }
        self.room -= 1;
        Some(std::mem::take(&mut self.owes))
    }

    fn refill(&mut self, now: Duration) {
        let seconds = now.saturating_sub(self.at).as_secs();
        if seconds > 0 {
            self.at += Duration::from_secs(seconds);
            let more = PER_SECOND.saturating_mul(u32::try_from(seconds).unwrap_or(u32::MAX));
            self.room = self.room.saturating_add(more).min(BURST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_to_its_first_lines_and_what_was_left_out_is_told() {
        let at = |seconds| Duration::from_secs(seconds);
        let mut pace = Pace::new(at(100));
        let told = (0..10_000).filter(|_| pace.may_tell(at(100))).count();
        assert_eq!(told, BURST as usize);
        assert_eq!(pace.left_out(at(100)), None, "there is no room to say so yet");
        assert_eq!(pace.left_out(at(101)), Some(10_000 - u64::from(BURST)));
        assert_eq!(pace.left_out(at(102)), None, "it is told once");
        let told = (0..10_000).filter(|_| pace.may_tell(at(102))).count();
        assert_eq!(told, 2 * PER_SECOND as usize - 1);
    }

    #[test]
    fn an_orderly_end_of_a_session_is_no_news() {
        let ended = |why| Event::SessionEnded { session: palisade_coord_core::SessionId(1), why };
        assert!(!is_told(&ended(EndReason::Closed)));
        assert!(is_told(&ended(EndReason::Expired)) && is_told(&ended(EndReason::Disconnected)));
    }
}
