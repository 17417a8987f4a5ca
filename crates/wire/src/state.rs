//! The format of snapshots: a state behind a version byte. See `state.proto`. What cannot be put together to a sound
//! state is an error, never a fresh start.
//!
//! A snapshot is written and read in pieces, so that it passes through memory nowhere as a whole: [`write()`] and [`write_to`] make
//! it of a state as it was at one moment, [`Reading`] takes it wherever it was cut.

use std::cmp::Reverse;
use std::convert::Infallible;

use bytes::Bytes;
use palisade_coord_core::memory::Answer;
use palisade_coord_core::queue::{Candidate, Place};
use palisade_coord_core::restore::{ElectionParts, SessionParts};
use palisade_coord_core::{
    AttachGeneration, Election, Grant, HandOver, Reply, Revision, Seq, Serial, Session, SessionId, State, Wish,
};
use palisade_fence::Token;
use palisade_planted::{self as planted, Bug};

use crate::coord::v1::remembered_answer as answer;
use crate::coord::v1::{
    self, BackupHead, ElectionRecord, RememberedAnswer, SessionRecord, WaitingRecord, election_record, session_record,
};
use crate::{WireError, convert, format, log, refusal};

mod keys;
mod past;
mod reading;
mod writing;

pub use reading::Reading;
pub use writing::{Take, write, write_to};

/// The first byte of a snapshot of the first level.
pub const VERSION: u8 = 3;

/// The first byte of one of any later level. It differs in nothing, and stops programs that know no levels; others compare those.
pub const LEVELLED: u8 = 4;

/// The earliest that is read: it has no record that is continued by the next.
const OLDEST: u8 = 2;

/// A state as bytes, whole: for tests, and states that are small. The same state is the same bytes on every replica.
pub fn encode(state: &State) -> Bytes {
    let mut bytes = Vec::new();
    let whole: Result<(), Infallible> = write(&state.freeze(), &mut |piece| {
        bytes.extend_from_slice(piece);
        Ok(())
    });
    let Ok(()) = whole;
    Bytes::from(bytes)
}

/// The state that was encoded.
///
/// # Errors
/// The snapshot cannot be read, or its parts do not fit together; see [`WireError`].
pub fn decode(bytes: &[u8]) -> Result<State, WireError> {
    let mut reading = Reading::new();
    reading.take(bytes)?;
    reading.finish()
}

/// In front of the version byte of the head of a backup: so that it is not taken for a node's own snapshot, which has the same form.
const BACKUP: &[u8] = b"BACKUP";

/// The version of the head of a backup. What follows the head has a version of its own.
const BACKUP_VERSION: u8 = 1;

/// The head of a backup as it stands in the file, out of an encoded [`BackupHead`]. The bytes stay as they came: a newer program
/// may have said more in them than this one knows.
pub fn backup_head(encoded: &[u8]) -> Bytes {
    [BACKUP, &[BACKUP_VERSION], encoded].concat().into()
}

/// The head of a backup.
///
/// # Errors
/// It is none, or of a newer version; see [`WireError`].
pub fn backup_head_from(bytes: &[u8]) -> Result<BackupHead, WireError> {
    let head = bytes.strip_prefix(BACKUP).ok_or_else(|| WireError::field("head", "it is no backup's"))?;
    format::decode(BACKUP_VERSION, head)
}

fn to_session(id: SessionId, session: &Session) -> SessionRecord {
    let kept = if planted::is(Bug::AnswersLostAtSnapshot) { 0 } else { usize::MAX };
    SessionRecord {
        session: id.get(),
        ttl_ms: session.ttl_ms,
        release_after_ms: log::release_after_ms(session.on_disconnect),
        attach_generation: session.attach.get(),
        floor: session.memory().floor().get(),
        answers: session.memory().answers().take(kept).map(|(serial, answer)| to_answer(serial, answer)).collect(),
        wish: match session.wish {
            None => session_record::Wish::None,
            Some(Wish::Close) => session_record::Wish::Close,
            Some(Wish::StopRenewing) => session_record::Wish::StopRenewing,
        }
        .into(),
    }
}

fn from_session(record: SessionRecord) -> Result<SessionParts, WireError> {
    let wish = match session_record::Wish::try_from(record.wish) {
        Ok(session_record::Wish::None) => None,
        Ok(session_record::Wish::Close) => Some(Wish::Close),
        Ok(session_record::Wish::StopRenewing) => Some(Wish::StopRenewing),
        Err(_) => return Err(WireError::field("session.wish", record.wish)),
    };
    Ok(SessionParts {
        wish,
        id: SessionId(record.session),
        ttl_ms: record.ttl_ms,
        on_disconnect: log::on_disconnect(record.release_after_ms),
        attach: AttachGeneration(record.attach_generation),
        floor: Serial(record.floor),
        answers: record.answers.into_iter().map(from_answer).collect::<Result<_, _>>()?,
    })
}

fn to_answer(serial: Serial, remembered: &Answer) -> RememberedAnswer {
    let reply = match &remembered.reply {
        Ok(Reply::Campaigned { .. }) => answer::Reply::Campaigned(answer::Done {}),
        Ok(Reply::Proclaimed) => answer::Reply::Proclaimed(answer::Done {}),
        Ok(Reply::Resigned { already }) => answer::Reply::Resigned(answer::Resigned { already: *already }),
        Ok(Reply::Keys(reply)) => answer::Reply::Keys(keys::to_answer(reply)),
        Ok(Reply::Compacted) => answer::Reply::Compacted(answer::Done {}),
        Ok(Reply::SessionOpened { session, attach }) => {
            answer::Reply::Opened(answer::Opened { session: session.get(), attach_generation: attach.get() })
        }
        Ok(Reply::SessionEnded) => answer::Reply::Ended(answer::Done {}),
        Ok(Reply::Withdrawn { already }) => answer::Reply::Withdrawn(answer::Resigned { already: *already }),
        Ok(Reply::Transferred) => answer::Reply::Transferred(answer::Done {}),
        Ok(Reply::Requested { session }) => answer::Reply::RequestedOfSession(session.get()),
        Ok(Reply::Founded | Reply::Attached { .. } | Reply::LevelRaised { .. }) => {
            panic!("this answer is never remembered: {:?}", remembered.reply)
        }
        Err(why) => answer::Reply::Refusal(refusal::to_record(why)),
    };
    RememberedAnswer {
        serial: serial.get(),
        fingerprint: remembered.fingerprint,
        seq: remembered.seq.get(),
        revision: remembered.revision.get(),
        reply: Some(reply),
    }
}

fn from_answer(record: RememberedAnswer) -> Result<(Serial, Answer), WireError> {
    let reply = match record.reply.ok_or_else(|| WireError::missing("answer.reply"))? {
        answer::Reply::Campaigned(answer::Done {}) => Ok(Reply::Campaigned { grant: None }),
        answer::Reply::Proclaimed(answer::Done {}) => Ok(Reply::Proclaimed),
        answer::Reply::Resigned(answer::Resigned { already }) => Ok(Reply::Resigned { already }),
        answer::Reply::Keys(reply) => Ok(Reply::Keys(keys::from_answer(reply)?)),
        answer::Reply::Compacted(answer::Done {}) => Ok(Reply::Compacted),
        answer::Reply::Opened(answer::Opened { session, attach_generation }) => {
            Ok(Reply::SessionOpened { session: SessionId(session), attach: AttachGeneration(attach_generation) })
        }
        answer::Reply::Ended(answer::Done {}) => Ok(Reply::SessionEnded),
        answer::Reply::Withdrawn(answer::Resigned { already }) => Ok(Reply::Withdrawn { already }),
        answer::Reply::Transferred(answer::Done {}) => Ok(Reply::Transferred),
        answer::Reply::RequestedOfSession(session) => Ok(Reply::Requested { session: SessionId(session) }),
        answer::Reply::Refusal(why) => Err(refusal::from_record(why)?),
    };
    let remembered =
        Answer { fingerprint: record.fingerprint, seq: Seq(record.seq), revision: Revision(record.revision), reply };
    Ok((Serial(record.serial), remembered))
}

/// An election without its line.
fn to_election(name: &str, election: &Election) -> ElectionRecord {
    ElectionRecord {
        election: name.to_owned(),
        leader: election.leader.as_ref().map(convert::grant),
        last_token: election.last_token.map_or(0, Token::get),
        waiting: Vec::new(),
        asked: election.asked.as_ref().map(|asked| election_record::HandOver { to: asked.to.clone() }),
    }
}

fn to_waiting((place, candidate): (&Place, &Candidate)) -> WaitingRecord {
    WaitingRecord {
        candidate_id: candidate.candidate.clone(),
        session: candidate.session.get(),
        serial: candidate.serial.get(),
        priority: place.priority.0,
        arrived_seq: place.arrived.get(),
        value: Some(convert::leader_value(&candidate.value)),
    }
}

fn from_election(record: ElectionRecord) -> Result<ElectionParts, WireError> {
    let waiting = |waiting: WaitingRecord| {
        let place = Place { priority: Reverse(waiting.priority), arrived: Seq(waiting.arrived_seq) };
        let candidate = Candidate {
            candidate: waiting.candidate_id,
            session: SessionId(waiting.session),
            serial: Serial(waiting.serial),
            value: convert::value_from(waiting.value.unwrap_or_default()),
        };
        (place, candidate)
    };
    let leader = record.leader.map(grant).transpose()?;
    let asked = match (record.asked, &leader) {
        (None, _) => None,
        (Some(asked), Some(leader)) => Some(HandOver { token: leader.token, to: asked.to }),
        (Some(_), None) => return Err(WireError::missing("election.leader")),
    };
    Ok(ElectionParts {
        name: record.election,
        leader,
        asked,
        queue: record.waiting.into_iter().map(waiting).collect(),
        last_token: match record.last_token {
            0 => None,
            raw => Some(log::token("election.last_token", raw)?),
        },
    })
}

pub(super) fn grant(record: v1::Grant) -> Result<Grant, WireError> {
    convert::grant_from(record).map_err(|it| WireError::field(it.field, it.value))
}
