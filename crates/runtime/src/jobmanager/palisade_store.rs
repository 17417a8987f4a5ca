//! The coordination store through the client crate.
//!
//! The client numbers each write and repeats it under its request id by itself until the outcome is known; its request timeout
//! is longer than any leadership, so "unknown" comes back only when the session has ended and nothing can be found out.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use palisade_client::{Client, DeleteOptions, Error, ErrorKind, Outcome, PutOptions, Session};
use palisade_fence::Fence;
use palisade_world::World;

use crate::ha::{GetError, HaStore, PutError, RequestKey};

/// Reads are repeated by whoever wants them; one must not hang on a node that is gone.
const READ: Duration = Duration::from_secs(5);

/// One leadership's view of the store.
pub(super) struct PalisadeStore {
    client: Client,
    session: Session,
    world: World,
    requests: AtomicU64,
}

impl PalisadeStore {
    pub(super) fn new(client: Client, session: Session, world: World) -> PalisadeStore {
        PalisadeStore { client, session, world, requests: AtomicU64::new(1) }
    }
}

#[async_trait]
impl HaStore for PalisadeStore {
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, GetError> {
        match self.world.timeout(READ, self.client.get(key.as_bytes().to_vec())).await {
            Some(Ok(got)) => Ok(got.kv.map(|kv| kv.value)),
            Some(Err(error)) => Err(GetError(error.to_string())),
            None => Err(GetError(format!("no answer within {READ:?}"))),
        }
    }

    fn begin(&self) -> Result<RequestKey, PutError> {
        Ok(RequestKey(self.requests.fetch_add(1, Ordering::Relaxed)))
    }

    async fn put(&self, _: RequestKey, key: &str, value: Option<&[u8]>, fence: &Fence) -> Result<(), PutError> {
        let (fence, session) = (Some(fence.clone()), Some(&self.session));
        let written = match value {
            Some(value) => {
                self.client.put(PutOptions { fence, session, ..PutOptions::new(key, value) }).await.map(|_| ())
            }
            None => self.client.delete(DeleteOptions { fence, session, ..DeleteOptions::new(key) }).await.map(|_| ()),
        };
        written.map_err(classify)
    }

    fn forget(&self, _: RequestKey) {}
}

fn classify(error: Error) -> PutError {
    match (error.outcome, error.kind) {
        (Outcome::NotApplied, ErrorKind::StaleToken) => PutError::Stale { current: error.current_token },
        (Outcome::NotApplied, ErrorKind::InvalidArgument) => PutError::Refused(error.to_string()),
        (Outcome::NotApplied, ErrorKind::SessionEnded | ErrorKind::ClientClosed | ErrorKind::ElectionNotFound) => {
            PutError::SessionEnded(error.to_string())
        }
        (Outcome::NotApplied, _) => PutError::NotApplied(error.to_string()),
        // The client has given up repeating it, and a new request would be another write.
        (Outcome::Unknown, _) => PutError::SessionEnded(error.to_string()),
    }
}
