//! The receiving end of the data exchange: one gate per count subtask of an attempt, one bounded queue per source.
//!
//! A channel can be opened once. What comes for an attempt that has no gate here is refused, so records of an old attempt
//! never meet those of a new one. Nothing here decides which attempt is the right one: gates are opened and closed with tasks.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use palisade_fence::Token;
use palisade_planted::{self as planted, Bug};
use tokio::sync::{Notify, mpsc};

use crate::dataflow::align::{Aligner, CheckpointId};
use crate::job::JobId;
use crate::jobmaster::task::AttemptId;

/// Messages that may be under way on one channel. 16 batches of 32 KiB hide the round trip on a fast network and bound the
/// memory of a job of parallelism *p* to *p* × *p* × 512 KiB in the whole cluster.
pub(crate) const CREDITS: u32 = 16;

/// What travels on a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ChannelItem {
    Records(Bytes),
    Barrier(CheckpointId),
    End,
}

/// Gives a sender its credits back as items are taken.
#[derive(Debug, Default)]
pub(crate) struct CreditReturn {
    free: AtomicU32,
    freed: Notify,
}

impl CreditReturn {
    fn give(&self) {
        self.free.fetch_add(1, Ordering::AcqRel);
        self.freed.notify_one();
    }

    /// Waits until there are credits to return, and takes them. Cancelling it loses none.
    pub(crate) async fn take(&self) -> u32 {
        loop {
            let freed = self.freed.notified();
            match self.free.swap(0, Ordering::AcqRel) {
                0 => freed.await,
                credits => return credits,
            }
        }
    }
}

/// The sending end of a channel's queue.
#[derive(Debug)]
pub(crate) struct ChannelEntry {
    pub(crate) items: mpsc::Sender<ChannelItem>,
    pub(crate) credits: Arc<CreditReturn>,
}

/// Names a gate.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct GateId {
    pub(crate) job: JobId,
    pub(crate) attempt: AttemptId,
    pub(crate) count: u32,
}

/// Why a channel was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpenRefused {
    /// A newer leader has been accepted here.
    Stale { current: Token },
    /// This attempt of the task does not run here.
    NoSuchTask,
    /// Somebody has opened it before.
    OpenedTwice,
}

/// All gates of a TaskExecutor. Cheap to clone; locked for short synchronous steps only.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gates {
    open: Arc<Mutex<BTreeMap<GateId, Vec<Option<ChannelEntry>>>>>,
    /// The newest leader's token that was accepted by this process; 0 before the first.
    newest: Arc<AtomicU64>,
}

impl Gates {
    /// A newer leader has been accepted: from now on channels of older ones are refused as stale.
    pub(crate) fn raise(&self, token: Token) {
        self.newest.fetch_max(token.get(), Ordering::AcqRel);
    }

    /// Opens the gate of a count subtask for as long as the returned gate lives.
    pub(crate) fn add(&self, id: GateId, sources: u32) -> InputGate {
        let mut entries = Vec::new();
        let mut channels = Vec::new();
        for _ in 0..sources {
            let (sender, receiver) = mpsc::channel(usize::try_from(CREDITS).expect("bounded"));
            let credits = Arc::new(CreditReturn::default());
            entries.push(Some(ChannelEntry { items: sender, credits: credits.clone() }));
            channels.push(Channel { items: receiver, credits });
        }
        self.lock().insert(id.clone(), entries);
        InputGate { gates: self.clone(), id, channels, next: 0 }
    }

    /// Takes the sending end of one channel.
    pub(crate) fn open(&self, id: &GateId, source: u32) -> Result<ChannelEntry, OpenRefused> {
        if planted::is(Bug::OldAttemptAccepted)
            && let Some(newer) = self.of_newer_attempt(id)
        {
            return self.take(&newer, source);
        }
        let newest = self.newest.load(Ordering::Acquire);
        if id.attempt.token.get() < newest {
            let current = Token::from_wire(newest).ok_or(OpenRefused::NoSuchTask)?;
            return Err(OpenRefused::Stale { current });
        }
        self.take(id, source)
    }

    fn take(&self, id: &GateId, source: u32) -> Result<ChannelEntry, OpenRefused> {
        let mut open = self.lock();
        let entries = open.get_mut(id).ok_or(OpenRefused::NoSuchTask)?;
        let index = usize::try_from(source).expect("a u32 fits in a usize");
        entries.get_mut(index).ok_or(OpenRefused::NoSuchTask)?.take().ok_or(OpenRefused::OpenedTwice)
    }

    /// The gate of the same subtask in a newer attempt. Only a planted bug asks.
    fn of_newer_attempt(&self, id: &GateId) -> Option<GateId> {
        let open = self.lock();
        let same = |gate: &&GateId| (&gate.job, gate.count) == (&id.job, id.count) && gate.attempt > id.attempt;
        open.keys().find(same).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<GateId, Vec<Option<ChannelEntry>>>> {
        // A panic elsewhere leaves the map whole: each step under the lock is one call.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
struct Channel {
    items: mpsc::Receiver<ChannelItem>,
    credits: Arc<CreditReturn>,
}

/// The receiving ends of all channels of one count subtask. Dropping it closes the gate; senders then fail.
#[derive(Debug)]
pub(crate) struct InputGate {
    gates: Gates,
    id: GateId,
    channels: Vec<Channel>,
    /// Where the next look begins, so that no channel starves.
    next: usize,
}

impl InputGate {
    /// The next item of any channel that the aligner lets through, with its channel; `None` as the item when the channel
    /// broke. Cancelling it loses nothing.
    pub(crate) async fn next(&mut self, aligner: &Aligner) -> (usize, Option<ChannelItem>) {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(aligner, cx)).await
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        aligner: &Aligner,
        cx: &mut Context<'_>,
    ) -> Poll<(usize, Option<ChannelItem>)> {
        let count = self.channels.len();
        for step in 0..count {
            let at = (self.next + step) % count;
            if !aligner.is_readable(at) {
                continue;
            }
            let channel = &mut self.channels[at];
            if let Poll::Ready(item) = channel.items.poll_recv(cx) {
                channel.credits.give();
                self.next = (at + 1) % count;
                return Poll::Ready((at, item));
            }
        }
        Poll::Pending
    }
}

impl Drop for InputGate {
    fn drop(&mut self) {
        self.gates.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(token: u32, number: u64) -> GateId {
        let attempt = AttemptId { token: Token::new(0, token), number };
        GateId { job: "j".parse().unwrap(), attempt, count: 0 }
    }

    #[test]
    fn a_channel_of_an_old_attempt_is_refused() {
        let gates = Gates::default();
        let gate = gates.add(id(5, 1), 1);
        assert_eq!(gates.open(&id(5, 0), 0).unwrap_err(), OpenRefused::NoSuchTask);
        assert_eq!(gates.open(&id(5, 2), 0).unwrap_err(), OpenRefused::NoSuchTask);
        assert_eq!(gates.open(&id(5, 1), 1).unwrap_err(), OpenRefused::NoSuchTask);
        assert!(gates.open(&id(5, 1), 0).is_ok());
        assert_eq!(gates.open(&id(5, 1), 0).unwrap_err(), OpenRefused::OpenedTwice);
        gates.raise(Token::new(0, 6));
        assert_eq!(gates.open(&id(5, 1), 0).unwrap_err(), OpenRefused::Stale { current: Token::new(0, 6) });
        drop(gate);
        assert_eq!(gates.open(&id(6, 1), 0).unwrap_err(), OpenRefused::NoSuchTask);
    }

    #[tokio::test]
    async fn a_blocked_channel_is_not_read_and_credits_come_back_one_by_one() {
        let gates = Gates::default();
        let mut gate = gates.add(id(1, 1), 2);
        let (a, b) = (gates.open(&id(1, 1), 0).unwrap(), gates.open(&id(1, 1), 1).unwrap());
        let mut aligner = Aligner::new(2);
        a.items.send(ChannelItem::Barrier(CheckpointId(1))).await.unwrap();
        a.items.send(ChannelItem::End).await.unwrap();
        let (at, item) = gate.next(&aligner).await;
        assert_eq!((at, item), (0, Some(ChannelItem::Barrier(CheckpointId(1)))));
        let _ = aligner.on_barrier(0, CheckpointId(1));
        b.items.send(ChannelItem::Records(Bytes::from_static(b"x"))).await.unwrap();
        assert_eq!(gate.next(&aligner).await.0, 1, "the end on the blocked channel waits");
        assert_eq!((a.credits.take().await, b.credits.take().await), (1, 1));
        drop(b);
        assert_eq!(gate.next(&aligner).await, (1, None), "a broken channel is noticed");
    }

    #[cfg(feature = "planted")]
    #[test]
    fn the_planted_bug_that_accepts_an_old_attempt_is_caught() {
        let why = palisade_planted::caught(Bug::OldAttemptAccepted, a_channel_of_an_old_attempt_is_refused);
        assert!(why.is_some());
    }
}
