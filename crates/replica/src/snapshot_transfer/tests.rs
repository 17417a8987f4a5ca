//! Transfers between two simulated disks: pieces make the whole, breaks cost what is missing only, damage is refused.

use std::sync::Arc;

use futures_util::StreamExt;
use palisade_storage::{SimDisk, SimSnapshots, SnapshotStore};
use palisade_world::World;

use super::*;
use crate::types::LeaderId;

const PIECE: usize = SNAPSHOT_PIECE_BYTES;

fn snapshots(disk: &SimDisk) -> Snapshots {
    Snapshots::open(Arc::new(SimSnapshots::open(disk).unwrap()), World::real()).unwrap()
}

fn meta(index: u64) -> SnapshotMeta {
    let last_log_id = Some(LogId::new(LeaderId { term: 1, node_id: 1 }, index));
    SnapshotMeta { last_log_id, ..SnapshotMeta::default() }
}

fn saved(index: u64, data: &[u8]) -> Saved {
    let head = codec::to_disk(&codec::snapshot_meta(&meta(index)));
    SimSnapshots::open(&SimDisk::new()).unwrap().save(&head, data).unwrap()
}

fn head(index: u64, saved: &Saved, from: u64) -> SnapshotHead {
    let meta = Some(codec::snapshot_meta(&meta(index)));
    SnapshotHead { meta, bytes: saved.bytes(), crc32: saved.checksum(), from, ..SnapshotHead::default() }
}

fn data(seed: usize, length: usize) -> Vec<u8> {
    (0..length).map(|at| ((at + seed) * 31 % 251) as u8).collect()
}

async fn all(head: SnapshotHead, saved: &Saved) -> Vec<SnapshotChunk> {
    let sent = Sent::default();
    let chunks: Vec<_> = chunks(head, saved.clone(), snapshots(&SimDisk::new()), sent.clone()).collect().await;
    assert_eq!(sent.pieces(), chunks.len() as u64);
    chunks
}

struct Receiver {
    arriving: Arriving,
    snapshots: Snapshots,
}

impl Receiver {
    fn new() -> Receiver {
        Receiver { arriving: Arriving::default(), snapshots: snapshots(&SimDisk::new()) }
    }

    /// Takes pieces, and the whole if it is there then.
    async fn receive(&self, head: &SnapshotHead, chunks: Vec<SnapshotChunk>) -> Result<Vec<u8>, Status> {
        let incoming = self.arriving.begin(head, &self.snapshots).await?;
        for chunk in chunks {
            incoming.add(chunk).await?;
        }
        let saved = incoming.finish()?.save().unwrap();
        Ok(saved.whole().unwrap().to_vec())
    }
}

#[tokio::test]
async fn pieces_make_the_whole() {
    for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 7] {
        let data = data(0, length);
        let saved = saved(1, &data);
        let head = head(1, &saved, 0);
        let chunks = all(head.clone(), &saved).await;
        assert!(chunks.iter().enumerate().all(|(number, chunk)| chunk.head.is_some() == (number == 0)));
        assert_eq!(Receiver::new().receive(&head, chunks).await.unwrap(), data);
    }
}

#[tokio::test]
async fn a_transfer_that_broke_goes_on_where_it_was() {
    let data = data(0, 5 * PIECE + 3);
    let saved = saved(1, &data);
    let receiver = Receiver::new();
    let first = head(1, &saved, 0);
    let mut chunks = all(first.clone(), &saved).await;
    chunks.truncate(3);
    let short = receiver.receive(&first, chunks).await.unwrap_err();
    assert!(short.message().contains("ended after 786432 of"), "{short}");

    // Another snapshot knows nothing of it, and does not go on from there.
    let have = receiver.arriving.have(&head(1, &saved, 0)).unwrap();
    assert_eq!(have, 3 * PIECE as u64);
    assert_eq!(receiver.arriving.have(&head(2, &saved, 0)).unwrap(), 0);

    let rest = head(1, &saved, have);
    let chunks = all(rest.clone(), &saved).await;
    assert_eq!(chunks.len(), 3);
    assert_eq!(receiver.receive(&rest, chunks).await.unwrap(), data);
}

#[tokio::test]
async fn a_later_transfer_takes_over_from_one_that_hangs() {
    let data = data(0, 3 * PIECE);
    let saved = saved(1, &data);
    let receiver = Receiver::new();
    let first = head(1, &saved, 0);
    let mut chunks = all(first.clone(), &saved).await.into_iter();
    let hangs = receiver.arriving.begin(&first, &receiver.snapshots).await.unwrap();
    hangs.add(chunks.next().unwrap()).await.unwrap();

    let rest = head(1, &saved, receiver.arriving.have(&first).unwrap());
    assert_eq!(rest.from, PIECE as u64);
    let again = all(rest.clone(), &saved).await;
    let later = receiver.arriving.begin(&rest, &receiver.snapshots).await.unwrap();
    assert!(hangs.add(chunks.next().unwrap()).await.is_err(), "it is over");
    for chunk in again {
        later.add(chunk).await.unwrap();
    }
    assert_eq!(later.finish().unwrap().save().unwrap().whole().unwrap(), data);
}

#[tokio::test]
async fn halves_of_two_snapshots_make_none() {
    let (one, two) = (saved(1, &data(0, 2 * PIECE)), saved(1, &data(1, 2 * PIECE)));
    let receiver = Receiver::new();
    let head_of_one = head(1, &one, 0);
    let mut halves = all(head_of_one.clone(), &one).await;
    halves[1] = all(head(1, &two, 0), &two).await.remove(1);
    let error = receiver.receive(&head_of_one, halves).await.unwrap_err();
    assert!(error.message().contains("not of one whole"), "{error}");
    assert_eq!(receiver.arriving.have(&head_of_one).unwrap(), 0, "it begins anew");
    // What is not there cannot be gone on from.
    assert!(receiver.receive(&head(1, &one, PIECE as u64), Vec::new()).await.is_err());
}

async fn damage_is_refused() {
    let saved = saved(1, &data(0, 2 * PIECE));
    let head = head(1, &saved, 0);
    let mut damaged = all(head.clone(), &saved).await;
    let mut bytes = damaged[0].data.to_vec();
    bytes[100] ^= 1;
    damaged[0].data = bytes.into();
    let outcome = Receiver::new().receive(&head, damaged).await.map(drop);
    assert!(outcome.is_err_and(|why| why.message().contains("piece at byte 0 is damaged")), "damage was taken");
}

#[tokio::test]
async fn damage_loss_and_excess_are_refused() {
    damage_is_refused().await;
    let saved = saved(1, &data(0, 2 * PIECE));
    let head = head(1, &saved, 0);
    let chunks = all(head.clone(), &saved).await;

    let long: Vec<_> = chunks.iter().chain(&chunks[1..]).cloned().collect();
    assert!(Receiver::new().receive(&head, long).await.unwrap_err().message().contains("no piece"));
    let mut odd = chunks.clone();
    odd[0].data = odd[0].data.slice(1..);
    odd[0].crc32 = crc32fast::hash(&odd[0].data);
    assert!(Receiver::new().receive(&head, odd).await.unwrap_err().message().contains("no piece"));
    let too_large = SnapshotHead { bytes: MAX_SNAPSHOT_BYTES + 1, ..head };
    assert!(Receiver::new().receive(&too_large, Vec::new()).await.is_err());
}

#[cfg(feature = "planted")]
#[test]
fn the_planted_bug_that_takes_damaged_pieces_is_caught() {
    let run = || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(damage_is_refused());
    };
    let why = palisade_planted::caught(Bug::SnapshotChunkUnchecked, run);
    assert_eq!(why.as_deref(), Some("damage was taken"));
}
