//! What openraft is told about our types. Generic over the machine's reply only: everything else is the same everywhere.

use std::cmp::Ordering;
use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
use openraft::RaftTypeConfig;
use openraft_rt::deterministic_rng::DeterministicRng;
use openraft_rt_tokio::TokioRuntime;

use crate::snapshots::SnapshotData;
use crate::{Leadership, Peer};

/// tokio, with a random source that is seeded per replica: production and simulation share one type. Its seed is
/// task-local, so whatever may start a task or draw a number runs inside [`crate::seeds::Seeds::scope`].
pub(crate) type Runtime = DeterministicRng<TokioRuntime>;

/// The opaque payload of an entry.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Payload(pub(crate) Bytes);

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A node without its id, which is beside it wherever openraft keeps one.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Node {
    pub(crate) address: String,
    /// 0: it was added and has not joined yet.
    pub(crate) store_id: u64,
    /// The highest id of the cluster when this was written; 0: not said.
    pub(crate) highest_id: u64,
}

impl Node {
    /// With its id.
    pub(crate) fn peer(&self, node_id: u64) -> Peer {
        Peer { node_id, address: self.address.clone(), store_id: self.store_id }
    }
}

/// What applying an entry gave: the machine's reply, or nothing for an entry of Raft's own.
#[derive(Debug)]
pub(crate) struct Answer<R>(pub(crate) Option<R>);

/// openraft's type parameter for a machine that replies with `R`.
pub(crate) struct Types<R>(PhantomData<fn() -> R>);

impl<R: Send + Sync + fmt::Debug + 'static> RaftTypeConfig for Types<R> {
    type D = Payload;
    type R = Answer<R>;
    type NodeId = u64;
    type Node = Node;
    type Term = u64;
    // (term, node): several leaders may follow one another in a term, which ends split votes sooner.
    type LeaderId = LeaderId;
    type Vote = Vote;
    type Payload = EntryPayload;
    type Entry = Entry;
    type AsyncRuntime = Runtime;
    type Responder<T>
        = openraft::impls::ProgressResponder<Self, T>
    where
        T: openraft::OptionalSend + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: openraft::OptionalSend + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

pub(crate) type LeaderId = openraft::impls::leader_id_adv::LeaderId<u64, u64>;
pub(crate) type LogId = openraft::LogId<LeaderId>;
pub(crate) type Vote = openraft::impls::Vote<LeaderId>;
pub(crate) type Membership = openraft::Membership<u64, Node>;
pub(crate) type StoredMembership = openraft::StoredMembership<LeaderId, u64, Node>;
pub(crate) type EntryPayload = openraft::EntryPayload<Payload, u64, Node>;
pub(crate) type Entry = openraft::Entry<LeaderId, EntryPayload>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<LeaderId, u64, Node>;
pub(crate) type Snapshot = openraft::Snapshot<LeaderId, u64, Node, SnapshotData>;

impl From<LeaderId> for Leadership {
    fn from(id: LeaderId) -> Leadership {
        Leadership { term: id.term, node: id.node_id }
    }
}

impl From<Leadership> for LeaderId {
    fn from(leadership: Leadership) -> LeaderId {
        LeaderId { term: leadership.term, node_id: leadership.node }
    }
}

// openraft wants these of its type parameter. There is only one value, so derives (which would bound `R`) are not used.
impl<R> Clone for Types<R> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<R> Copy for Types<R> {}
impl<R> Default for Types<R> {
    fn default() -> Self {
        Types(PhantomData)
    }
}
impl<R> fmt::Debug for Types<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Types")
    }
}
impl<R> PartialEq for Types<R> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
impl<R> Eq for Types<R> {}
impl<R> PartialOrd for Types<R> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<R> Ord for Types<R> {
    fn cmp(&self, _: &Self) -> Ordering {
        Ordering::Equal
    }
}
