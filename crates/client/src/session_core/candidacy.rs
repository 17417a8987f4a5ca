//! One place in the line of one election, from the first frame to the leadership.

use std::time::Duration;

use palisade_wire::coord::v1::{self, LeaderValue, client_frame};

use super::{Key, Retry, Sent};
use crate::{EndRequest, Grant, LeadershipState};

/// A candidacy of a session.
#[derive(Debug)]
pub(crate) struct Candidacy {
    pub(super) election: String,
    pub(super) candidate: String,
    value: LeaderValue,
    priority: i32,
    /// Whether the store may know of it.
    pub(super) ever_sent: bool,
    pub(super) stage: Stage,
    pub(super) retry: Retry,
    /// Somebody asked that the leadership which came of it be ended.
    pub(super) requested: Option<EndRequest>,
}

/// How far it has come.
#[derive(Debug)]
pub(super) enum Stage {
    /// To be sent on the present stream; always under the same serial.
    Unsent,
    /// Sent on the present stream, not answered.
    Sent(Sent),
    /// The store has it in the line.
    Waiting,
    /// Granted, but the session was not renewed for so long that the grant could not be believed for a moment: it is
    /// handed over after the next acknowledged keep-alive.
    Granted(Grant),
    /// Handed over.
    Leading {
        grant: Grant,
        /// What the holder was told last.
        told: LeadershipState,
    },
}

impl Candidacy {
    pub(super) fn new(election: String, candidate: String, value: LeaderValue, priority: i32) -> Candidacy {
        Candidacy {
            election,
            candidate,
            value,
            priority,
            ever_sent: false,
            stage: Stage::Unsent,
            retry: Retry::default(),
            requested: None,
        }
    }

    pub(super) fn frame(&self, key: Key) -> client_frame::Body {
        client_frame::Body::Campaign(v1::Campaign {
            session: key.session,
            serial: key.serial,
            election: self.election.clone(),
            candidate_id: self.candidate.clone(),
            value: Some(self.value.clone()),
            priority: self.priority,
        })
    }

    /// Whether it is to be sent now.
    pub(super) fn is_due(&self, now: Duration) -> bool {
        matches!(self.stage, Stage::Unsent) && self.retry.at <= now
    }
}
