//! openraft's view of the machine and its snapshots.
//!
//! Keeps true: entries reach the machine one at a time and in order; what [`Applied`] shows, the machine has applied; a
//! snapshot is durable before openraft hears of it (it purges the log below). A machine that panics ends replication: a
//! skipped entry would make nodes differ.

use std::fmt::Debug;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use palisade_storage::SnapshotStore;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::watch;

use crate::codec;
use crate::log_store::io_error;
use crate::types::{Answer, EntryPayload, LogId, Payload, Snapshot, SnapshotMeta, StoredMembership, Types};
use crate::watcher::members;
use crate::{Machine, StartError};

/// The last entry that the machine has applied; `None` before the first.
pub(crate) type Applied = Option<LogId>;

/// A machine with the snapshots of it.
pub(crate) struct MachineStore<M: Machine> {
    machine: Arc<M>,
    snapshots: Arc<dyn SnapshotStore>,
    last_membership: StoredMembership,
    /// Written here only, after the machine has applied.
    applied: watch::Sender<Applied>,
    saved: Saved,
}

/// The last entry under the snapshot that the store holds. Locked for as long as a save takes: a snapshot that was built
/// slowly must not replace a later one that was installed meanwhile, for the log below that one is gone.
type Saved = Arc<Mutex<Option<LogId>>>;

impl<M: Machine> MachineStore<M> {
    /// Puts an empty machine before its snapshots. openraft restores the latest one and applies the log from there.
    pub(crate) fn open(machine: Arc<M>, snapshots: Arc<dyn SnapshotStore>) -> Result<MachineStore<M>, StartError> {
        let store = |error: codec::CodecError| StartError::Store { why: error.to_string() };
        let found = match snapshots.latest()? {
            None => None,
            Some(found) => {
                let meta = codec::from_disk("snapshot head", found.meta).map_err(store)?;
                codec::snapshot_meta_from(meta).map_err(store)?.last_log_id
            }
        };
        let last_membership = StoredMembership::default();
        let saved = Arc::new(Mutex::new(found));
        Ok(MachineStore { machine, snapshots, last_membership, applied: watch::Sender::new(None), saved })
    }

    /// What the machine has applied.
    pub(crate) fn applied(&self) -> watch::Receiver<Applied> {
        self.applied.subscribe()
    }

    /// Whether a snapshot was found.
    pub(crate) fn has_snapshot(&self) -> bool {
        lock(&self.saved).is_some()
    }

    fn tell_members(&self) {
        let index = self.last_membership.log_id().as_ref().map_or(0, |id| id.index);
        self.machine.members(index, &members(&self.last_membership));
    }

    fn apply_one(&mut self, id: LogId, payload: EntryPayload) -> io::Result<Answer<M::Reply>> {
        let answer = match payload {
            EntryPayload::Blank => None,
            EntryPayload::Membership(membership) => {
                self.last_membership = StoredMembership::new(Some(id), membership);
                self.tell_members();
                None
            }
            EntryPayload::Normal(Payload(entry)) => Some(guarded(|| self.machine.apply(id.index, entry))?),
        };
        self.applied.send_replace(Some(id));
        Ok(Answer(answer))
    }
}

/// Runs a step of the machine; a panic becomes an error, which ends replication with words.
fn guarded<T>(step: impl FnOnce() -> T) -> io::Result<T> {
    catch_unwind(AssertUnwindSafe(step)).map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        io::Error::other(format!("the state machine panicked: {}", text.unwrap_or_else(|| "(no message)".to_owned())))
    })
}

/// Runs a step that waits for the disk without holding up the other tasks of this thread. The simulation has one thread,
/// and disks that do not wait.
pub(crate) fn blocking<T>(step: impl FnOnce() -> T) -> T {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::MultiThread => tokio::task::block_in_place(step),
        _ => step(),
    }
}

impl<M: Machine> RaftStateMachine<Types<M::Reply>> for MachineStore<M> {
    type SnapshotData = Bytes;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((*self.applied.borrow(), self.last_membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types<M::Reply>>>> + Unpin + Send,
    {
        while let Some(entry) = entries.next().await {
            let (entry, responder) = entry?;
            let answer = self.apply_one(entry.log_id, entry.payload)?;
            if let Some(responder) = responder {
                responder.send(answer);
            }
        }
        Ok(())
    }

    /// Takes the state here, between two entries: the builder runs beside the entries that follow.
    async fn get_snapshot_builder(&mut self) -> Builder {
        let meta = SnapshotMeta { last_log_id: *self.applied.borrow(), last_membership: self.last_membership.clone() };
        let data = guarded(|| self.machine.snapshot());
        Builder { meta, data: Some(data), snapshots: Arc::clone(&self.snapshots), saved: Arc::clone(&self.saved) }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, data: Bytes) -> io::Result<()> {
        save(&self.snapshots, &self.saved, meta, &data)?;
        guarded(|| self.machine.restore(data))?.map_err(io::Error::other)?;
        self.last_membership = meta.last_membership.clone();
        self.tell_members();
        self.applied.send_replace(meta.last_log_id);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        let Some(found) = blocking(|| self.snapshots.latest()).map_err(io_error)? else { return Ok(None) };
        let meta = codec::snapshot_meta_from(codec::from_disk("snapshot head", found.meta)?)?;
        Ok(Some(Snapshot { meta, snapshot: found.data }))
    }
}

/// Saves a snapshot unless one that covers as much is saved; a restart installs the one that it found.
fn save(snapshots: &Arc<dyn SnapshotStore>, saved: &Saved, meta: &SnapshotMeta, data: &Bytes) -> io::Result<()> {
    blocking(|| {
        let mut saved = lock(saved);
        if saved.is_some() && *saved >= meta.last_log_id {
            return Ok(());
        }
        snapshots.save(&codec::to_disk(&codec::snapshot_meta(meta)), data).map_err(io_error)?;
        *saved = meta.last_log_id;
        Ok(())
    })
}

fn lock(saved: &Saved) -> MutexGuard<'_, Option<LogId>> {
    // A save that panicked has changed nothing here.
    saved.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A state that was taken and is not saved yet.
pub(crate) struct Builder {
    meta: SnapshotMeta,
    /// Taken by the one build.
    data: Option<io::Result<Bytes>>,
    snapshots: Arc<dyn SnapshotStore>,
    saved: Saved,
}

impl<R: Send + Sync + Debug + 'static> RaftSnapshotBuilder<Types<R>> for Builder {
    type SnapshotData = Bytes;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let data = self.data.take().ok_or_else(|| io::Error::other("a snapshot is built once"))??;
        save(&self.snapshots, &self.saved, &self.meta, &data)?;
        Ok(Snapshot { meta: self.meta.clone(), snapshot: data })
    }
}
