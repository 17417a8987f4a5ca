//! What makes an endpoint a leader's: its leadership, fixed for the endpoint's life. A new leadership is a new endpoint.

use std::sync::Arc;

use palisade_fence::{ClusterId, LeaderSource, Token};

/// One leadership, given to [`crate::EndpointBuilder::leads`].
#[derive(Clone)]
pub struct LeaderSeat {
    /// The cluster that granted it.
    pub cluster: ClusterId,
    /// Name of the election.
    pub election: String,
    /// The leadership's token.
    pub token: Token,
    /// Where to learn that it was replaced: by the observe stream, or by a read when a message with a higher token arrives.
    /// `None`: only what the owner tells it through [`crate::EndpointHandle::close_fence`].
    pub source: Option<Arc<dyn LeaderSource>>,
}
