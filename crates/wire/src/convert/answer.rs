//! Outcomes and events to messages.

use palisade_coord_core::history::Reign;
use palisade_coord_core::{
    Event, Grant, KeyValue, OnDisconnect, Outcome, Refusal, Reply, Seq, SessionId, State, Value,
};
use palisade_fence::{ClusterId, Token};

use crate::coord::v1::error_detail::Kind;
use crate::coord::v1::{self, ErrorDetail, observe_event, server_frame};
use crate::{limits, status};

/// What every reply and event carries, as of this state.
pub fn header(state: &State) -> v1::Header {
    v1::Header {
        cluster_id: state.cluster().unwrap_or_default().0,
        generation: state.generation(),
        seq: state.seq().get(),
        revision: state.revision().get(),
    }
}

/// What the reply to a command carries.
pub fn header_at(cluster: ClusterId, generation: u32, outcome: &Outcome) -> v1::Header {
    v1::Header { cluster_id: cluster.0, generation, seq: outcome.seq.get(), revision: outcome.revision.get() }
}

/// A leadership.
pub fn grant(grant: &Grant) -> v1::Grant {
    v1::Grant {
        election: grant.election.clone(),
        candidate_id: grant.candidate.clone(),
        session: grant.session.get(),
        serial: grant.serial.get(),
        token: grant.token.get(),
        seq: grant.seq.get(),
        since_unix_ms: grant.since_unix_ms,
        value: Some(leader_value(&grant.value)),
    }
}

/// Who led an election before.
pub fn history(state: &State, election: &str) -> v1::HistoryReply {
    let reign = |(until, reign): (Seq, &Reign)| v1::Reign {
        token: reign.token.get(),
        candidate_id: reign.candidate.clone(),
        session: reign.session.get(),
        since_seq: reign.since.get(),
        until_seq: until.get(),
        since_unix_ms: reign.since_unix_ms,
        until_unix_ms: reign.until_unix_ms,
        why: reign.why.to_string(),
    };
    v1::HistoryReply {
        header: Some(header(state)),
        reigns: state.history().of(election).map(reign).collect(),
        complete_after_seq: state.history().complete_after(election).get(),
    }
}

/// The value of a leadership.
pub fn leader_value(value: &Value) -> v1::LeaderValue {
    v1::LeaderValue { address: value.address.clone(), components: value.components.clone(), data: value.data.clone() }
}

/// The kind of a session.
pub fn on_disconnect(on_disconnect: OnDisconnect) -> v1::OnDisconnect {
    use v1::on_disconnect::{KeepUntilTtl, Kind};
    v1::OnDisconnect {
        kind: Some(match on_disconnect {
            OnDisconnect::KeepUntilTtl => Kind::KeepUntilTtl(KeepUntilTtl {}),
            OnDisconnect::ReleaseAfter { ms } => Kind::ReleaseAfterMs(ms),
        }),
    }
}

/// A key with its value.
pub fn key_value(key: &[u8], kv: &KeyValue) -> v1::KeyValue {
    v1::KeyValue {
        key: key.to_vec(),
        value: kv.value.clone(),
        create_revision: kv.create_revision.get(),
        mod_revision: kv.mod_revision.get(),
        version: kv.version,
        session: kv.session.map_or(0, SessionId::get),
    }
}

/// A refusal with what is known: all but a forgotten answer are surely not applied.
pub fn refusal(refusal: &Refusal, header: v1::Header) -> ErrorDetail {
    let mut detail = match refusal {
        Refusal::AlreadyFounded => status::not_applied(Kind::Unspecified, "the cluster has a name already"),
        Refusal::SessionEnded { session } => ErrorDetail {
            field: "session".to_owned(),
            value: session.to_string(),
            ..status::not_applied(Kind::SessionEnded, "open another session")
        },
        Refusal::AttachChanged { session, .. } => ErrorDetail {
            field: "session".to_owned(),
            value: session.to_string(),
            ..status::not_applied(Kind::Unspecified, "the session was attached again: it lives")
        },
        Refusal::ElectionNotFound { election } => ErrorDetail {
            field: "election".to_owned(),
            value: election.clone(),
            ..status::not_applied(Kind::ElectionNotFound, "an election exists from its first campaign on")
        },
        Refusal::StaleToken { election, current } => ErrorDetail {
            field: "election".to_owned(),
            value: election.clone(),
            current_token: current.map_or(0, Token::get),
            ..status::not_applied(Kind::StaleToken, "")
        },
        Refusal::CandidateExists { candidate, .. } => ErrorDetail {
            field: "candidate_id".to_owned(),
            value: candidate.clone(),
            ..status::not_applied(Kind::CandidateExists, "take another id, or end the other session")
        },
        Refusal::SessionExists { session } => ErrorDetail {
            field: "session".to_owned(),
            value: session.to_string(),
            ..status::not_applied(Kind::Unspecified, "a session of this id lives")
        },
        Refusal::CandidateNotFound { candidate, .. } => ErrorDetail {
            field: "candidate_id".to_owned(),
            value: candidate.clone(),
            ..status::not_applied(Kind::CandidateNotFound, "")
        },
        Refusal::HolderKeepsUntilTtl { election, token } => ErrorDetail {
            field: "election".to_owned(),
            value: election.clone(),
            current_token: token.get(),
            ..status::not_applied(Kind::HolderKeepsUntilTtl, "force it, and the holder's clock guard does not hold")
        },
        Refusal::Forgotten { serial } => ErrorDetail {
            field: "request_id.serial".to_owned(),
            value: serial.to_string(),
            ..status::unknown(Kind::Forgotten, "read the state to learn what happened")
        },
        Refusal::SerialReused { serial } => ErrorDetail {
            field: "request_id.serial".to_owned(),
            value: serial.to_string(),
            ..status::not_applied(Kind::SerialReused, "take a serial that was never used")
        },
        Refusal::Compacted { revision, compacted } => ErrorDetail {
            field: "revision".to_owned(),
            value: revision.to_string(),
            limit: format!("{compacted} or later"),
            ..status::not_applied(Kind::Compacted, "read the keys as they are, and go on from there")
        },
        Refusal::FutureRevision { revision, current } => ErrorDetail {
            field: "revision".to_owned(),
            value: revision.to_string(),
            limit: format!("at most {current}"),
            ..status::not_applied(Kind::FutureRevision, "")
        },
        Refusal::KeyNotFound { key } => ErrorDetail {
            field: "key".to_owned(),
            value: key.escape_ascii().to_string().chars().take(limits::SHOWN_CHARS).collect(),
            ..status::not_applied(Kind::KeyNotFound, "")
        },
        Refusal::Limit { what, limit } => ErrorDetail {
            field: (*what).to_owned(),
            limit: limit.to_string(),
            ..status::not_applied(Kind::Overloaded, "the cluster holds as many as it may")
        },
    };
    detail.header = Some(header);
    detail
}

/// The answer to a frame of a session stream. `session` is the session that the frame names, if it names one.
/// `None`: the reply does not belong on a session stream.
pub fn frame_body(
    header: v1::Header,
    session: Option<SessionId>,
    ttl_ms: u64,
    reply: &Result<Reply, Refusal>,
) -> Option<server_frame::Body> {
    use server_frame::Body;
    Some(match reply {
        Ok(Reply::SessionOpened { session, attach }) => Body::Opened(v1::SessionOpened {
            header: Some(header),
            session: session.get(),
            attach_generation: attach.get(),
            ttl_ms,
        }),
        Ok(Reply::Attached { session, attach, ttl_ms, held, waiting, .. }) => Body::Attached(v1::SessionAttached {
            header: Some(header),
            session: session.get(),
            attach_generation: attach.get(),
            ttl_ms: *ttl_ms,
            held: held.iter().map(grant).collect(),
            waiting: waiting
                .iter()
                .map(|waiting| v1::WaitingCandidacy {
                    election: waiting.election.clone(),
                    candidate_id: waiting.candidate.clone(),
                    serial: waiting.serial.get(),
                })
                .collect(),
        }),
        Ok(Reply::Campaigned { grant: granted }) => {
            Body::Campaigned(v1::Campaigned { header: Some(header), grant: granted.as_ref().map(grant) })
        }
        Ok(Reply::SessionEnded) => Body::Closed(v1::SessionClosed { header: Some(header), session: session?.get() }),
        Ok(
            Reply::Founded
            | Reply::Proclaimed
            | Reply::Resigned { .. }
            | Reply::Withdrawn { .. }
            | Reply::Transferred
            | Reply::Requested { .. }
            | Reply::Keys(_)
            | Reply::Compacted,
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
        Event::ValueChanged { .. }
        | Event::Vacant { .. }
        | Event::Withdrawn { .. }
        | Event::EndRequested { .. }
        | Event::SessionAsked { .. }
        | Event::KeyChanged { .. } => None,
    }
}

/// The first message to an observer.
pub fn observed_state(header: v1::Header, leader: Option<&Grant>) -> v1::ObserveReply {
    let kind = observe_event::Kind::State(observe_event::State { leader: leader.map(grant) });
    v1::ObserveReply { header: Some(header), events: vec![v1::ObserveEvent { kind: Some(kind) }] }
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
