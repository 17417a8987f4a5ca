//! Gateways to TaskExecutors under one leadership, connected when first needed. Every message carries this leader's token.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use palisade_fence::{ClusterId, Fence};
use palisade_rpc::{RpcAddress, RpcService, Stamp};

use crate::proto::TaskExecutorGateway;

/// The gateways. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Workers {
    service: RpcService,
    cluster: ClusterId,
    fence: Fence,
    known: Arc<Mutex<BTreeMap<String, TaskExecutorGateway>>>,
}

impl Workers {
    pub(crate) fn new(service: RpcService, cluster: ClusterId, fence: Fence) -> Workers {
        Workers { service, cluster, fence, known: Arc::default() }
    }

    /// The gateway at an address.
    pub(crate) async fn at(&self, address: &str) -> Result<TaskExecutorGateway, String> {
        if let Some(known) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(address) {
            return Ok(known.clone());
        }
        let parsed: RpcAddress = address.parse().map_err(|error| format!("{error}"))?;
        let stamp = Stamp::fixed(self.cluster, self.fence.election.clone(), self.fence.token);
        let gateway: TaskExecutorGateway =
            self.service.connect(&parsed, stamp).await.map_err(|error| error.to_string())?;
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(address.to_owned(), gateway.clone());
        Ok(gateway)
    }

    /// Forgets a gateway whose TaskExecutor is gone.
    pub(crate) fn forget(&self, address: &str) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(address);
    }
}
