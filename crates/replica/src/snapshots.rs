//! Snapshots between openraft, the machine and the disk: written beside the entries that go on being applied, piece by piece, on
//! threads that may block.
//!
//! Keeps true: a snapshot is durable before openraft hears of it (it purges the log below); one that was written slowly never
//! takes the place of a later one. A disk without space ends nothing here: a snapshot that does not fit waits until there is room,
//! and the log is kept for as long.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use palisade_storage::{Snapshot as Saved, SnapshotDraft, SnapshotStore};
use palisade_world::World;

use crate::log_store::io_error;
use crate::room::RoomNow;
use crate::state_machine::guarded;
use crate::types::{LogId, Snapshot, SnapshotMeta};
use crate::{Frozen, Restored, Room, StartError, codec};

/// How long a snapshot that does not fit waits before it is tried again.
const UNTIL_THERE_IS_ROOM: Duration = Duration::from_secs(1);

/// The head under which a folder keeps the state of a backup until its cluster is formed. Of `restored`, length and checksum are
/// those of what is saved under it.
pub fn restored_head(restored: &Restored) -> bytes::Bytes {
    codec::restored_head(restored)
}

/// What openraft hands around.
pub(crate) enum SnapshotData {
    /// It lies on the disk.
    Saved(Saved),
    /// It came from another node: all of it is there and checked, and counts for nothing yet.
    Received(Mutex<Option<Box<dyn SnapshotDraft>>>),
}

impl SnapshotData {
    pub(crate) fn received(draft: Box<dyn SnapshotDraft>) -> SnapshotData {
        SnapshotData::Received(Mutex::new(Some(draft)))
    }
}

/// The snapshots of a node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Snapshots {
    store: Arc<dyn SnapshotStore>,
    /// The last entry under the snapshot that the store holds. Locked while one takes its place: a snapshot that was written
    /// slowly must not replace a later one that was installed meanwhile, for the log below that one is gone.
    covered: Arc<Mutex<Option<LogId>>>,
    /// The state of a backup, for which no cluster has been formed yet. Raft knows nothing of it. Gone with the first snapshot.
    restored: Arc<Mutex<Option<(Restored, Saved)>>>,
    stopping: Arc<AtomicBool>,
    room: RoomNow,
    world: World,
}

impl Snapshots {
    pub(crate) fn open(store: Arc<dyn SnapshotStore>, world: World) -> Result<Snapshots, StartError> {
        let unreadable = |error: codec::CodecError| StartError::Store { why: error.to_string() };
        let (mut covered, mut restored) = (None, None);
        if let Some(found) = store.latest()? {
            let meta = codec::head_from_disk(found.meta.clone()).map_err(unreadable)?;
            let (bytes, crc32) = (found.bytes(), found.checksum());
            restored = meta.restored.map(|it| (Restored { bytes, crc32, ..codec::restored_from(it) }, found));
            covered = codec::snapshot_meta_from(meta).map_err(unreadable)?.last_log_id;
        }
        Ok(Snapshots {
            store,
            covered: Arc::new(Mutex::new(covered)),
            restored: Arc::new(Mutex::new(restored)),
            stopping: Arc::default(),
            room: RoomNow::default(),
            world,
        })
    }

    /// Whether the disk has room.
    pub(crate) fn room(&self) -> &RoomNow {
        &self.room
    }

    /// A step whose time is of interest.
    pub(crate) fn timed<T>(&self, step: impl FnOnce() -> T) -> (T, Duration) {
        let began = self.world.now();
        let done = step();
        (done, self.world.now().saturating_sub(began))
    }

    /// Whether there is one.
    pub(crate) fn any(&self) -> bool {
        lock(&self.covered).is_some()
    }

    /// The state of a backup that waits for its cluster.
    pub(crate) fn restored(&self) -> Option<(Restored, Saved)> {
        lock(&self.restored).clone()
    }

    /// Ends what is being written: the node stops.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// Runs a step that waits for the disk, or takes long, where it holds nobody up.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        what: &'static str,
        step: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        match self.world.blocking(what, step).await {
            Ok(outcome) => outcome,
            Err(ended) => Err(io::Error::other(format!("{what}: {ended:?}"))),
        }
    }

    /// The latest one.
    pub(crate) async fn latest(&self) -> io::Result<Option<Snapshot>> {
        let store = Arc::clone(&self.store);
        let Some(found) = self.blocking("opening a snapshot", move || store.latest().map_err(io_error)).await? else {
            return Ok(None);
        };
        let meta = codec::snapshot_meta_from(codec::head_from_disk(found.meta.clone())?)?;
        // What covers no entry is a backup's state: no snapshot of this cluster.
        let covers = meta.last_log_id.is_some();
        Ok(covers.then_some(Snapshot { meta, snapshot: SnapshotData::Saved(found) }))
    }

    /// Begins one that comes from elsewhere.
    pub(crate) async fn begin(&self, meta: &SnapshotMeta) -> io::Result<Box<dyn SnapshotDraft>> {
        self.fits()?;
        let (store, head) = (Arc::clone(&self.store), codec::to_disk(&codec::snapshot_meta(meta)));
        self.blocking("beginning a snapshot", move || store.begin(&head).map_err(io_error)).await
    }

    /// Writes a frozen state, and returns when it is the latest snapshot, or a later one is.
    pub(crate) async fn build<F: Frozen>(&self, meta: &SnapshotMeta, mut frozen: F) -> io::Result<Snapshot> {
        let mut told = false;
        let began = self.world.now();
        loop {
            let (job, job_meta) = (self.clone(), meta.clone());
            // The state goes back and forth: to let go of it takes long, too.
            let written = self.blocking("writing a snapshot", move || match job.write(&job_meta, &frozen) {
                Err(error) if error.kind() == io::ErrorKind::StorageFull => Ok(Err((error, frozen))),
                written => written.map(Ok),
            });
            match written.await? {
                Ok(saved) => {
                    let (bytes, took) = (saved.bytes(), self.world.now().saturating_sub(began));
                    tracing::info!(bytes, ?took, "a snapshot was written");
                    return Ok(Snapshot { meta: meta.clone(), snapshot: SnapshotData::Saved(saved) });
                }
                Err((error, state)) => {
                    if self.stopping.load(Ordering::Acquire) {
                        return Err(error);
                    }
                    if !std::mem::replace(&mut told, true) {
                        tracing::error!(%error, "a snapshot does not fit: the log is kept until it does");
                    }
                    frozen = state;
                    self.world.sleep(UNTIL_THERE_IS_ROOM).await;
                }
            }
        }
    }

    /// A frozen state as a draft that counts for nothing yet.
    pub(crate) async fn draft<F: Frozen>(&self, meta: &SnapshotMeta, frozen: F) -> io::Result<Box<dyn SnapshotDraft>> {
        let (job, meta) = (self.clone(), meta.clone());
        self.blocking("writing a snapshot", move || job.fill(&meta, &frozen)).await
    }

    /// On a thread that may block.
    fn write(&self, meta: &SnapshotMeta, frozen: &impl Frozen) -> io::Result<Saved> {
        let draft = self.fill(meta, frozen)?;
        self.take_place(meta, draft)
    }

    fn fill(&self, meta: &SnapshotMeta, frozen: &impl Frozen) -> io::Result<Box<dyn SnapshotDraft>> {
        self.fits()?;
        let mut draft = self.store.begin(&codec::to_disk(&codec::snapshot_meta(meta))).map_err(io_error)?;
        guarded(|| {
            frozen.write(&mut |piece| match self.stopping.load(Ordering::Acquire) {
                true => Err(io::Error::other("this node ends")),
                false => self.fits().and_then(|()| draft.write(piece).map_err(io_error)),
            })
        })??;
        Ok(draft)
    }

    /// Whether anything may be written now: what little room there is belongs to the log.
    fn fits(&self) -> io::Result<()> {
        match self.room.get() {
            Room::Enough => Ok(()),
            Room::Little | Room::None => Err(io::Error::new(io::ErrorKind::StorageFull, "the disk is full")),
        }
    }

    /// Makes one that is whole the latest, unless one that covers as much is.
    fn take_place(&self, meta: &SnapshotMeta, draft: Box<dyn SnapshotDraft>) -> io::Result<Saved> {
        let mut covered = lock(&self.covered);
        if covered.is_some() && *covered >= meta.last_log_id {
            drop(draft);
            let latest = self.store.latest().map_err(io_error)?;
            return latest.ok_or_else(|| io::Error::other("the latest snapshot is gone"));
        }
        let saved = draft.save().map_err(io_error)?;
        *covered = meta.last_log_id;
        *lock(&self.restored) = None;
        Ok(saved)
    }

    /// Makes one that openraft wants to be installed the latest. A restart installs the one that it found.
    pub(crate) async fn install(&self, meta: &SnapshotMeta, data: SnapshotData) -> io::Result<Saved> {
        let (job, meta) = (self.clone(), meta.clone());
        self.blocking("saving a snapshot", move || match data {
            SnapshotData::Received(draft) => {
                let draft = draft.into_inner().unwrap_or_else(PoisonError::into_inner);
                job.take_place(&meta, draft.ok_or_else(|| io::Error::other("a snapshot is installed once"))?)
            }
            SnapshotData::Saved(saved) => {
                if *lock(&job.covered) < meta.last_log_id {
                    // Of another store; only tests move one so.
                    let mut draft = job.store.begin(&saved.meta).map_err(io_error)?;
                    for piece in saved.pieces() {
                        draft.write(&piece.map_err(io_error)?).map_err(io_error)?;
                    }
                    return job.take_place(&meta, draft);
                }
                Ok(saved)
            }
        })
        .await
    }
}

fn lock<T>(kept: &Mutex<T>) -> MutexGuard<'_, T> {
    // A save that panicked has changed nothing here.
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}
