//! A snapshot, written piece by piece. The pieces are a few large fields or many small ones of one message: behind each other
//! they are that message. What may be large (the past of a key, the line of an election, the past of an election) comes in
//! several records, the later of which continue the first.

use std::mem;

use palisade_coord_core::keys::Version;
use palisade_coord_core::{Election, Frozen, level};
use prost::Message;

use super::{LEVELLED, VERSION, keys, past, to_election, to_session, to_waiting};
use crate::coord::v1::{ElectionRecord, HistoryRecord, KeySpace, StateSnapshot, ToldRecord, key_space};

/// A piece is given away when it has so many bytes. One record is larger at most: with the largest value, about a megabyte.
const PIECE_BYTES: usize = 64 << 10;

/// Small things in one record: with names as they are, some ten kilobytes.
const RECORDS: usize = 64;

/// Gives the snapshot of a state away in pieces, in order; none is empty, and no two of them are needed at a time. The same state
/// gives the same bytes on every replica.
///
/// # Errors
/// What `take` says; nothing is given away after that.
pub fn write<E>(state: &Frozen, take: &mut dyn FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
    // A state of the first level is the bytes that a program without levels writes of it.
    let (version, level) = if state.level > level::FIRST { (LEVELLED, state.level) } else { (VERSION, 0) };
    let mut pieces = Pieces { bytes: vec![version], take };
    pieces.add(&StateSnapshot {
        cluster_id: state.cluster.map(|cluster| cluster.0),
        generation: state.generation,
        seq: state.seq.get(),
        revision: state.revision.get(),
        last_token: state.last_token.get(),
        last_session: state.last_session.get(),
        level,
        ..StateSnapshot::default()
    })?;
    for (&id, session) in &state.sessions {
        pieces.add(&StateSnapshot { sessions: vec![to_session(id, session)], ..StateSnapshot::default() })?;
    }
    for (name, election) in &state.elections {
        write_election(&mut pieces, name, election)?;
    }
    write_keys(&mut pieces, state)?;
    for (election, page) in &state.history {
        for part in parts(&mut page.records.iter()) {
            let record = HistoryRecord {
                election: election.to_string(),
                complete_after_seq: page.complete_after.get(),
                reigns: part.map(|(until, reign)| past::to_reign(*until, reign)).collect(),
            };
            pieces.add(&StateSnapshot { history: vec![record], ..StateSnapshot::default() })?;
        }
    }
    for (election, page) in &state.told {
        for part in parts(&mut page.records.iter()) {
            let record = ToldRecord {
                election: election.to_string(),
                complete_after_seq: page.complete_after.get(),
                events: part.map(|(seq, told)| past::to_event(*seq, told)).collect(),
            };
            pieces.add(&StateSnapshot { told: vec![record], ..StateSnapshot::default() })?;
        }
    }
    pieces.finish()
}

fn write_election<E>(pieces: &mut Pieces<'_, E>, name: &str, election: &Election) -> Result<(), E> {
    let mut waiting = election.queue.iter();
    let mut record = to_election(name, election);
    loop {
        record.waiting = waiting.by_ref().take(RECORDS).map(to_waiting).collect();
        let more = waiting.len() > 0;
        pieces.add(&StateSnapshot { elections: vec![record], ..StateSnapshot::default() })?;
        if !more {
            return Ok(());
        }
        record = ElectionRecord { election: name.to_owned(), ..ElectionRecord::default() };
    }
}

fn write_keys<E>(pieces: &mut Pieces<'_, E>, state: &Frozen) -> Result<(), E> {
    let mut space = KeySpace {
        compacted_revision: state.compacted.get(),
        watchable_revision: state.watchable.get(),
        first_change: state.first_change.map(|(revision, place)| key_space::Place { revision: revision.get(), place }),
        keys: Vec::new(),
    };
    let mut bytes = 0;
    for (key, versions) in state.versions() {
        let mut versions = versions.peekable();
        while versions.peek().is_some() {
            let mut record = key_space::KeyRecord { key: key.to_vec(), versions: Vec::new() };
            while bytes < PIECE_BYTES / 2
                && let Some(version) = versions.next()
            {
                bytes += weight(key, version);
                record.versions.push(keys::to_version(version));
            }
            space.keys.push(record);
            if bytes >= PIECE_BYTES / 2 {
                pieces.add(&StateSnapshot { keys: Some(mem::take(&mut space)), ..StateSnapshot::default() })?;
                bytes = 0;
            }
        }
    }
    pieces.add(&StateSnapshot { keys: Some(space), ..StateSnapshot::default() })
}

/// About the bytes of a version, with a share of its key.
fn weight(key: &[u8], version: &Version) -> usize {
    32 + key.len() + version.kv.as_ref().map_or(0, |kv| kv.value.len())
}

/// All items, a few at a time; at least once, also if there are none.
fn parts<'a, T>(
    all: &'a mut (impl ExactSizeIterator<Item = T> + 'a),
) -> impl Iterator<Item = std::vec::IntoIter<T>> + 'a {
    let mut first = true;
    std::iter::from_fn(move || {
        let next = mem::take(&mut first) || all.len() > 0;
        next.then(|| all.by_ref().take(RECORDS).collect::<Vec<T>>().into_iter())
    })
}

/// Bytes on their way.
struct Pieces<'a, E> {
    bytes: Vec<u8>,
    take: &'a mut dyn FnMut(&[u8]) -> Result<(), E>,
}

impl<E> Pieces<'_, E> {
    /// Adds some fields of the message.
    fn add(&mut self, fields: &StateSnapshot) -> Result<(), E> {
        fields.encode(&mut self.bytes).expect("a vector has room");
        if self.bytes.len() < PIECE_BYTES {
            return Ok(());
        }
        self.give()
    }

    fn finish(mut self) -> Result<(), E> {
        if self.bytes.is_empty() { Ok(()) } else { self.give() }
    }

    fn give(&mut self) -> Result<(), E> {
        (self.take)(&self.bytes)?;
        self.bytes.clear();
        Ok(())
    }
}
