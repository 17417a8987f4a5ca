//! Outcomes to messages; what sessions and observers are told stands in files of their own.

use palisade_coord_core::history::Reign;
use palisade_coord_core::{Election, Grant, KeyValue, OnDisconnect, Outcome, Refusal, Seq, SessionId, State, Value};
use palisade_fence::{ClusterId, Token};

use crate::coord::v1::error_detail::Kind;
use crate::coord::v1::{self, ErrorDetail};
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

/// A leadership as a list shows it: values may be 64 KiB each, and a list may be long.
pub(super) fn grant_without_value(it: &Grant) -> v1::Grant {
    v1::Grant {
        election: it.election.clone(),
        candidate_id: it.candidate.clone(),
        session: it.session.get(),
        serial: it.serial.get(),
        token: it.token.get(),
        seq: it.seq.get(),
        since_unix_ms: it.since_unix_ms,
        value: None,
    }
}

/// An election in a list.
pub fn election_summary(name: &str, election: &Election) -> v1::ElectionSummary {
    v1::ElectionSummary {
        election: name.to_owned(),
        leader: election.leader.as_ref().map(grant_without_value),
        waiting: u32::try_from(election.queue.len()).unwrap_or(u32::MAX),
    }
}

/// The holder was asked. `losing` is what ends with its session, if that is to end.
pub fn end_is_asked<'a>(losing: impl Iterator<Item = &'a Grant>) -> v1::EndIsAsked {
    v1::EndIsAsked { losing: losing.map(grant_without_value).collect() }
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
            ..status::not_applied(Kind::SessionExists, "give another id, or wait for the end of that session")
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
            ..status::not_applied(
                Kind::HolderKeepsUntilTtl,
                "ask the holder, or force it: then its clock guard does not hold",
            )
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
