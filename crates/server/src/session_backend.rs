//! This node, as its sessions see it: the seam of [`crate::sessions`] on the real replica. It decides nothing.

use async_trait::async_trait;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use palisade_coord_core::{Command, Outcome, State};
use palisade_replica::{Leadership, ReplicaStatus};
use palisade_wire::coord::v1::ErrorDetail;
use tokio_stream::wrappers::WatchStream;
use tonic::Status;

use crate::api::Api;
use crate::hub::Subscription;
use crate::refusals;
use crate::sessions::{SessionBackend, StoreView};

#[async_trait]
impl SessionBackend for Api {
    type Leadership = Leadership;

    fn views(&self) -> BoxStream<'static, StoreView<Leadership>> {
        WatchStream::new(self.replica.status()).map(|status| view(&status)).boxed()
    }

    async fn confirm(&self) -> Option<Leadership> {
        self.replica.confirm_leadership().await.ok()
    }

    async fn submit(&self, command: Command) -> Result<Outcome, ErrorDetail> {
        self.proposer.submit(command).await.map_err(refusals::of_submit)
    }

    async fn submit_as(&self, leadership: Leadership, command: Command) -> Result<Outcome, ErrorDetail> {
        self.proposer.submit_as(leadership, command).await.map_err(refusals::of_submit)
    }

    async fn barrier(&self) -> Result<(), Status> {
        Api::barrier(self).await
    }

    fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        self.machine.read(look)
    }

    fn subscribe(&self) -> Subscription {
        self.machine.hub().subscribe()
    }
}

fn view(status: &ReplicaStatus) -> StoreView<Leadership> {
    StoreView { mine: status.leadership, store_leader: status.store_leader.as_ref().map(refusals::store_leader) }
}
