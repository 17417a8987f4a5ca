//! Where each session is attached, and the order of what it is told. It sends nothing itself.
//!
//! The outcome of a command and the events of later commands come on two ways, and the events are usually quicker. While a
//! command of a session is under way, its events are therefore held: those before the command's `seq` are told before the
//! answer, the others after it.
//!
//! Keeps true: what a session is told is in the order of `seq`; it is told nothing that its last attach has told it.

use std::collections::BTreeMap;

use palisade_coord_core::{AttachGeneration, Event, Seq, SessionId};
use palisade_liveness::StreamId;
use palisade_wire::coord::v1::Header;

/// Events of one session that are held: what ends with the largest session is 1,024 leaderships.
const MAX_HELD: usize = 4_096;

/// An event with the header that it is told with.
pub(super) type Told = (Header, Event);

#[derive(Debug, Default)]
struct Slot {
    /// The stream of its last attach here; that stream may be gone.
    stream: Option<StreamId>,
    attach: AttachGeneration,
    /// What came of the commands up to this one, the stream has been told.
    told: Seq,
    /// Commands under way. While there are none, nothing is held.
    under_way: usize,
    held: Vec<Told>,
    overflow: Overflow,
}

/// Whether more came than can be held.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Overflow {
    #[default]
    No,
    /// What was held is dropped, but for the session's end. Its stream is closed, and the next attach is told what came of it.
    Yes,
}

/// What to do with an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Offered {
    /// It is held.
    Held,
    /// Tell it now.
    Now,
}

/// What is to be done when a command of a session has its answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Released {
    /// To be told after it: nothing, while there are more commands.
    pub(super) events: Vec<Told>,
    /// This stream was not told everything, and must be closed.
    pub(super) untold: Option<StreamId>,
}

#[derive(Debug, Default)]
pub(super) struct Slots {
    all: BTreeMap<SessionId, Slot>,
}

impl Slots {
    /// Whether a frame about this session may come through this stream: it is attached there, or may just be attached.
    pub(super) fn may_use(&self, session: SessionId, stream: StreamId) -> bool {
        self.all.get(&session).is_some_and(|slot| slot.stream == Some(stream) || slot.under_way > 0)
    }

    /// The stream that the session is attached to, which may be gone.
    pub(super) fn stream_of(&self, session: SessionId) -> Option<StreamId> {
        self.all.get(&session)?.stream
    }

    /// A command of this session is on its way.
    pub(super) fn begin(&mut self, session: SessionId) {
        self.all.entry(session).or_default().under_way += 1;
    }

    /// An event of this session came.
    pub(super) fn offer(&mut self, session: SessionId, header: Header, event: &Event) -> Offered {
        match self.all.get_mut(&session) {
            Some(slot) if slot.under_way > 0 => {
                if slot.held.len() >= MAX_HELD {
                    slot.held.clear();
                    slot.overflow = Overflow::Yes;
                }
                if slot.overflow == Overflow::No || matches!(event, Event::SessionEnded { .. }) {
                    slot.held.push((header, event.clone()));
                }
                Offered::Held
            }
            Some(_) | None => Offered::Now,
        }
    }

    /// A command of this session has its outcome: what to tell before the answer. `None`: its place is not known, and
    /// nothing is told before it.
    pub(super) fn before(&mut self, session: SessionId, seq: Option<Seq>) -> Vec<Told> {
        let (Some(slot), Some(seq)) = (self.all.get_mut(&session), seq) else { return Vec::new() };
        let split = slot.held.partition_point(|(header, _)| header.seq < seq.get());
        slot.held.drain(..split).collect()
    }

    /// Its answer is sent: what to tell after it.
    pub(super) fn finish(&mut self, session: SessionId) -> Released {
        let Some(slot) = self.all.get_mut(&session) else { return Released::default() };
        slot.under_way = slot.under_way.saturating_sub(1);
        let untold = match slot.overflow {
            Overflow::No => None,
            Overflow::Yes => slot.stream.take(), // also one that came meanwhile
        };
        if slot.under_way > 0 {
            return Released { events: Vec::new(), untold };
        }
        let events = std::mem::take(&mut slot.held);
        slot.overflow = Overflow::No;
        if slot.stream.is_none() {
            self.all.remove(&session);
        }
        Released { events, untold }
    }

    /// The session is attached to a stream, and told of everything up to `seq`. An older attach changes nothing.
    pub(super) fn attached(&mut self, session: SessionId, attach: AttachGeneration, stream: StreamId, seq: Seq) {
        let slot = self.all.entry(session).or_default();
        if attach > slot.attach {
            (slot.stream, slot.attach, slot.told) = (Some(stream), attach, seq);
        }
    }

    /// The stream to tell of an event of the command `seq`; `None`: there is none, or it knows.
    pub(super) fn stream_to_tell(&self, session: SessionId, seq: u64) -> Option<StreamId> {
        let slot = self.all.get(&session)?;
        if seq > slot.told.get() { slot.stream } else { None }
    }

    /// The session has ended: nothing more will be told.
    pub(super) fn ended(&mut self, session: SessionId) {
        if let Some(slot) = self.all.get_mut(&session) {
            slot.stream = None;
            if slot.under_way == 0 {
                self.all.remove(&session);
            }
        }
    }

    /// All streams are closed by this node. Commands that are under way still are: forgetting them would let the outcome of
    /// one of them release, to nobody, what is held for an attach that comes after.
    pub(super) fn close_all(&mut self) {
        self.all.retain(|_, slot| slot.under_way > 0);
        for slot in self.all.values_mut() {
            slot.stream = None;
            slot.held.clear(); // the next attach is told what came of it
            slot.overflow = Overflow::No;
        }
    }
}

#[cfg(test)]
mod tests {
    use palisade_coord_core::{EndReason, Wish};

    use super::*;

    /// Found by seed 93 of the simulation: a grant that nobody was told of, and a candidate that waited for ever.
    #[test]
    fn an_attach_of_before_the_streams_were_closed_releases_nothing_of_the_next() {
        let mut slots = Slots::default();
        let (session, stream) = (SessionId(9), StreamId(4));
        slots.begin(session); // an attach without a quorum
        slots.close_all();
        slots.begin(session); // an attach through another stream
        let event = Event::SessionEnded { session, why: EndReason::Closed };
        let header = Header { seq: 240, ..Header::default() };
        assert_eq!(slots.offer(session, header, &event), Offered::Held);

        assert!(slots.before(session, Some(Seq(238))).is_empty());
        assert_eq!(slots.finish(session), Released::default(), "it is held for the second attach");
        assert!(slots.before(session, Some(Seq(239))).is_empty());
        slots.attached(session, AttachGeneration(3), stream, Seq(239));
        assert_eq!(slots.finish(session).events.len(), 1);
        assert_eq!(slots.stream_to_tell(session, 240), Some(stream));
    }

    #[test]
    fn a_session_with_more_news_than_can_be_held_loses_its_stream_and_keeps_its_end() {
        let mut slots = Slots::default();
        let (flooded, other, stream) = (SessionId(9), SessionId(10), StreamId(4));
        for session in [flooded, other] {
            slots.begin(session);
            slots.begin(session);
            slots.attached(session, AttachGeneration(1), stream, Seq(1));
        }
        let asked = Event::SessionAsked { session: flooded, wish: Wish::Close };
        for seq in 0..=MAX_HELD as u64 {
            assert_eq!(slots.offer(flooded, Header { seq: seq + 2, ..Header::default() }, &asked), Offered::Held);
        }
        let ended = Event::SessionEnded { session: flooded, why: EndReason::Closed };
        slots.offer(flooded, Header { seq: 9_000, ..Header::default() }, &ended);
        // It is closed with the first answer, not when the session happens to ask nothing.
        assert_eq!(slots.finish(flooded), Released { events: Vec::new(), untold: Some(stream) });
        let Released { events, untold } = slots.finish(flooded);
        let seqs: Vec<_> = events.iter().map(|(header, _)| header.seq).collect();
        assert_eq!((seqs, untold), (vec![9_000], None));
        assert_eq!(slots.finish(other).untold, None);
    }
}
