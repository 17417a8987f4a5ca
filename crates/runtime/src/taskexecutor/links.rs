//! Gateways of a TaskExecutor to its leaders: each call carries the token of the leader that is meant.

use palisade_fence::{ClusterId, Token};
use palisade_rpc::{RpcAddress, RpcGateway, RpcService, Stamp};

/// Connects to leaders. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Links {
    pub(crate) service: RpcService,
    pub(crate) cluster: ClusterId,
    pub(crate) election: String,
}

impl Links {
    /// A gateway to an endpoint of the leader with that token.
    pub(crate) async fn to<G: RpcGateway>(&self, address: &str, token: Token) -> Result<G, String> {
        let address: RpcAddress = address.parse().map_err(|error| format!("{error}"))?;
        let stamp = Stamp::fixed(self.cluster, self.election.clone(), token);
        self.service.connect(&address, stamp).await.map_err(|error| error.to_string())
    }
}
