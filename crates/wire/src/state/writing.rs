//! A snapshot, written piece by piece. The pieces are a few large fields or many small ones of one message: behind each other
//! they are that message. What may be large (the past of a key, the line of an election, the past of an election) comes in
//! several records, the later of which continue the first.

use std::mem;
use std::task::{Context, Poll, Waker};

use palisade_coord_core::keys::Version;
use palisade_coord_core::{Election, Frozen, level};
use prost::Message;

use super::{LEVELLED, VERSION, keys, past, to_election, to_session, to_waiting};
use crate::coord::v1::{ElectionRecord, HistoryRecord, KeySpace, StateSnapshot, ToldRecord, key_space};

/// A piece is given away when it has so many bytes. One record is larger at most: with the largest value, about a megabyte.
const PIECE_BYTES: usize = 64 << 10;

/// Small things in one record: with names as they are, some ten kilobytes.
const RECORDS: usize = 64;

/// Takes the pieces of a snapshot.
pub trait Take {
    /// Why it takes no more.
    type Error: Send;

    /// The next piece. Nothing is made of the state before it is taken.
    fn take(&mut self, piece: &[u8]) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// Gives the snapshot of a state away in pieces, in order; none is empty, and no two of them are needed at a time. The same state
/// gives the same bytes on every replica.
///
/// # Errors
/// What `take` says; nothing is given away after that.
pub fn write<E: Send>(state: &Frozen, take: &mut dyn FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
    struct AtOnce<'a, E>(&'a mut dyn FnMut(&[u8]) -> Result<(), E>);
    impl<E: Send> Take for AtOnce<'_, E> {
        type Error = E;

        fn take(&mut self, piece: &[u8]) -> impl Future<Output = Result<(), E>> + Send {
            std::future::ready((self.0)(piece))
        }
    }
    let mut at_once = AtOnce(take);
    let written = std::pin::pin!(write_to(state, &mut at_once));
    match written.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(written) => written,
        Poll::Pending => unreachable!("whoever takes at once lets nobody wait"),
    }
}

/// The same, to one who lets it wait: what waits is a task, and holds no thread meanwhile.
///
/// # Errors
/// What `to` says; nothing is given away after that.
pub async fn write_to<T: Take>(state: &Frozen, to: &mut T) -> Result<(), T::Error> {
    // A state of the first level is the bytes that a program without levels writes of it.
    let (version, level) = if state.level > level::FIRST { (LEVELLED, state.level) } else { (VERSION, 0) };
    let mut pieces = Pieces { bytes: vec![version], to };
    let head = StateSnapshot {
        cluster_id: state.cluster.map(|cluster| cluster.0),
        generation: state.generation,
        seq: state.seq.get(),
        revision: state.revision.get(),
        last_token: state.last_token.get(),
        last_session: state.last_session.get(),
        level,
        ..StateSnapshot::default()
    };
    pieces.add(&head).await?;
    for (&id, session) in state.sessions.iter() {
        let sessions = vec![to_session(id, session)];
        pieces.add(&StateSnapshot { sessions, ..StateSnapshot::default() }).await?;
    }
    for (name, election) in state.elections.iter() {
        write_election(&mut pieces, name, election).await?;
    }
    write_keys(&mut pieces, state).await?;
    for (election, page) in state.history.iter() {
        for part in parts(&mut page.records.iter()) {
            let record = HistoryRecord {
                election: election.to_string(),
                complete_after_seq: page.complete_after.get(),
                reigns: part.map(|(until, reign)| past::to_reign(*until, reign)).collect(),
            };
            pieces.add(&StateSnapshot { history: vec![record], ..StateSnapshot::default() }).await?;
        }
    }
    for (election, page) in state.told.iter() {
        for part in parts(&mut page.records.iter()) {
            let record = ToldRecord {
                election: election.to_string(),
                complete_after_seq: page.complete_after.get(),
                events: part.map(|(seq, told)| past::to_event(*seq, told)).collect(),
            };
            pieces.add(&StateSnapshot { told: vec![record], ..StateSnapshot::default() }).await?;
        }
    }
    pieces.finish().await
}

async fn write_election<T: Take>(pieces: &mut Pieces<'_, T>, name: &str, election: &Election) -> Result<(), T::Error> {
    let mut waiting = election.queue.iter();
    let mut record = to_election(name, election);
    loop {
        record.waiting = waiting.by_ref().take(RECORDS).map(to_waiting).collect();
        let more = waiting.len() > 0;
        pieces.add(&StateSnapshot { elections: vec![record], ..StateSnapshot::default() }).await?;
        if !more {
            return Ok(());
        }
        record = ElectionRecord { election: name.to_owned(), ..ElectionRecord::default() };
    }
}

async fn write_keys<T: Take>(pieces: &mut Pieces<'_, T>, state: &Frozen) -> Result<(), T::Error> {
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
                let keys = Some(mem::take(&mut space));
                pieces.add(&StateSnapshot { keys, ..StateSnapshot::default() }).await?;
                bytes = 0;
            }
        }
    }
    pieces.add(&StateSnapshot { keys: Some(space), ..StateSnapshot::default() }).await
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
struct Pieces<'a, T> {
    bytes: Vec<u8>,
    to: &'a mut T,
}

impl<T: Take> Pieces<'_, T> {
    /// Adds some fields of the message.
    async fn add(&mut self, fields: &StateSnapshot) -> Result<(), T::Error> {
        fields.encode(&mut self.bytes).expect("a vector has room");
        if self.bytes.len() < PIECE_BYTES {
            return Ok(());
        }
        self.give().await
    }

    async fn finish(mut self) -> Result<(), T::Error> {
        if self.bytes.is_empty() { Ok(()) } else { self.give().await }
    }

    async fn give(&mut self) -> Result<(), T::Error> {
        self.to.take(&self.bytes).await?;
        self.bytes.clear();
        Ok(())
    }
}
