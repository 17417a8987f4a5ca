//! Refusals as the memory of answers keeps them in snapshots. Refusals as they travel to clients are `convert`'s.

use palisade_coord_core::{AttachGeneration, Refusal, Revision, Serial, SessionId, limits};
use palisade_fence::Token;

use crate::coord::v1::RememberedRefusal;
use crate::coord::v1::remembered_refusal::Kind;
use crate::{WireError, log};

pub(crate) fn to_record(refusal: &Refusal) -> RememberedRefusal {
    let of = |kind: Kind| RememberedRefusal { kind: kind.into(), ..RememberedRefusal::default() };
    match refusal {
        Refusal::AlreadyFounded => of(Kind::AlreadyFounded),
        Refusal::SessionEnded { session } => RememberedRefusal { session: session.get(), ..of(Kind::SessionEnded) },
        Refusal::AttachChanged { session, attach } => {
            RememberedRefusal { session: session.get(), attach_generation: attach.get(), ..of(Kind::AttachChanged) }
        }
        Refusal::ElectionNotFound { election } => {
            RememberedRefusal { election: election.clone(), ..of(Kind::ElectionNotFound) }
        }
        Refusal::StaleToken { election, current } => RememberedRefusal {
            election: election.clone(),
            token: current.map_or(0, Token::get),
            ..of(Kind::StaleToken)
        },
        Refusal::CandidateExists { election, candidate } => RememberedRefusal {
            election: election.clone(),
            candidate_id: candidate.clone(),
            ..of(Kind::CandidateExists)
        },
        Refusal::SessionExists { session } => RememberedRefusal { session: session.get(), ..of(Kind::SessionExists) },
        Refusal::CandidateNotFound { election, candidate } => RememberedRefusal {
            election: election.clone(),
            candidate_id: candidate.clone(),
            ..of(Kind::CandidateNotFound)
        },
        Refusal::HolderKeepsUntilTtl { election, token } => {
            RememberedRefusal { election: election.clone(), token: token.get(), ..of(Kind::HolderKeepsUntilTtl) }
        }
        Refusal::Forgotten { serial } => RememberedRefusal { serial: serial.get(), ..of(Kind::Forgotten) },
        Refusal::SerialReused { serial } => RememberedRefusal { serial: serial.get(), ..of(Kind::SerialReused) },
        Refusal::Compacted { revision, compacted: bound } => {
            let (revision, bound_revision) = (revision.get(), bound.get());
            RememberedRefusal { revision, bound_revision, ..of(Kind::Compacted) }
        }
        Refusal::FutureRevision { revision, current: bound } => {
            let (revision, bound_revision) = (revision.get(), bound.get());
            RememberedRefusal { revision, bound_revision, ..of(Kind::FutureRevision) }
        }
        Refusal::KeyNotFound { key } => RememberedRefusal { key: key.clone(), ..of(Kind::KeyNotFound) },
        Refusal::Limit { what, limit } => {
            RememberedRefusal { what: (*what).to_owned(), limit: *limit, ..of(Kind::Limit) }
        }
    }
}

pub(crate) fn from_record(record: RememberedRefusal) -> Result<Refusal, WireError> {
    let (session, serial) = (SessionId(record.session), Serial(record.serial));
    let (revision, bound) = (Revision(record.revision), Revision(record.bound_revision));
    let attach = AttachGeneration(record.attach_generation);
    Ok(match record.kind() {
        Kind::Unspecified => return Err(WireError::field("refusal.kind", record.kind)),
        Kind::AlreadyFounded => Refusal::AlreadyFounded,
        Kind::SessionEnded => Refusal::SessionEnded { session },
        Kind::AttachChanged => Refusal::AttachChanged { session, attach },
        Kind::ElectionNotFound => Refusal::ElectionNotFound { election: record.election },
        Kind::StaleToken => {
            let current = (record.token != 0).then(|| log::token("refusal.token", record.token)).transpose()?;
            Refusal::StaleToken { election: record.election, current }
        }
        Kind::CandidateExists => Refusal::CandidateExists { election: record.election, candidate: record.candidate_id },
        Kind::SessionExists => Refusal::SessionExists { session },
        Kind::CandidateNotFound => {
            Refusal::CandidateNotFound { election: record.election, candidate: record.candidate_id }
        }
        Kind::HolderKeepsUntilTtl => Refusal::HolderKeepsUntilTtl {
            election: record.election,
            token: log::token("refusal.token", record.token)?,
        },
        Kind::Forgotten => Refusal::Forgotten { serial },
        Kind::SerialReused => Refusal::SerialReused { serial },
        Kind::Compacted => Refusal::Compacted { revision, compacted: bound },
        Kind::FutureRevision => Refusal::FutureRevision { revision, current: bound },
        Kind::KeyNotFound => Refusal::KeyNotFound { key: record.key },
        Kind::Limit => {
            let what = limits::what(&record.what);
            let what = what.ok_or_else(|| WireError::field("refusal.what", record.what))?;
            Refusal::Limit { what, limit: record.limit }
        }
    })
}
