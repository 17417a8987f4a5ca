//! One session that lives, and until when its leaderships may be believed.

use std::collections::BTreeMap;
use std::time::Duration;

use palisade_fence::Token;
use palisade_planted::{self as planted, Bug};

use super::candidacy::{Candidacy, Stage};
use super::withdrawal::Withdrawal;
use super::{Effect, Key, Retry, Sent, StreamId};
use crate::{EndRequest, Grant, LeadershipState, OnDisconnect, SessionWish};

/// Keep-alives per TTL, so that two may be lost. The store counts on it when it stood still itself.
const KEEP_ALIVES_PER_TTL: u32 = 3;

/// At least this often also with a long TTL, so that a store that hears nothing of its clients is noticed in time.
const KEEP_ALIVE_AT_MOST: Duration = Duration::from_secs(10);

/// The clocks of client and store leader may differ in rate by this part of the TTL (1/100): fifty times what a quartz does,
/// and what a guest of a busy hypervisor has been seen to do.
const DRIFT_PART: u32 = 100;

/// And by this much in all: the resolution of timers on both sides.
const DRIFT_FLOOR: Duration = Duration::from_millis(2);

/// The least time in which the store, whoever leads it, waits for a holder that is released on disconnect: after a failover
/// it cannot know whose fault the break was.
const RECONNECT_WINDOW: Duration = Duration::from_secs(3);

/// For how long after the send time of an acknowledged keep-alive a leadership may be believed.
pub(super) fn believable(ttl: Duration) -> Duration {
    if planted::is(Bug::LostTooLate) {
        return ttl * 2;
    }
    ttl.saturating_sub(ttl / DRIFT_PART + DRIFT_FLOOR)
}

/// A session.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) ttl: Duration,
    pub(super) on_disconnect: OnDisconnect,
    /// Send time of the newest acknowledged keep-alive, or of the frame that opened the session.
    pub(super) renewed: Duration,
    pub(super) keep_alive_due: Duration,
    pub(super) keep_alive_sent: Duration,
    /// Send time of the oldest keep-alive since the last answer.
    pub(super) unacknowledged: Option<Duration>,
    pub(super) link: Link,
    /// When a refused attach may be sent again.
    pub(super) attach_retry: Retry,
    /// Since when its stream is broken, or silent.
    pub(super) suspect_since: Option<Duration>,
    /// What somebody else wants of it. Never less than before.
    pub(super) wish: Option<SessionWish>,
    /// By serial.
    pub(super) candidacies: BTreeMap<u64, Candidacy>,
    /// Those that nobody here wants any more, by serial; none of `candidacies`.
    pub(super) withdrawing: BTreeMap<u64, Withdrawal>,
    /// Grants that the store is being told to end, with the election and the candidate's id: no campaign under the same
    /// names is sent before, because the store would answer it with the grant that is about to end.
    pub(super) ending: BTreeMap<Token, (String, String)>,
}

/// How a session stands to the stream in use.
#[derive(Clone, Copy, Debug)]
pub(super) enum Link {
    /// To be attached.
    Detached,
    /// Asked to.
    Attaching { stream: StreamId, sent: Sent },
    /// Attached.
    Attached(StreamId),
}

impl Entry {
    /// A session that was just opened by a frame sent at `sent`.
    pub(super) fn opened(ttl: Duration, on_disconnect: OnDisconnect, stream: StreamId, sent: Duration) -> Entry {
        let mut entry = Entry {
            ttl,
            on_disconnect,
            renewed: sent,
            keep_alive_due: Duration::ZERO,
            keep_alive_sent: Duration::ZERO,
            unacknowledged: None,
            link: Link::Attached(stream),
            attach_retry: Retry::default(),
            suspect_since: None,
            wish: None,
            candidacies: BTreeMap::new(),
            withdrawing: BTreeMap::new(),
            ending: BTreeMap::new(),
        };
        entry.keep_alive_due = sent + entry.interval();
        entry
    }

    pub(super) fn interval(&self) -> Duration {
        (self.ttl / KEEP_ALIVES_PER_TTL).min(KEEP_ALIVE_AT_MOST)
    }

    /// How long the stream may be silent before another is looked for: a part of the TTL, so that there is time to move.
    pub(super) fn patience(&self) -> Duration {
        (self.ttl / 4).clamp(Duration::from_millis(30), Duration::from_secs(3))
    }

    /// Nothing is believed from here on.
    pub(super) fn deadline(&self) -> Duration {
        self.renewed + believable(self.ttl)
    }

    /// When a leadership is lost if nothing comes: the deadline, or sooner for a holder that the store may release sooner.
    pub(super) fn limit(&self) -> Duration {
        match (self.suspect_since, self.on_disconnect) {
            (Some(since), OnDisconnect::ReleaseAfter(after)) => {
                (since + after.max(RECONNECT_WINDOW)).min(self.deadline())
            }
            (Some(_), OnDisconnect::KeepUntilTtl) | (None, _) => self.deadline(),
        }
    }

    /// What its holders may believe now.
    pub(super) fn state(&self) -> LeadershipState {
        match self.suspect_since {
            Some(_) => LeadershipState::Suspect { deadline: self.limit() },
            None => LeadershipState::Held { deadline: self.deadline() },
        }
    }

    /// Whether the store renews it: else its deadline stays where it is, and keep-alives are of no use.
    pub(super) fn is_renewed(&self) -> bool {
        self.wish != Some(SessionWish::StopRenewing)
    }

    /// Somebody wants something of it.
    pub(super) fn asked(&mut self, session: u64, wish: SessionWish, out: &mut Vec<Effect>) {
        if self.wish.is_none_or(|before| before < wish) {
            self.wish = Some(wish);
            out.push(Effect::SessionAsked { session, wish });
        }
        if !self.is_renewed() {
            self.unacknowledged = None; // none will be answered as a renewal
        }
    }

    /// Somebody wants a leadership of it to end. One that is not handed over yet is told of with its grant.
    pub(super) fn end_requested(&mut self, key: Key, token: u64, request: EndRequest, out: &mut Vec<Effect>) {
        let Some(candidacy) = self.candidacies.get_mut(&key.serial) else { return };
        match &candidacy.stage {
            Stage::Leading { grant, .. }
                if grant.token.get() == token && candidacy.requested.as_ref() != Some(&request) =>
            {
                out.push(Effect::EndRequested { key, request: request.clone() });
                candidacy.requested = Some(request);
            }
            Stage::Granted(grant) if grant.token.get() == token => candidacy.requested = Some(request),
            Stage::Unsent | Stage::Sent(_) | Stage::Waiting | Stage::Granted(_) | Stage::Leading { .. } => {}
        }
    }

    /// The election and the candidate's id of all that is being given up.
    pub(super) fn leaving(&self) -> impl Iterator<Item = &(String, String)> {
        self.ending.values().chain(self.withdrawing.values().map(|it| &it.names))
    }

    pub(super) fn leads(&self) -> bool {
        self.candidacies.values().any(|it| matches!(it.stage, Stage::Leading { .. }))
    }

    pub(super) fn is_attached_to(&self, stream: StreamId) -> bool {
        matches!(self.link, Link::Attached(it) if it == stream)
    }

    /// Ends a grant that nobody here wants; once per grant.
    pub(super) fn end_grant(&mut self, session: u64, grant: &Grant, out: &mut Vec<Effect>) {
        let names = (grant.election.clone(), grant.candidate.clone());
        if self.ending.insert(grant.token, names).is_none() {
            out.push(Effect::EndGrant { session, election: grant.election.clone(), token: grant.token });
        }
    }
}
