//! openraft's view of the machine and its snapshots.
//!
//! Keeps true: entries reach the machine one at a time and in order; what [`Applied`] shows, the machine has applied; a
//! snapshot is durable before openraft hears of it (it purges the log below). A machine that panics ends replication: a
//! skipped entry would make nodes differ.

use std::fmt::Debug;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use futures_util::{Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use tokio::sync::watch;

use crate::log_store::io_error;
use crate::snapshots::{SnapshotData, Snapshots};
use crate::types::{Answer, EntryPayload, LogId, Payload, Snapshot, SnapshotMeta, StoredMembership, Types};
use crate::watcher::members;
use crate::{Frozen, Machine};

/// The last entry that the machine has applied; `None` before the first.
pub(crate) type Applied = Option<LogId>;

/// A machine with the snapshots of it.
pub(crate) struct MachineStore<M: Machine> {
    machine: Arc<M>,
    snapshots: Snapshots,
    last_membership: StoredMembership,
    /// Written here only, after the machine has applied.
    applied: watch::Sender<Applied>,
}

impl<M: Machine> MachineStore<M> {
    /// Puts an empty machine before its snapshots. openraft restores the latest one and applies the log from there.
    pub(crate) fn new(machine: Arc<M>, snapshots: Snapshots) -> MachineStore<M> {
        let last_membership = StoredMembership::default();
        MachineStore { machine, snapshots, last_membership, applied: watch::Sender::new(None) }
    }

    /// What the machine has applied.
    pub(crate) fn applied(&self) -> watch::Receiver<Applied> {
        self.applied.subscribe()
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
pub(crate) fn guarded<T>(step: impl FnOnce() -> T) -> io::Result<T> {
    catch_unwind(AssertUnwindSafe(step)).map_err(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        io::Error::other(format!("the state machine panicked: {}", text.unwrap_or_else(|| "(no message)".to_owned())))
    })
}

impl<M: Machine> RaftStateMachine<Types<M::Reply>> for MachineStore<M> {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Builder<M::Frozen>;

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

    /// Freezes the state here, between two entries: it is written beside the entries that follow.
    async fn get_snapshot_builder(&mut self) -> Builder<M::Frozen> {
        let meta = SnapshotMeta { last_log_id: *self.applied.borrow(), last_membership: self.last_membership.clone() };
        let (frozen, took) = self.snapshots.timed(|| guarded(|| self.machine.freeze()));
        tracing::info!(?took, "the state was frozen for a snapshot");
        Builder { meta, frozen: Some(frozen), snapshots: self.snapshots.clone() }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, data: SnapshotData) -> io::Result<()> {
        let snapshot = self.snapshots.install(meta, data).await?;
        let machine = Arc::clone(&self.machine);
        let restored = self.snapshots.blocking("restoring a snapshot", move || {
            let mut pieces = snapshot.pieces().map(|piece| piece.map_err(io_error));
            guarded(|| machine.restore(&mut pieces))?.map_err(io::Error::other)
        });
        restored.await?;
        self.last_membership = meta.last_membership.clone();
        self.tell_members();
        self.applied.send_replace(meta.last_log_id);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        self.snapshots.latest().await
    }
}

/// A state that was frozen and is not written yet.
pub(crate) struct Builder<F: Frozen> {
    meta: SnapshotMeta,
    /// Taken by the one build.
    frozen: Option<io::Result<F>>,
    snapshots: Snapshots,
}

impl<F: Frozen, R: Send + Sync + Debug + 'static> RaftSnapshotBuilder<Types<R>> for Builder<F> {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let frozen = self.frozen.take().ok_or_else(|| io::Error::other("a snapshot is built once"))??;
        self.snapshots.build(&self.meta, frozen).await
    }
}
