//! What the state keeps of the past of elections: who led, for people ([`Reign`]), and what observers were told, so that they
//! can resume ([`Told`]). Nothing is decided by it.

use palisade_fence::Token;

use crate::command::EndReason;
use crate::elections::Ended;
use crate::ledger::{Bounds, Weigh};
use crate::limits::{
    MAX_REIGN_BYTES, MAX_REIGNS, MAX_REIGNS_PER_ELECTION, MAX_TOLD, MAX_TOLD_BYTES, MAX_TOLD_PER_ELECTION,
    RECORD_SHARE_BYTES,
};
use crate::outcome::{Event, Grant};
use crate::{Revision, Seq, SessionId, State, elections};

/// A leadership that has ended. The `seq` of its record is the command that ended it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reign {
    /// Its fencing token.
    pub token: Token,
    /// Who held it.
    pub candidate: String,
    /// The session that it lived with.
    pub session: SessionId,
    /// The command that granted it.
    pub since: Seq,
    /// The proposer's wall clock at that command.
    pub since_unix_ms: u64,
    /// The proposer's wall clock at the command that ended it; clocks differ, so it may be before the other.
    pub until_unix_ms: u64,
    /// Why it ended.
    pub why: EndReason,
}

/// What the observers of an election were told of a command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Told {
    /// After the command.
    pub revision: Revision,
    /// [`Event::Elected`], [`Event::ValueChanged`] or [`Event::Vacant`].
    pub event: Event,
}

pub(crate) const HISTORY: Bounds =
    Bounds { per_election: MAX_REIGNS_PER_ELECTION, in_all: MAX_REIGNS, bytes: MAX_REIGN_BYTES };

pub(crate) const TOLD: Bounds = Bounds { per_election: MAX_TOLD_PER_ELECTION, in_all: MAX_TOLD, bytes: MAX_TOLD_BYTES };

impl Weigh for Reign {
    fn weight(&self) -> u64 {
        RECORD_SHARE_BYTES + self.candidate.len() as u64
    }
}

impl Weigh for Told {
    fn weight(&self) -> u64 {
        let grant = |grant: &Grant| elections::weight(&grant.election, &grant.candidate, &grant.value);
        match &self.event {
            Event::Elected { grant: it, .. } | Event::ValueChanged { grant: it } => RECORD_SHARE_BYTES + grant(it),
            Event::Vacant { election, .. } => RECORD_SHARE_BYTES + election.len() as u64,
            other => panic!("no observer of an election is told this: {other:?}"),
        }
    }
}

/// A leadership has ended by the present command.
pub(crate) fn ended(state: &mut State, ended: &Ended, at_unix_ms: u64) {
    let Ended { grant, why, .. } = ended;
    let reign = Reign {
        token: grant.token,
        candidate: grant.candidate.clone(),
        session: grant.session,
        since: grant.seq,
        since_unix_ms: grant.since_unix_ms,
        until_unix_ms: at_unix_ms,
        why: *why,
    };
    state.history.record(&grant.election, state.seq, reign);
}

/// Keeps what the observers of elections are told of the present command.
pub(crate) fn tell(state: &mut State, events: &[Event]) {
    for event in events {
        if let Some(election) = observed(event) {
            state.told.record(election, state.seq, Told { revision: state.revision, event: event.clone() });
        }
    }
}

/// The election whose observers are told of an event.
pub(crate) fn observed(event: &Event) -> Option<&str> {
    match event {
        Event::Elected { grant, .. } | Event::ValueChanged { grant } => Some(&grant.election),
        Event::Vacant { election, .. } => Some(election),
        Event::Revoked { .. }
        | Event::Withdrawn { .. }
        | Event::EndRequested { .. }
        | Event::SessionAsked { .. }
        | Event::SessionEnded { .. }
        | Event::KeyChanged { .. } => None,
    }
}
