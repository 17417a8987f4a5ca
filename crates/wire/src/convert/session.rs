//! What a session is told on its stream: answers to its frames, and events; and sessions as a list shows them.

use palisade_coord_core::{Event, HandOver, Refusal, Reply, Serial, Session, SessionId, State, Waiting, Wish};

use super::answer::{grant, on_disconnect, refusal};
use crate::coord::v1::{self, server_frame, session_asked};

/// What a frame names, as far as its answer says it again.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked {
    /// The session.
    pub session: Option<SessionId>,
    /// The candidacy.
    pub serial: Option<Serial>,
    /// Of a session to be opened.
    pub ttl_ms: u64,
}

/// The answer to a frame of a session stream. `None`: the reply does not belong on a session stream.
pub fn frame_body(header: v1::Header, asked: Asked, reply: &Result<Reply, Refusal>) -> Option<server_frame::Body> {
    use server_frame::Body;
    let Asked { session, serial, ttl_ms } = asked;
    Some(match reply {
        Ok(Reply::SessionOpened { session, attach }) => Body::Opened(v1::SessionOpened {
            header: Some(header),
            session: session.get(),
            attach_generation: attach.get(),
            ttl_ms,
        }),
        Ok(Reply::Attached { session, attach, ttl_ms, on_disconnect: _, held, waiting, asked }) => {
            let requested = |(serial, hand_over): &(Serial, HandOver)| {
                let index = held.binary_search_by_key(serial, |grant| grant.serial).ok()?; // both are by serial
                Some(end_requested(None, *session, *serial, &held[index].election, hand_over))
            };
            Body::Attached(v1::SessionAttached {
                header: Some(header),
                session: session.get(),
                attach_generation: attach.get(),
                ttl_ms: *ttl_ms,
                held: held.iter().map(grant).collect(),
                waiting: waiting.iter().map(waiting_candidacy).collect(),
                requested: asked.leaderships.iter().filter_map(requested).collect(),
                wish: wish(asked.session).into(),
            })
        }
        Ok(Reply::Campaigned { grant: granted }) => {
            Body::Campaigned(v1::Campaigned { header: Some(header), grant: granted.as_ref().map(grant) })
        }
        Ok(Reply::Withdrawn { already }) => Body::Withdrew(v1::Withdrew {
            header: Some(header),
            session: session?.get(),
            serial: serial?.get(),
            already: *already,
        }),
        Ok(Reply::SessionEnded) => Body::Closed(v1::SessionClosed { header: Some(header), session: session?.get() }),
        Ok(
            Reply::Founded
            | Reply::Proclaimed
            | Reply::Resigned { .. }
            | Reply::Transferred
            | Reply::Requested { .. }
            | Reply::Keys(_)
            | Reply::Compacted
            | Reply::LevelRaised { .. },
        ) => return None,
        Err(why) => Body::Refused(v1::Refused { error: Some(refusal(why, header)) }),
    })
}

/// What a session's own stream is told of an event, and which session; `None`: nothing.
pub fn session_event(header: v1::Header, event: &Event) -> Option<(SessionId, server_frame::Body)> {
    use server_frame::Body;
    match event {
        Event::Elected { grant: granted, .. } => {
            let body = Body::Granted(v1::Granted { header: Some(header), grant: Some(grant(granted)) });
            Some((granted.session, body))
        }
        Event::Revoked { session, serial, election, token, why } => Some((
            *session,
            Body::Revoked(v1::Revoked {
                header: Some(header),
                session: session.get(),
                serial: serial.get(),
                election: election.clone(),
                token: token.get(),
                why: why.to_string(),
            }),
        )),
        Event::SessionEnded { session, why } => Some((
            *session,
            Body::Ended(v1::SessionEnded { header: Some(header), session: session.get(), why: why.to_string() }),
        )),
        Event::Withdrawn { session, serial, election, why } => Some((
            *session,
            Body::Withdrawn(v1::Withdrawn {
                header: Some(header),
                session: session.get(),
                serial: serial.get(),
                election: election.clone(),
                why: why.to_string(),
            }),
        )),
        Event::EndRequested { session, serial, election, hand_over } => {
            Some((*session, Body::EndRequested(end_requested(Some(header), *session, *serial, election, hand_over))))
        }
        Event::SessionAsked { session, wish: asked } => Some((
            *session,
            Body::SessionAsked(v1::SessionAsked {
                header: Some(header),
                session: session.get(),
                wish: wish(Some(*asked)).into(),
            }),
        )),
        Event::ValueChanged { .. } | Event::Vacant { .. } | Event::KeyChanged { .. } => None,
    }
}

/// A session in a list.
pub fn session_summary(state: &State, id: SessionId, session: &Session) -> v1::SessionSummary {
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let leaderships = state.held_by(id).count();
    v1::SessionSummary {
        session: id.get(),
        ttl_ms: session.ttl_ms,
        on_disconnect: Some(on_disconnect(session.on_disconnect)),
        attach_generation: session.attach.get(),
        leaderships: count(leaderships),
        waiting: count(session.candidacies().len() - leaderships),
        bound_keys: count(session.keys().len()),
        wish: wish(session.wish).into(),
    }
}

fn waiting_candidacy(waiting: &Waiting) -> v1::WaitingCandidacy {
    v1::WaitingCandidacy {
        election: waiting.election.clone(),
        candidate_id: waiting.candidate.clone(),
        serial: waiting.serial.get(),
    }
}

fn end_requested(
    header: Option<v1::Header>,
    session: SessionId,
    serial: Serial,
    election: &str,
    hand_over: &HandOver,
) -> v1::EndRequested {
    v1::EndRequested {
        header,
        session: session.get(),
        serial: serial.get(),
        election: election.to_owned(),
        token: hand_over.token.get(),
        to: hand_over.to.clone().unwrap_or_default(),
    }
}

fn wish(wish: Option<Wish>) -> session_asked::Wish {
    match wish {
        None => session_asked::Wish::None,
        Some(Wish::Close) => session_asked::Wish::Close,
        Some(Wish::StopRenewing) => session_asked::Wish::StopRenewing,
    }
}
