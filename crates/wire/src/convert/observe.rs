//! Elections as observers are told of them.

use palisade_coord_core::{Event, Grant, Seq};

use super::answer::grant;
use crate::coord::v1::{self, observe_event};

/// Why an observer cannot go on from where it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gap {
    /// What followed is no longer kept.
    Compacted,
    /// The cluster was restored since.
    Generation,
    /// The cluster has not come so far.
    Ahead,
}

impl Gap {
    /// The word that is sent.
    pub fn as_str(self) -> &'static str {
        match self {
            Gap::Compacted => "compacted",
            Gap::Generation => "generation",
            Gap::Ahead => "ahead",
        }
    }
}

/// The first message to an observer that does not go on from where it was.
pub fn observed_state(header: v1::Header, leader: Option<&Grant>) -> v1::ObserveReply {
    v1::ObserveReply { header: Some(header), events: vec![state(leader)] }
}

/// What is told instead of what followed: that it is not known, and the present state.
pub fn observed_gap(header: v1::Header, why: Gap, complete_after: Seq, leader: Option<&Grant>) -> v1::ObserveReply {
    let gap = observe_event::Gap { why: why.as_str().to_owned(), complete_after_seq: complete_after.get() };
    let gap = v1::ObserveEvent { kind: Some(observe_event::Kind::Gap(gap)) };
    v1::ObserveReply { header: Some(header), events: vec![gap, state(leader)] }
}

fn state(leader: Option<&Grant>) -> v1::ObserveEvent {
    let kind = observe_event::Kind::State(observe_event::State { leader: leader.map(grant) });
    v1::ObserveEvent { kind: Some(kind) }
}

/// What the observers of one election are told of the events of one command; `None`: nothing.
pub fn observed_events(header: v1::Header, election: &str, events: &[Event]) -> Option<v1::ObserveReply> {
    let events: Vec<_> = events.iter().filter_map(|event| observe_event(election, event)).collect();
    (!events.is_empty()).then_some(v1::ObserveReply { header: Some(header), events })
}

fn observe_event(observed: &str, event: &Event) -> Option<v1::ObserveEvent> {
    use observe_event::Kind;
    let kind = match event {
        Event::Elected { grant: granted, previous } if granted.election == observed => {
            Kind::Elected(observe_event::Elected {
                leader: Some(grant(granted)),
                previous_token: previous.map_or(0, |(token, _)| token.get()),
                why: previous.map_or(String::new(), |(_, why)| why.to_string()),
            })
        }
        Event::ValueChanged { grant: granted } if granted.election == observed => {
            Kind::ValueChanged(observe_event::ValueChanged { leader: Some(grant(granted)) })
        }
        Event::Vacant { election, previous, why } if election == observed => {
            Kind::Vacant(observe_event::Vacant { previous_token: previous.get(), why: why.to_string() })
        }
        Event::Elected { .. }
        | Event::ValueChanged { .. }
        | Event::Vacant { .. }
        | Event::Revoked { .. }
        | Event::Withdrawn { .. }
        | Event::EndRequested { .. }
        | Event::SessionAsked { .. }
        | Event::SessionEnded { .. }
        | Event::KeyChanged { .. } => return None,
    };
    Some(v1::ObserveEvent { kind: Some(kind) })
}
