//! What the sessions need of the node: a seam, so that the driver can be tested without Raft. It decides nothing.

use std::fmt::Debug;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use palisade_coord_core::{Command, Outcome, State};
use palisade_wire::coord::v1::{ErrorDetail, StoreLeader};

use tonic::Status;

use crate::hub::Subscription;

/// Who leads the store, as this node sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct StoreView<L> {
    /// Set while this node leads and has applied its own first entry.
    pub(crate) mine: Option<L>,
    /// The node to ask, if it is known.
    pub(crate) store_leader: Option<StoreLeader>,
}

/// The node, as its sessions see it.
#[async_trait]
pub(crate) trait SessionBackend: Send + Sync + 'static {
    /// Names one leadership of the store: another term is another leadership.
    type Leadership: Clone + Eq + Debug + Send + Sync + 'static;

    /// The present view, then one at each change; it may skip and repeat. Ends when the node stops.
    fn views(&self) -> BoxStream<'static, StoreView<Self::Leadership>>;

    /// A quorum round that begins after this call: the leadership that it confirmed, or `None`.
    async fn confirm(&self) -> Option<Self::Leadership>;

    /// Has a command applied. It takes its place in the queue when it is first polled. The events of a command have been
    /// published to the hub before its outcome is known. Cancelling it does not take the command back.
    async fn submit(&self, command: Command) -> Result<Outcome, ErrorDetail>;

    /// The same, only if this node still leads under `leadership`; never forwarded.
    async fn submit_as(&self, leadership: Self::Leadership, command: Command) -> Result<Outcome, ErrorDetail>;

    /// After it this node's state has everything that was acknowledged to anybody before the call.
    async fn barrier(&self) -> Result<(), Status>;

    /// Looks at what this node has applied. `look` is short and does not wait.
    fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T;

    /// All events that are applied from now on.
    fn subscribe(&self) -> Subscription;
}
