//! A snapshot, read piece by piece, wherever it was cut. It holds what is not a whole field yet, and the parts of the state.

use palisade_coord_core::restore::{KeyParts, Parts};
use palisade_coord_core::{Revision, Seq, SessionId, State, level};
use palisade_fence::{ClusterId, Token};
use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint};

use super::{LEVELLED, OLDEST, from_election, from_session, keys, past};
use crate::WireError;
use crate::coord::v1::{KeySpace, StateSnapshot};

/// A varint has at most so many bytes.
const VARINT: usize = 10;

/// A snapshot that is being read.
#[derive(Default)]
pub struct Reading {
    version: Option<u8>,
    /// The beginning of a field.
    rest: Vec<u8>,
    /// What stands in it once. Its lists are empty: they are in `parts` as soon as they are read.
    head: StateSnapshot,
    parts: Lists,
}

#[derive(Default)]
struct Lists {
    sessions: Vec<palisade_coord_core::restore::SessionParts>,
    elections: Vec<palisade_coord_core::restore::ElectionParts>,
    history: Vec<(String, palisade_coord_core::ledger::Page<palisade_coord_core::history::Reign>)>,
    told: Vec<(String, palisade_coord_core::ledger::Page<palisade_coord_core::history::Told>)>,
    keys: KeyParts,
}

impl Reading {
    /// Nothing read yet.
    pub fn new() -> Reading {
        Reading::default()
    }

    /// Reads on.
    ///
    /// # Errors
    /// It is no snapshot, or one of a version that is not known; see [`WireError`].
    pub fn take(&mut self, mut bytes: &[u8]) -> Result<(), WireError> {
        if self.version.is_none() {
            let Some((&found, rest)) = bytes.split_first() else { return Ok(()) };
            if !(OLDEST..=LEVELLED).contains(&found) {
                return Err(WireError::Version { found, readable: LEVELLED });
            }
            (self.version, bytes) = (Some(found), rest);
        }
        if self.rest.is_empty() {
            // Most pieces end with a field: they are read where they are.
            let read = self.fields(bytes)?;
            self.rest.extend_from_slice(&bytes[read..]);
            return Ok(());
        }
        let mut all = std::mem::take(&mut self.rest);
        all.extend_from_slice(bytes);
        let read = self.fields(&all)?;
        all.drain(..read);
        self.rest = all;
        Ok(())
    }

    /// The state, if all of it was read.
    ///
    /// # Errors
    /// It was cut short, or its parts do not fit together; see [`WireError`].
    pub fn finish(mut self) -> Result<State, WireError> {
        if self.version.is_none() {
            return Err(WireError::Empty);
        }
        // What is no whole field is no message either, and prost says why.
        let rest = std::mem::take(&mut self.rest);
        self.field(&rest)?;
        let Reading { head, parts, .. } = self;
        if head.last_token > Token::MAX.get() {
            return Err(WireError::field("last_token", head.last_token));
        }
        let last_token = Token::new((head.last_token >> 32) as u32, head.last_token as u32);
        let Lists { sessions, elections, history, told, keys } = parts;
        let space = head.keys.unwrap_or_default();
        let parts = Parts {
            cluster: head.cluster_id.map(ClusterId),
            generation: head.generation,
            level: head.level.max(level::FIRST),
            seq: Seq(head.seq),
            revision: Revision(head.revision),
            last_token,
            last_session: SessionId(head.last_session),
            sessions,
            elections,
            history,
            told,
            keys: KeyParts { versions: keys.versions, ..keys::from_space(&space) },
        };
        Ok(State::restore(parts)?)
    }

    /// Reads all whole fields, and returns how many bytes they have.
    fn fields(&mut self, bytes: &[u8]) -> Result<usize, WireError> {
        let mut read = 0;
        while let Some(length) = field_length(&bytes[read..])? {
            self.field(&bytes[read..read + length])?;
            read += length;
        }
        Ok(read)
    }

    fn field(&mut self, bytes: &[u8]) -> Result<(), WireError> {
        self.head.merge(bytes)?;
        self.sort()
    }

    /// Puts the lists of the message where they belong. A record of what the last one was of continues that.
    fn sort(&mut self) -> Result<(), WireError> {
        let Reading { head, parts, .. } = self;
        for record in head.sessions.drain(..) {
            parts.sessions.push(from_session(record)?);
        }
        for record in head.elections.drain(..) {
            let election = from_election(record)?;
            match parts.elections.last_mut().filter(|last| last.name == election.name) {
                Some(last) if election.leader.is_none() && election.last_token.is_none() => {
                    last.queue.extend(election.queue);
                }
                _ => parts.elections.push(election),
            }
        }
        for record in head.history.drain(..) {
            past::add(&mut parts.history, past::from_history(record)?);
        }
        for record in head.told.drain(..) {
            past::add(&mut parts.told, past::from_told(record)?);
        }
        for record in head.keys.iter_mut().flat_map(|KeySpace { keys, .. }| keys.drain(..)) {
            let versions = record.versions.into_iter().map(keys::from_version);
            match parts.keys.versions.last_mut().filter(|(key, _)| *key == record.key) {
                Some((_, all)) => all.extend(versions),
                None => parts.keys.versions.push((record.key, versions.collect())),
            }
        }
        Ok(())
    }
}

/// The length of the first field; `None`: it is not whole yet.
fn field_length(bytes: &[u8]) -> Result<Option<usize>, WireError> {
    let mut rest = bytes;
    if !has_varint(rest) {
        return Ok(None);
    }
    let (_, wire_type) = decode_key(&mut rest)?;
    let content = match wire_type {
        WireType::Varint => {
            if !has_varint(rest) {
                return Ok(None);
            }
            decode_varint(&mut rest)?;
            0
        }
        WireType::SixtyFourBit => 8,
        WireType::ThirtyTwoBit => 4,
        WireType::LengthDelimited => {
            if !has_varint(rest) {
                return Ok(None);
            }
            usize::try_from(decode_varint(&mut rest)?).unwrap_or(usize::MAX)
        }
        // No field of ours; prost refuses it with the message.
        WireType::StartGroup | WireType::EndGroup => 0,
    };
    Ok((content <= rest.len()).then(|| bytes.len() - rest.len() + content))
}

/// Whether the bytes begin with a varint, or with what can be none.
fn has_varint(bytes: &[u8]) -> bool {
    bytes.len() >= VARINT || bytes.iter().any(|byte| *byte < 0x80)
}
